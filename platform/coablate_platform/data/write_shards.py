"""Writes shards on Ray Data: one task per shard."""

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from pyarrow import fs

from coablate_platform.data.formats.clip import ClipRef, Reader
from coablate_platform.data.progress import ProgressCallback
from coablate_platform.data.schema import SHARDS
from coablate_platform.data.shard import PrepareOptions, write_shard
from coablate_platform.files import write_atomically
from coablate_platform.study.errors import InputError
from coablate_platform.study.source import Sources, attach


def write_shards(
    reader: Reader,
    refs: list[ClipRef],
    store: Path,
    options: PrepareOptions,
    progress: ProgressCallback,
    cpus: int | None,
) -> None:
    """Write clips into shards, as many at a time as there are processor cores.

    Args:
        reader: the reader of the clips.
        refs: the clips.
        store: the folder of the store.
        options, progress, cpus: see :func:`~coablate_platform.data.prepare.prepare`.

    Raises:
        InputError: the folder cannot be written.
    """
    size = options.shard_clips
    tasks = [{"clips": pickle.dumps((reader, refs[start : start + size]))} for start in range(0, len(refs), size)]
    target, source = (store / SHARDS).absolute(), _keep_source(store.absolute())

    def write(task: dict[str, bytes]) -> dict[str, int | str]:
        attach(source)
        reader, clips = pickle.loads(task["clips"])
        try:
            write_shard(reader, clips, target, options)
        except OSError as error:  # returned, so that the user gets one line instead of a task's traceback
            return {"clips": 0, "error": f"{target}: the shard cannot be written ({error.strerror or error})"}
        return {"clips": len(clips), "error": ""}

    for partial in target.glob("*.tmp"):  # left by a preparation that was killed
        partial.unlink(missing_ok=True)
    done = 0
    progress(done, len(refs))
    with _ray_data(cpus) as data:
        for result in data.from_items(tasks, override_num_blocks=len(tasks)).map(write).iter_rows():
            if result["error"]:
                raise InputError(result["error"])
            done += result["clips"]
            progress(done, len(refs))


def _keep_source(store: Path) -> str:
    """Keep the source files of a user's own reader with the store; return their folder, empty if the reader is ours."""
    sources = Sources.imported()
    folder = store / "source" / sources.digest
    for name, content in sources.files.items():
        write_atomically(fs.LocalFileSystem(), str(folder / name), content)
    return str(folder) if sources.files else ""


@contextmanager
def _ray_data(cpus: int | None) -> Iterator[ModuleType]:
    """Yield ``ray.data`` without its own output; start Ray, and stop it again, unless it runs already."""
    import ray  # imported here: a preparation with nothing to do need not wait for it
    import ray.data

    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield ray.data
    finally:
        logger.setLevel(level)
        if started:
            ray.shutdown()
