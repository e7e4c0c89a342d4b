"""Loads the batches of a run. They depend on the seed alone, not on the number of threads or workers."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from coablate_platform.data.augment import Transform, evaluation_transform, random_transform
from coablate_platform.data.protocols import Protocol, get_protocol
from coablate_platform.data.sampling import DEFAULT_MODALITIES, MODALITIES, OF_FRAMES, Sample, transform_clip
from coablate_platform.data.store import Store
from coablate_platform.study.config import DataConfig, Phase, RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import digest
from coablate_platform.study.model import ClipShape
from coablate_platform.study.streams import stream, stream_seed

Batch = dict[str, torch.Tensor]
_PREFETCHED = 2  # batches that are loaded while the model works on one


class ClipData:
    """The batches of one run, from a store that a protocol divides into splits.

    A batch holds what :class:`~coablate_platform.study.model.ModelConfig` describes.

    Args:
        store: the clips.
        config: sizes and augmentation.
        protocol: the protocol that ``config.protocol`` names.
        seed: first keys of the run's random streams: study seed and run seed.
        modalities: the tensors to make; without ``video`` no frame is decoded.
        threads: threads that load samples with video: decoding and scaling release the interpreter's lock. Samples of
            skeletons alone are loaded on one thread, since two only wait for each other (measured: half the rate).

    Raises:
        InputError: the protocol is for another data set, or its training or test split is empty; a modality is
            unknown, or the store has none of them.
    """

    def __init__(
        self,
        store: Store,
        config: DataConfig,
        protocol: Protocol,
        seed: tuple[int, ...],
        modalities: tuple[str, ...] = DEFAULT_MODALITIES,
        threads: int = 2,
    ) -> None:
        _check(store, protocol, modalities)
        self._store = store
        self._config = config
        self._seed = seed
        self._modalities = modalities
        self._threads = threads if store.has_video and "video" in modalities else 1
        self._rows = protocol.split(store.index, hold_out=config.validation == "subjects")
        if config.labels < 1:
            self._rows["labelled"] = _labelled(self._rows["train"], store.labels, config.labels, seed)
        self._frames = store.index["frames"].to_numpy()
        self._classes = protocol.classes or len(store.classes)
        for split in ("train", "test"):
            if not len(self._rows[split]):
                raise InputError(
                    f"{store.uri}: protocol {protocol.name!r} puts none of {len(store)} clips into the {split} split"
                )

    @property
    def shape(self) -> ClipShape:
        """The sizes that a model is built for."""
        return ClipShape(
            classes=self._classes,
            channels=3,
            frames=self._config.frames,
            size=self._config.size,
            skeleton_frames=self._config.skeleton_frames,
            joints=len(self._store.layout.joints),
            persons=self._store.persons,
            bones=self._store.layout.bones,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of clips in each split: ``train``, ``validation``, ``test``."""
        return {split: len(rows) for split, rows in self._rows.items()}

    @property
    def test_subjects(self) -> int:
        """Number of subjects whose clips are in the test split."""
        return len(set(self._store.index["subject"].take(self._rows["test"]).to_pylist()))

    @property
    def selection(self) -> str:
        """A digest of what the protocol selects: the clips of each split by name, and how many classes count."""
        names = self._store.names
        splits = {split: [names[row] for row in rows.tolist()] for split, rows in self._rows.items()}
        return digest([self._classes, splits])

    @property
    def names(self) -> list[str]:
        """Names of the clips by their row in the store; a batch's ``index`` holds such rows."""
        return self._store.names

    def train(self, epoch: int, phase: Phase, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the augmented batches of one epoch in random order; close the iterator to stop early.

        The order depends on (seed, epoch) and a sample on (seed, epoch, row), so the numbers of workers and threads
        change neither. A last batch that is not full is dropped, unless it is the only one.

        Args:
            epoch: counted from 0 over all phases.
            phase: its batch size, augmentation and number of views.
            rank: number of this worker; it gets a contiguous share of every batch.
            world: number of workers.

        Raises:
            InputError: the batch cannot be divided evenly between the workers.
            VideoError: a stored video is damaged.
        """
        rows, batch_size = self._rows[phase.split], phase.training.batch_size
        size = min(batch_size, len(rows))
        if size == len(rows):
            size -= size % world
        if size % world or not size:
            raise InputError(f"training.batch_size: {batch_size} clips cannot be shared evenly by {world} workers")
        order = stream(*self._seed, "order", epoch).permutation(rows)
        share = size // world
        starts = range(rank * share, len(order) - size + rank * share + 1, size)
        return self._batches([order[start : start + share] for start in starts], self._training_loader(epoch, phase))

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield all clips of a split without augmentation, in the store's order; close the iterator to stop early.

        Args:
            split: ``train``, ``validation`` or ``test``.
            batch_size: clips per batch; the last batch may hold fewer.
            rank: number of this worker; it gets a contiguous share of the split. Shares differ by one clip at most.
            world: number of workers.

        Raises:
            VideoError: a stored video is damaged.
        """
        rows = np.array_split(self._rows[split], world)[rank]
        parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        return self._batches(parts, self._evaluation_loader(split))

    def _training_loader(self, epoch: int, phase: Phase) -> Callable[[int], Sample]:
        """Return a function that loads the augmented sample of a row, or its views."""

        joints = len(self._store.layout.joints)

        def draw(row: int, *view: str | int) -> Transform:
            generator, seed = stream(*self._seed, "augment", epoch, row, *view), self._pixel_seed(epoch, row, *view)
            return random_transform(phase.data, generator, int(self._frames[row]), joints, seed)

        def load(row: int) -> Sample:
            return next(self._samples(row, [draw(row)], phase.data, "train"))

        def load_views(row: int) -> Sample:
            transforms = [draw(row, "view", number) for number in range(phase.views)]
            views = list(self._samples(row, transforms, phase.data, "train"))
            return {name: torch.stack([view[name] for view in views]) for name in views[0]}

        return load_views if phase.views else load

    def _evaluation_loader(self, split: str) -> Callable[[int], Sample]:
        """Return a function that loads the sample of a row as it is."""
        fixed = evaluation_transform(self._config)

        def load(row: int) -> Sample:
            transform = replace(fixed, pixel_seed=self._pixel_seed(row))
            return next(self._samples(row, [transform], self._config, split))

        return load

    def _pixel_seed(self, *keys: str | int) -> int:
        """Return the seed of the noise on a sample's pixels; 0 where the settings have none."""
        noisy = self._config.pixel_jitter or self._config.pixel_dropout
        return stream_seed(*self._seed, "pixels", *keys) if noisy else 0

    def _samples(self, row: int, transforms: Sequence[Transform], config: DataConfig, split: str) -> Iterator[Sample]:
        """Yield a sample of a row's clip for each transform."""
        store = self._store
        clip = store.clip(row)
        other = store.clip(self._same_class(row, split)) if config.pixels_of == "class" else None
        for transform in transforms:
            yield transform_clip(clip, transform, config, store.layout, store.persons, self._modalities, other)

    def _same_class(self, row: int, split: str) -> int:
        """Return the row of another clip of the same class and split; the clip's own where it is the only one."""
        rows = self._rows[split]
        others = rows[(self._store.labels[rows] == self._store.labels[row]) & (rows != row)]
        return int(stream(*self._seed, "class", row).choice(others)) if len(others) else row

    def _batches(self, parts: list[NDArray[np.int64]], load: Callable[[int], Sample]) -> Iterator[Batch]:
        """Yield a batch for each part's rows, in order. Threads load a few batches ahead of the consumer."""
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="coablate-clips")
        pending: deque[tuple[NDArray[np.int64], list[Future[list[Sample]]]]] = deque()
        remaining = iter(parts)

        def load_all(rows: NDArray[np.int64]) -> list[Sample]:
            return [load(row) for row in rows.tolist()]

        def submit_next() -> None:
            rows = next(remaining, None)
            if rows is not None:
                pending.append((rows, [pool.submit(load_all, part) for part in np.array_split(rows, self._threads)]))

        try:
            for _ in range(_PREFETCHED + 1):
                submit_next()
            while pending:
                rows, futures = pending.popleft()
                batch = self._collate(rows, [sample for future in futures for sample in future.result()])
                submit_next()
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _collate(self, rows: NDArray[np.int64], samples: list[Sample]) -> Batch:
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        batch["label"] = torch.from_numpy(self._store.labels[rows])
        batch["index"] = torch.from_numpy(rows.copy())
        if torch.cuda.is_available():  # copies to a GPU then run beside its computation
            batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
        return batch


