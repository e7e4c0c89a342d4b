"""Clips in memory for tests of the loop: separable classes in both modalities, cut as purely as a store's."""

from collections.abc import Iterator

import numpy as np
import torch

from coablate_platform.study.config import Phase
from coablate_platform.study.model import ClipShape
from coablate_platform.study.streams import stream

SHAPE = ClipShape(classes=3, channels=3, frames=8, size=32, skeleton_frames=16, joints=5, persons=1)


class MemoryClips:
    """Satisfies :class:`coablate_platform.train.task.DataSplits`; ``poison`` plants a NaN in that epoch (from 0)."""

    def __init__(self, train: int = 12, validation: int = 6, test: int = 6, seed=(0, 0), poison: int | None = None):
        self._rows = {}
        start = 0
        for split, count in (("train", train), ("validation", validation), ("test", test)):
            self._rows[split] = np.arange(start, start + count)
            start += count
        self._seed, self._poison = seed, poison
        self.names = [f"clip{row}" for row in range(start)]
        self.shape = SHAPE
        self.sizes = {split: len(rows) for split, rows in self._rows.items()}

    def _sample(self, row: int, epoch: int | None, *view: str | int) -> dict[str, torch.Tensor]:
        generator = stream(row) if epoch is None else stream(*self._seed, "augment", epoch, row, *view)
        label = row % SHAPE.classes
        video = generator.normal(label - 1, 1, (3, SHAPE.frames, SHAPE.size, SHAPE.size)).astype(np.float32)
        skeleton = generator.normal(3 * (label - 1), 1, (3, SHAPE.skeleton_frames, SHAPE.joints, 1)).astype(np.float32)
        if epoch is not None and epoch == self._poison:
            skeleton[:] = np.nan
        return {"video": torch.from_numpy(video), "skeleton": torch.from_numpy(skeleton)}

    def _views(self, row: int, epoch: int | None, views: int) -> dict[str, torch.Tensor]:
        samples = [self._sample(row, epoch, "view", view) for view in range(views)]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _batch(self, rows, epoch: int | None, views: int = 0) -> dict[str, torch.Tensor]:
        samples = [self._views(int(row), epoch, views) if views else self._sample(int(row), epoch) for row in rows]
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        return batch | {"label": torch.tensor(rows % SHAPE.classes), "index": torch.tensor(rows)}

    def train(self, epoch: int, phase: Phase, rank: int = 0, world: int = 1) -> Iterator[dict[str, torch.Tensor]]:
        order = stream(*self._seed, "order", epoch).permutation(self._rows["train"])
        batch_size = phase.training.batch_size
        share = batch_size // world
        for start in range(0, len(order) - batch_size + 1, batch_size):
            yield self._batch(order[start + rank * share : start + (rank + 1) * share], epoch, phase.views)

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1):
        rows = np.array_split(self._rows[split], world)[rank]
        for start in range(0, len(rows), batch_size):
            yield self._batch(rows[start : start + batch_size], None)
