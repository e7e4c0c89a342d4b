"""Measures what a run costs before it starts: its network's size and latency, and an estimate of its training time."""

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator

import torch

from coablate_platform.data.clips import ClipData, clips_of
from coablate_platform.data.store import Store
from coablate_platform.planning.checks import check
from coablate_platform.study.config import Phase, RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.model import ClipShape, Description
from coablate_platform.train.state import new_network, turns_of

TIMED_STEPS = 4
TIMED_S = 10.0  # after which no further step is timed
TIMED_PASSES = 10


def cost_of(config: RunConfig, store: Store, seed: int) -> Description:
    """Check a configuration, build its network once, and return what the network costs.

    Args:
        config: the run's configuration.
        store: the clips.
        seed: study seed.

    Raises:
        InputError: a setting is refused, or the network cannot be built for this store. The message says why; for an
            unexpected exception also where in the code it was raised.
    """
    try:
        if "video" in config.model.modalities and not store.has_video:
            raise InputError(f"the model reads video and {store.uri} has none")
        clips = clips_of(config, store, (seed, 0))
        check(config, clips.shape)
        cost = config.model.describe(clips.shape)
        model = new_network(config, clips.shape, (seed, 0))  # also loads pretrained weights, unlike describe()
        for phase in config.phases:
            _check_micro_batches(phase, clips, model)
    except (InputError, ValueError) as error:
        raise InputError(str(error)) from None
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error} ({_location(error)})") from None
    return cost


def seconds_per_run(config: RunConfig, clips: ClipData, threads: int) -> float:
    """Estimate the seconds that one worker alone would train a run on this machine, from its fastest step.

    The steps are those of a micro-batch of random clips. Where two clips show that such a step would take too long, the
    estimate is from them. Loading the data is not included.

    Args:
        config: the run's configuration.
        clips: the clips it would read.
        threads: number of torch threads where there is no GPU.

    Raises:
        InputError: the network cannot make a training step. The message says why, and where in the code.
    """
    try:
        return _estimate_seconds(config, clips, threads)
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error} ({_location(error)})") from None


def _estimate_seconds(config: RunConfig, clips: ClipData, threads: int) -> float:
    with _measurement_device(threads) as device:
        model = new_network(config, clips.shape, (0, 0)).to(device)
        return sum(_phase_seconds(phase, clips, model, device) for phase in config.phases)


def _phase_seconds(phase: Phase, clips: ClipData, model: torch.nn.Module, device: torch.device) -> float:
    objective, micro_batch = phase.objective, _micro_batches(phase, clips)[0]
    steps = len(turns_of(objective, model))

    def seconds_per_clip(count: int) -> float:
        random = random_batch(clips.shape, count, phase.views)
        batch = {name: tensor.to(device) for name, tensor in random.items()}

        def step() -> None:
            objective.loss(model(batch), batch, 0)["loss"].backward()  # type: ignore[no-untyped-call]

        return _fastest(step, TIMED_STEPS, device) / count

    per_clip = seconds_per_clip(min(micro_batch, 2))
    if per_clip * micro_batch < TIMED_S:
        per_clip = seconds_per_clip(micro_batch)
    validation, test = clips.sizes["validation"] / 3, clips.sizes["test"] / 3  # forward: about a third of a step
    return per_clip * (phase.training.epochs * (steps * clips.sizes[phase.split] + validation) + test)


@torch.inference_mode()
def latency_of(config: RunConfig, shape: ClipShape) -> int:
    """Measure the latency of a forward pass of one clip on this machine: on its GPU, or without one on one thread.

    More threads would wait for cores that lanes use, and the measurement would depend on the lanes.

    Args:
        config: the run's configuration.
        shape: the sizes of its clips.

    Returns:
        Latency of the fastest of several passes in µs.

    Raises:
        InputError: the pass failed, for example because the lanes left too little memory.
    """
    try:
        return _latency(config, shape)
    except Exception as error:
        raise InputError(f"latency: {type(error).__name__}: {error} ({_location(error)})") from None


def _latency(config: RunConfig, shape: ClipShape) -> int:
    with _measurement_device(threads=1) as device:
        model = new_network(config, shape, (0, 0)).to(device).eval()
        batch = {name: tensor.to(device) for name, tensor in random_batch(shape, 1).items()}
        return round(1e6 * _fastest(lambda: model(batch), TIMED_PASSES, device))


@contextlib.contextmanager
def _measurement_device(threads: int) -> Iterator[torch.device]:
    """Yield this machine's GPU, or its CPU; meanwhile torch uses this number of CPU threads."""
    device, before = torch.device("cuda" if torch.cuda.is_available() else "cpu"), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield device
    finally:
        torch.set_num_threads(before)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # leaves the memory to the lanes


def _fastest(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Return the seconds of the fastest of several calls; other load on the machine can only make a call slower.

    Where calls take long, there are fewer of them.
    """
    seconds: list[float] = []
    while len(seconds) < times and sum(seconds) < TIMED_S:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _micro_batches(phase: Phase, clips: ClipData) -> tuple[int, int]:
    """Return the sizes of a worker's micro-batches: that of most, and that of the last where it is smaller, else 0."""
    training = phase.training
    batch = max(min(training.batch_size, clips.sizes[phase.split]) // training.workers, 1)
    micro_batch = -(-batch // training.accumulate)
    return micro_batch, batch % micro_batch


def _check_micro_batches(phase: Phase, clips: ClipData, model: torch.nn.Module) -> None:
    """Check that no micro-batch has a single clip where the network, by batch normalisation, needs more.

    Raises:
        InputError: a micro-batch has one clip, and the network cannot train on it.
    """
    training = phase.training
    if 1 not in _micro_batches(phase, clips):
        return
    try:
        model.train()(random_batch(clips.shape, 1, phase.views))
    except ValueError as error:
        part = phase.name or "training"
        sizes = f"{part}.batch_size={training.batch_size}, {part}.accumulate={training.accumulate}"
        raise InputError(
            f"{sizes}: makes a micro-batch of one clip, on which this network cannot train ({error})"
        ) from None


def _location(error: Exception) -> str:
    """Return the file and line of the innermost traceback frame outside torch, which is usually the model's code."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if not frame.filename.startswith(f"{torch.__path__[0]}{os.sep}")][-1]
    return f"{last.filename}:{last.lineno}"


def random_batch(shape: ClipShape, clips: int, views: int = 0) -> dict[str, torch.Tensor]:
    """Return a batch of random clips with all tensors that a batch can hold.

    Args:
        shape: the sizes of a clip.
        clips: number of clips N.
        views: number of views W of a clip; 0: no axis for views.
    """
    first, joints = (clips, views) if views else (clips,), (shape.frames, shape.joints, shape.persons)
    return {
        "video": torch.randn(*first, shape.channels, shape.frames, shape.size, shape.size),
        "skeleton": torch.randn(*first, 3, shape.skeleton_frames, shape.joints, shape.persons),
        "frame_skeleton": torch.randn(*first, 3, *joints),
        "pixels": torch.rand(*first, 2, *joints) * (shape.size - 1),
        "visible": torch.rand(*first, *joints) < 0.9,
        "label": torch.arange(clips) % shape.classes,
        "index": torch.arange(clips),
    }
