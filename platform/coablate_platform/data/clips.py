"""Hands a run its batches: the same ones in the same order from the same seed, whatever threads or workers cut them."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from coablate_platform.data.augment import evaluation_transform, random_transform
from coablate_platform.data.protocols import Protocol, get_protocol
from coablate_platform.data.sampling import MODALITIES, Sample, transform_clip
from coablate_platform.data.store import Store
from coablate_platform.study.config import ClipShape, DataConfig, RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import digest
from coablate_platform.study.streams import stream

Batch = dict[str, torch.Tensor]
_AHEAD = 2  # batches that are cut while the model works on one


class ClipData:
    """A store divided by a protocol, as the training loop reads it.

    A batch holds ``video`` (N, 3, F, S, S) float32 in [-1, 1] where the store has video, ``skeleton``
    (N, 3, T', V, M) float32, ``label`` (N,) int64 and ``index`` (N,) int64, the row in the store.

    Args:
        store: the clips.
        config: protocol, sizes, augmentation.
        protocol: the resolved one of ``config.protocol``.
        seed: first keys of the run's random streams: study seed and run seed.
        modalities: which to read; a run on the skeleton alone decodes no video.
        threads: threads that cut samples where there is video: decoding and scaling release the interpreter's lock.
            Skeletons alone are cut on one, since more would only wait for each other (measured: half the rate on two).

    Raises:
        InputError: the protocol is for another source or leaves nothing to train or test on; or a modality is unknown
            or none of those asked for is in the store.
    """

    def __init__(
        self,
        store: Store,
        config: DataConfig,
        protocol: Protocol,
        seed: tuple[int, ...],
        modalities: tuple[str, ...] = MODALITIES,
        threads: int = 2,
    ) -> None:
        _check(store, protocol, modalities)
        self._store = store
        self._config = config
        self._seed = seed
        self._modalities = modalities
        self._threads = threads if store.has_video and "video" in modalities else 1
        self._rows = protocol.split(store.index, hold_out=config.validation == "subjects")
        self._classes = protocol.classes or len(store.classes)
        for split in ("train", "test"):
            if not len(self._rows[split]):
                raise InputError(
                    f"{store.uri}: protocol {protocol.name!r} leaves none of {len(store)} clips to {split}"
                )

    @property
    def shape(self) -> ClipShape:
        """What a model must know of the clips."""
        return ClipShape(
            classes=self._classes,
            channels=3,
            frames=self._config.frames,
            size=self._config.size,
            skeleton_frames=self._config.skeleton_frames,
            joints=len(self._store.layout.joints),
            persons=self._store.persons,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Clips a split: ``train``, ``validation``, ``test``."""
        return {split: len(rows) for split, rows in self._rows.items()}

    @property
    def selection(self) -> str:
        """A digest of what the protocol selects: the clips of each split by name, and how many classes count."""
        names = self._store.names
        splits = {split: [names[row] for row in rows.tolist()] for split, rows in self._rows.items()}
        return digest([self._classes, splits])

    @property
    def names(self) -> list[str]:
        """The clips' names by row of the store, which is what ``index`` counts."""
        return self._store.names

    def train(self, epoch: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield one epoch of augmented batches in an order of its own; close the iterator to stop early.

        Order and augmentation follow from (seed, epoch, row) alone, so neither the number of workers nor of threads
        changes a sample. A last batch that is not full is left out, unless it is the only one.

        Args:
            epoch: from 0.
            batch_size: clips a batch over all workers.
            rank: this worker; it gets its contiguous share of every batch.
            world: number of workers.

        Raises:
            InputError: the workers cannot share a batch evenly.
            VideoError: a stored video is damaged.
        """
        rows = self._rows["train"]
        size = min(batch_size, len(rows))
        if size == len(rows):
            size -= size % world
        if size % world or not size:
            raise InputError(f"training.batch_size: {batch_size} clips cannot be shared evenly by {world} workers")
        order = stream(*self._seed, "order", epoch).permutation(rows)
        share = size // world
        starts = range(rank * share, len(order) - size + rank * share + 1, size)
        return self._batches([order[start : start + share] for start in starts], self._cutter(epoch))

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield all clips of a split, unchanged, in the store's order; close the iterator to stop early.

        Args:
            split: ``train``, ``validation`` or ``test``.
            batch_size: clips a batch; the last one may hold fewer.
            rank: this worker; it gets its contiguous share of the split, equal to the others' within one clip.
            world: number of workers.

        Raises:
            VideoError: a stored video is damaged.
        """
        rows = np.array_split(self._rows[split], world)[rank]
        parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        return self._batches(parts, self._cutter(None))

    def _cutter(self, epoch: int | None) -> Callable[[int], Sample]:
        """Return what cuts the sample of a row: augmented in an epoch, plain without one."""
        store, config = self._store, self._config
        plain = evaluation_transform(config)

        def cut(row: int) -> Sample:
            how = plain if epoch is None else random_transform(config, stream(*self._seed, "augment", epoch, row))
            return transform_clip(store.clip(row), how, config, store.layout, store.persons, self._modalities)

        return cut

    def _batches(self, parts: list[NDArray[np.int64]], cut: Callable[[int], Sample]) -> Iterator[Batch]:
        """Transform the parts' samples on threads, a few batches ahead of the consumer, and yield them in order."""
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="coablate-clips")
        under_way: deque[tuple[NDArray[np.int64], list[Future[list[Sample]]]]] = deque()
        following = iter(parts)

        def cut_all(rows: NDArray[np.int64]) -> list[Sample]:
            return [cut(row) for row in rows.tolist()]

        def submit() -> None:
            rows = next(following, None)
            if rows is not None:
                under_way.append((rows, [pool.submit(cut_all, part) for part in np.array_split(rows, self._threads)]))

        try:
            for _ in range(_AHEAD + 1):
                submit()
            while under_way:
                rows, futures = under_way.popleft()
                batch = self._collate(rows, [sample for future in futures for sample in future.result()])
                submit()
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _collate(self, rows: NDArray[np.int64], samples: list[Sample]) -> Batch:
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        batch["label"] = torch.from_numpy(self._store.labels[rows])
        batch["index"] = torch.from_numpy(rows.copy())
        return batch


def _check(store: Store, protocol: Protocol, modalities: tuple[str, ...]) -> None:
    if protocol.source != store.source:
        raise InputError(
            f"data.protocol: {protocol.name!r} divides clips of {protocol.source!r}; {store.uri} holds {store.source!r}"
        )
    if unknown := set(modalities) - set(MODALITIES):
        raise InputError(f"a model reads {sorted(unknown)}; a store has {' and '.join(MODALITIES)}")
    if "skeleton" not in modalities and not store.has_video:
        raise InputError(f"{store.uri}: the model reads video alone and the store has none")


def clips_of(config: RunConfig, store: Store, seed: tuple[int, int]) -> ClipData:
    """Return the clips that a run of ``config`` reads."""
    return ClipData(
        store,
        config=config.data,
        protocol=get_protocol(str(config.data.protocol), store.own_protocol),
        seed=seed,
        modalities=config.model.modalities,
    )
