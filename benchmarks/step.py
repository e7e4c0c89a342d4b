"""A training step as the platform runs it, against the same network built plainly, in turns.

The platform lays 3-D convolutions out channels last (:func:`coablate_platform.train.state.use_channels_last`); plainly
built, they stay contiguous. Both start from the same weights, train on the same random clips, and make whole steps:
forward, loss, backward, optimiser; the plain network in fp32, the platform's in fp32 and, where the processor has it,
in bf16. One thread is measured by the processor's time, two by wall time.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
import typer
from measure import in_turns, row
from torch import nn

from coablate_model.cc_dfarm import CCDFARM, RGB
from coablate_platform.study.config import TrainingConfig
from coablate_platform.study.model import ClipShape
from coablate_platform.train.initial import build_network
from coablate_platform.train.precision import autocast, check_precision, safe_backward
from coablate_platform.train.state import use_channels_last

CPU = torch.device("cpu")
FP32, BF16 = TrainingConfig(precision="fp32"), TrainingConfig(precision="bf16")
NTU60 = ClipShape(classes=60, channels=3, frames=8, size=56, skeleton_frames=32, joints=25, persons=2)
CASES = {
    "CC-DFARM, width 0.25, 32 clips of 8×56²": (CCDFARM(width=0.25), NTU60, 32),
    "I3D alone, width 1, 2 clips of 16×112²": (CCDFARM(streams=(RGB,)), replace(NTU60, frames=16, size=112), 2),
}


def random_batch(shape: ClipShape, clips: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (shape.channels, shape.frames, shape.size, shape.size)
    return {
        "video": torch.randn(clips, *size, generator=generator),
        "skeleton": torch.randn(clips, 3, shape.skeleton_frames, shape.joints, shape.persons, generator=generator),
        "label": torch.arange(clips) % shape.classes,
    }


def stepper(
    config: CCDFARM,
    shape: ClipShape,
    batch: dict[str, torch.Tensor],
    lay_out: Callable[[nn.Module], nn.Module],
    training: TrainingConfig = FP32,
) -> Callable[[], None]:
    """Return what makes one training step of a network of its own."""
    network = build_network(lambda: config.build(shape), (0, 0))
    network, objective = lay_out(network).train(), config.objective()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with autocast(training, CPU):
            loss = objective.loss(network(batch), batch, 0)["loss"]
        with safe_backward(training, CPU):
            loss.backward()  # type: ignore[no-untyped-call]  # as torch has it
        optimiser.step()

    return step


def precisions() -> dict[str, TrainingConfig]:
    """Return the precisions in which this processor trains, by what is said of them."""
    found = {"": FP32}
    with contextlib.suppress(ValueError):
        check_precision(BF16, CPU)
        found[" in bf16"] = BF16
    return found


def main(rounds: Annotated[int, typer.Option(help="Turns that each kind of step gets.")] = 7) -> None:
    """Measure training steps, and print a row a case."""
    for name, (config, shape, clips) in CASES.items():
        batch = random_batch(shape, clips)
        able = precisions()
        steps = [stepper(config, shape, batch, lambda network: network)]
        steps += [stepper(config, shape, batch, use_channels_last, training) for training in able.values()]
        for threads in (1, 2):
            torch.set_num_threads(threads)
            clock = time.process_time if threads == 1 else time.perf_counter
            plain, *ours = in_turns(steps, rounds, clock)
            for how, seconds in zip(able, ours, strict=True):
                label = f"{name}{how}, {threads} thread{'s' * (threads > 1)}"
                row(label, f"{seconds:.2f} s/step", f"{plain:.2f} s/step", plain / seconds)


if __name__ == "__main__":
    typer.run(main)
