"""Clips a second of ``ClipData.train``, against a plain reader on the same store, in turns.

The plain reader decodes every frame of a clip on one thread, picks the ones it needs and scales them as floats, the
way public pipelines do. Run ``python benchmarks/loader.py [STORE]``; without a store one like UTD-MHAD is made up.
"""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from made_up import make_store
from measure import in_turns, row

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.data.augment import random_transform
from coablate_platform.data.clips import ClipData
from coablate_platform.data.protocols import Protocol, get_protocol
from coablate_platform.data.sampling import frame_numbers
from coablate_platform.data.skeleton_sampling import transform_skeleton, window_positions
from coablate_platform.data.store import Store
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.streams import stream

CLIPS = 128
BATCH = 32
CONFIG = DataConfig(validation="none")
PHASE = RunConfig(model=CCDFARM(), data=CONFIG, training=TrainingConfig(batch_size=BATCH)).phases[0]


def plain_clips(store: Store, rows: list[int], modalities: tuple[str, ...]) -> int:
    """Transform the same samples without seeking, threads, or uint8 scaling."""
    for number in rows:
        clip = store.clip(number)
        frames, joints = len(clip.xyz), len(store.layout.joints)
        transform = random_transform(CONFIG, stream(0, number), frames, joints)
        positions = window_positions(frames, transform, CONFIG.skeleton_frames)
        transform_skeleton(clip.xyz, positions, transform, CONFIG, store.layout)
        if "video" in modalities and clip.video is not None:
            count = len(clip.video.packets)
            shown = np.stack(clip.video.decode(list(range(count)))).astype(np.float32) / 127.5 - 1
            chosen = torch.from_numpy(shown[frame_numbers(count, transform)]).permute(0, 3, 1, 2)
            torch.nn.functional.interpolate(chosen, (CONFIG.size, CONFIG.size), mode="bilinear")
    return len(rows)


def readers(store: Store, protocol: Protocol, modalities: tuple[str, ...]) -> dict[str, Callable[[], int]]:
    """Return the readers by name, the plain one first; each returns how many clips it has read."""
    rows = protocol.split(store.index, hold_out=False)["train"][:CLIPS].tolist()

    def reader(threads: int) -> Callable[[], int]:
        data = ClipData(store, CONFIG, protocol, (0, 0), modalities, threads=threads)
        return lambda: sum(len(batch["label"]) for batch in itertools.islice(data.train(0, PHASE), CLIPS // BATCH))

    ours = {"1 thread": reader(1)}
    if "video" in modalities:  # skeletons alone are always loaded on one
        ours["2 threads"] = reader(2)
    return {"plain": lambda: plain_clips(store, rows, modalities)} | ours


def main(
    store_uri: Annotated[str | None, typer.Argument(help="A prepared store; made up where none is named.")] = None,
    rounds: Annotated[int, typer.Option(help="Turns that each way of loading gets.")] = 5,
) -> None:
    """Measure loading, and print a row a way of loading."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = (
            Store.open(store_uri) if store_uri else make_store(Path(folder) / "store", clips=2 * CLIPS, has_video=True)
        )
        protocol = get_protocol(store.default_protocol)
        for modalities in [("skeleton",)] + [("video", "skeleton")] * store.has_video:
            found = readers(store, protocol, modalities)
            counts = [read() for read in found.values()]
            seconds = in_turns(list(found.values()), rounds)
            plain, *ours = (count / spent for count, spent in zip(counts, seconds, strict=True))
            for name, rate in zip(list(found)[1:], ours, strict=True):
                label = f"load {' + '.join(modalities)}, {name}"
                row(label, f"{rate:.0f} clips/s", f"{plain:.0f} clips/s", rate / plain)


if __name__ == "__main__":
    typer.run(main)
