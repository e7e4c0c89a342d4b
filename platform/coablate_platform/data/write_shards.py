"""Writes shards on Ray Data: one task per shard."""

import contextlib
import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pyarrow import fs

from coablate_platform.data.formats.clip import ClipRef, Reader
from coablate_platform.data.progress import ProgressCallback
from coablate_platform.data.schema import SHARDS
from coablate_platform.data.shard import DAMAGE, PrepareOptions, read_shard, write_shard
from coablate_platform.files import write_atomically
from coablate_platform.process import start_ray, working_directory
from coablate_platform.study.errors import InputError, first_line
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
        InputError: Ray does not start, the folder cannot be written, a worker died, or a shard did not come back.
    """
    size = options.shard_clips
    parts = [refs[start : start + size] for start in range(0, len(refs), size)]
    tasks = [{"number": number, "clips": pickle.dumps((reader, part))} for number, part in enumerate(parts)]
    target, source, folder = (store / SHARDS).absolute(), _keep_source(store.absolute()), working_directory()

    def write(task: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(OSError):  # a reader may open files by relative paths
            os.chdir(folder)
        attach(source)
        reader, clips = pickle.loads(task["clips"])
        try:
            shard = write_shard(reader, clips, target, options)
        except OSError as error:  # returned, so that the user gets one line instead of a task's traceback
            return {"number": -1, "shard": "", "error": f"cannot be written ({error.strerror or error})"}
        return {"number": task["number"], "shard": shard.name, "error": ""}

    for partial in target.glob("*.tmp"):  # left by a preparation that was killed
        partial.unlink(missing_ok=True)
    returned: dict[int, str] = {}
    progress(0, len(refs))
    with _ray_data(cpus, store) as data:
        for result in data.from_items(tasks, override_num_blocks=len(tasks)).map(write).iter_rows():
            if result["error"]:
                raise InputError(f"{target}: the shard {result['error']}")
            returned[result["number"]] = result["shard"]
            progress(sum(len(parts[number]) for number in returned), len(refs))
    _check_returned(target, parts, returned)


def _check_returned(target: Path, parts: list[list[ClipRef]], returned: dict[int, str]) -> None:
    """Check that every clip that was asked for is in the shard that its task has named, stored or bad.

    Raises:
        InputError: a clip is not. The store stays unfinished.
    """
    lost: list[str] = []
    for number, part in enumerate(parts):
        try:
            shard = read_shard(target / returned[number])
        except (KeyError, *DAMAGE):
            found: set[str] = set()
        else:
            found = shard.digests.keys() | {clip.name for clip in shard.bad}
        lost += [ref.name for ref in part if ref.name not in found]
    if lost:
        raise InputError(
            f"{target}: {len(lost)} of {sum(map(len, parts))} clips did not come back from the workers, the first: "
            f"{lost[0]}; the store is not finished; run the same command again"
        )


def _keep_source(store: Path) -> str:
    """Keep the source files of a user's own reader with the store; return their folder, empty if the reader is ours."""
    sources = Sources.imported()
    folder = store / "source" / sources.digest
    for name, content in sources.files.items():
        write_atomically(fs.LocalFileSystem(), str(folder / name), content)
    return str(folder) if sources.files else ""


@contextmanager
def _ray_data(cpus: int | None, store: Path) -> Iterator[ModuleType]:
    """Yield ``ray.data`` without its own output; start a local Ray, and stop it again, unless this process has one.

    Raises:
        InputError: Ray does not start, or a worker died in the block.
    """
    import ray  # imported here: a preparation with nothing to do need not wait for it
    import ray.data

    started = not ray.is_initialized()
    if started:
        start_ray(num_cpus=cpus, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield ray.data
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise InputError(
            f"{store}: a worker of the preparation failed ({type(error).__name__}: {first_line(error)}); finished "
            "shards are kept; run the same command again"
        ) from None
    finally:
        logger.setLevel(level)
        if started:
            ray.shutdown()
