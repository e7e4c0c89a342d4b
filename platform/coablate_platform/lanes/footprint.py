"""Measures the GPU memory of one real training step, and how many runs can share a GPU."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

import ray
import ray.cloudpickle
import torch

from coablate_platform.data.clips import clips_of
from coablate_platform.data.store import Store
from coablate_platform.files import local_copy
from coablate_platform.planning.costs import random_batch
from coablate_platform.study.config import Phase, RunConfig
from coablate_platform.study.errors import InputError, first_line
from coablate_platform.study.model import ClipShape
from coablate_platform.study.search import Search
from coablate_platform.study.source import attach
from coablate_platform.study.study import Study
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.loop import train
from coablate_platform.train.task import Batch, Task

SPARE = 0.1
"""Margin on what the step took: for fragmentation, and for larger workspaces in later steps."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory of one training step on a device, in bytes.

    Args:
        reserved: peak of what torch's allocator reserved.
        besides: what else is in use on the device: CUDA's context, and other processes.
        total: memory of the device.
    """

    reserved: int
    besides: int
    total: int

    @property
    def fit(self) -> int:
        """How many such runs the device holds at a time; at least one."""
        return max(int(self.total / (self.reserved * (1 + SPARE) + self.besides)), 1)


def fit_together(study: Study | Search, store: str, source: str) -> int:
    """Return how many of a study's runs a GPU of the joined cluster holds, measured with the most demanding known one.

    Of a search only the base and its points are known. A trial that needs more memory runs alone in the end.

    Args:
        study: the resolved study or search.
        store: URI of its data.
        source: path or URI of the folder of the user's own files as modules; empty where there are none.

    Raises:
        InputError: not even one fits.
    """
    opened = Store.open(store)
    if isinstance(study, Search):
        known = study.initial_points
        configs = [study.config(study.space.decode(point)) for point in known]
    else:
        configs = [study.config(arm) for arm in study.arms]
    shapes = [clips_of(config, opened, (study.seed, 0)).shape for config in configs]
    largest = max(zip(configs, shapes, strict=True), key=lambda pair: _activations(*pair))
    measured = ray.remote(num_gpus=1, max_calls=1, max_retries=0)(_measured)
    try:
        return int(ray.get(measured.remote(ray.cloudpickle.dumps(largest), source)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        raise


def _activations(config: RunConfig, shape: ClipShape) -> int:
    clips = max(
        -(-phase.training.batch_size // (phase.training.workers * phase.training.accumulate)) * max(phase.views, 1)
        for phase in config.phases
    )
    return config.model.describe(shape).activation_bytes * clips


def _measured(payload: bytes, source: str) -> int:
    attach(str(local_copy(source)) if source else "")
    return footprint(*ray.cloudpickle.loads(payload)).fit


def footprint(config: RunConfig, shape: ClipShape) -> Footprint:
    """Measure a run on this process's GPU.

    Args:
        config: configuration of the run.
        shape: shape of its clips.

    Raises:
        InputError: one step does not fit the whole device.
    """
    device = torch.device("cuda")
    try:
        one_step(config, shape, device)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"one training step does not fit {torch.cuda.get_device_name()}: {first_line(error)}; a smaller "
            "training.batch_size, training.accumulate or activation checkpointing may help"
        ) from None
    reserved = torch.cuda.max_memory_reserved()
    free, total = torch.cuda.mem_get_info()
    return Footprint(reserved=reserved, besides=total - free - torch.cuda.memory_reserved(), total=total)


def one_step(config: RunConfig, shape: ClipShape, device: torch.device) -> None:
    """Train one batch of random clips in each phase as a run would, with checkpoints in a temporary folder."""
    once = replace(
        config,
        training=replace(config.training, epochs=1, step_epochs=(), selection="last"),
        pretraining=config.pretraining and replace(config.pretraining, epochs=1, step_epochs=()),
    )
    task = Task(run_id="footprint", config=once, seed=(0, 0))
    clips = _OneBatch(shape)
    with tempfile.TemporaryDirectory(prefix="coablate-") as folder:
        events = train(task, clips, Checkpoints(folder), lambda report: None, device)
        for _ in once.phases:
            next(events)


class _OneBatch:
    """A training split of one batch of random clips in each phase; the other splits are empty."""

    def __init__(self, shape: ClipShape) -> None:
        self.shape = shape
        self.sizes = {"train": 1, "labelled": 1, "validation": 0, "test": 0}
        self.names: list[str] = []

    def train(self, epoch: int, phase: Phase, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        yield random_batch(self.shape, phase.training.batch_size // phase.training.workers, phase.views)

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        yield from ()
