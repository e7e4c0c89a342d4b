"""What a run costs, before it is made: whether its network can be built, its size, and how long it would take here."""

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator

import torch

from coablate_platform.data.clips import ClipData, clips_of
from coablate_platform.data.store import Store
from coablate_platform.planning.checks import check
from coablate_platform.study.config import ClipShape, Description, RunConfig, TrainingConfig
from coablate_platform.study.errors import InputError
from coablate_platform.train.state import new_network

TIMED_STEPS = 4
TIMED_PASSES = 10


def cost_of(config: RunConfig, store: Store, seed: int) -> Description:
    """Check a configuration and return what it costs.

    Args:
        config: any model's.
        store: what it would run on.
        seed: the study's.

    Raises:
        InputError: it cannot be built on this store, with the reason, and the place in the model's code.
    """
    try:
        if "video" in config.model.modalities and not store.has_video:
            raise InputError(f"the model reads video and {store.uri} has none")
        clips = clips_of(config, store, (seed, 0))
        check(config, clips.shape)
        cost = config.model.describe(clips.shape)
        model = config.model.build(clips.shape)  # reads pretrained weights, which describing leaves out
        _check_parts(config.training, clips, model)
    except (InputError, ValueError) as error:
        raise InputError(str(error)) from None
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error} ({_place(error)})") from None
    return cost


def seconds_a_run(config: RunConfig, clips: ClipData, threads: int) -> float:
    """Estimate a run's training time on this machine from the fastest of some steps on random clips.

    Loading is not included.

    Args:
        config: any model's.
        clips: what it would train on.
        threads: torch's, as a worker of it would have; without a GPU.

    Raises:
        InputError: the network cannot make a step, with the reason, and the place in the model's code.
    """
    try:
        return _timed(config, clips, threads)
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error} ({_place(error)})") from None


def _timed(config: RunConfig, clips: ClipData, threads: int) -> float:
    batch_size = min(config.training.batch_size, clips.sizes["train"])
    objective = config.model.objective()
    with _measuring(threads) as device:
        model = new_network(config, clips.shape, (0, 0)).to(device)
        batch = {name: tensor.to(device) for name, tensor in random_batch(clips.shape, batch_size).items()}

        def step() -> None:
            objective.loss(model(batch), batch, 0)["loss"].backward()  # type: ignore[no-untyped-call]

        a_step = _fastest(step, TIMED_STEPS, device)
    a_clip = a_step / batch_size
    evaluated = clips.sizes["validation"] / 3  # a forward pass is about a third of a step
    return a_clip * (config.training.epochs * (clips.sizes["train"] + evaluated) + clips.sizes["test"] / 3)


@torch.inference_mode()
def latency_of(config: RunConfig, shape: ClipShape) -> int:
    """Measure a forward pass of one clip on this machine: on its GPU where it has one, else on one thread.

    On one, since threads that wait for each other on cores that lanes keep busy measure the lanes.

    Args:
        config: any model's.
        shape: of its clips.

    Returns:
        The fastest of some passes in µs.

    Raises:
        InputError: it cannot be measured, for want of memory beside the lanes, say.
    """
    try:
        return _latency(config, shape)
    except Exception as error:
        raise InputError(f"its latency: {type(error).__name__}: {error} ({_place(error)})") from None


def _latency(config: RunConfig, shape: ClipShape) -> int:
    with _measuring(threads=1) as device:
        model = new_network(config, shape, (0, 0)).to(device).eval()
        batch = {name: tensor.to(device) for name, tensor in random_batch(shape, 1).items()}
        return round(1e6 * _fastest(lambda: model(batch), TIMED_PASSES, device))


@contextlib.contextmanager
def _measuring(threads: int) -> Iterator[torch.device]:
    """Yield where to measure: this machine's GPU where it has one, else so many threads of its processor."""
    device, before = torch.device("cuda" if torch.cuda.is_available() else "cpu"), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield device
    finally:
        torch.set_num_threads(before)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the lanes' to use


def _fastest(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Return the seconds that the fastest of several times took: what else the machine does can only slow one down."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _check_parts(training: TrainingConfig, clips: ClipData, model: torch.nn.Module) -> None:
    """Refuse to cut batches into single clips where the network has batch statistics that one clip does not give.

    Raises:
        InputError: it cannot train on one clip.
    """
    batch = min(training.batch_size, clips.sizes["train"]) // training.workers
    part = -(-batch // training.accumulate)
    if 1 not in (part, batch % part):
        return
    try:
        model.train()(random_batch(clips.shape, 1))
    except ValueError as error:
        sizes = f"training.batch_size={training.batch_size}, training.accumulate={training.accumulate}"
        raise InputError(f"{sizes}: makes a part of one clip, on which this network cannot train ({error})") from None


def _place(error: Exception) -> str:
    """Return the file and line in a model's code from which ``error`` came, torch's own left out."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if not frame.filename.startswith(f"{torch.__path__[0]}{os.sep}")][-1]
    return f"{last.filename}:{last.lineno}"


def random_batch(shape: ClipShape, clips: int) -> dict[str, torch.Tensor]:
    """Return a batch of so many clips of noise."""
    return {
        "video": torch.randn(clips, shape.channels, shape.frames, shape.size, shape.size),
        "skeleton": torch.randn(clips, 3, shape.skeleton_frames, shape.joints, shape.persons),
        "label": torch.arange(clips) % shape.classes,
        "index": torch.arange(clips),
    }