def _labelled(
    rows: NDArray[np.int64], labels: NDArray[np.int64], share: float, seed: tuple[int, ...]
) -> NDArray[np.int64]:
    """Draw a share of the clips of each class, at least one."""
    drawn = []
    for label in np.unique(labels[rows]).tolist():
        of_class = rows[labels[rows] == label]
        count = max(round(share * len(of_class)), 1)
        drawn.append(stream(*seed, "labels", label).permutation(of_class)[:count])
    return np.sort(np.concatenate(drawn))


def _check(store: Store, protocol: Protocol, modalities: tuple[str, ...]) -> None:
    if protocol.source != store.source:
        raise InputError(
            f"data.protocol: {protocol.name!r} divides clips of {protocol.source!r}, but {store.uri} holds clips of "
            f"{store.source!r}"
        )
    if unknown := set(modalities) - set(MODALITIES):
        raise InputError(f"the model reads {sorted(unknown)}; a batch can hold {', '.join(MODALITIES)}")
    if "skeleton" not in modalities and not store.has_video:
        raise InputError(f"{store.uri}: the model reads only {', '.join(modalities)}, but the store has no video")
    if (lacking := OF_FRAMES.intersection(modalities)) and not store.has_video:
        raise InputError(f"{store.uri}: the model reads {', '.join(sorted(lacking))}, but the store has no video")


def clips_of(config: RunConfig, store: Store, seed: tuple[int, int], threads: int = 2) -> ClipData:
    """Return the clips of a run.

    Args:
        config: the run's configuration; its protocol is resolved.
        store: the clips.
        seed: study seed and run seed.
        threads: see :class:`ClipData`.
    """
    return ClipData(
        store,
        config=config.data,
        protocol=get_protocol(str(config.data.protocol), store.own_protocol),
        seed=seed,
        modalities=config.model.modalities,
        threads=threads,
    )
