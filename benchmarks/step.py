"""A training step as the platform runs it, against the same network built plainly, in turns.

The platform lays 3-D convolutions out channels last (:func:`coablate_platform.run.loop.fast_layout`); plainly built,
they stay contiguous. Both start from the same weights, train in fp32 on the same random clips, and make whole steps:
forward, loss, backward, optimiser. One thread is measured by the processor's time, two by wall time.
"""

import argparse
import time
from collections.abc import Callable

import torch
from measure import in_turns, row
from torch import nn

from coablate_model.cc_dfarm import CCDFARM, RGB
from coablate_platform.run.loop import fast_layout
from coablate_platform.run.seeding import initialise
from coablate_platform.study.config import ClipShape

NTU60 = {"classes": 60, "channels": 3, "skeleton_frames": 32, "joints": 25, "persons": 2}
CASES = {
    "CC-DFARM, width 0.25, 32 clips of 8×56²": (CCDFARM(width=0.25), ClipShape(frames=8, size=56, **NTU60), 32),
    "I3D alone, width 1, 2 clips of 16×112²": (CCDFARM(streams=(RGB,)), ClipShape(frames=16, size=112, **NTU60), 2),
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
    config: CCDFARM, shape: ClipShape, batch: dict[str, torch.Tensor], lay_out: Callable[[nn.Module], nn.Module]
) -> Callable[[], None]:
    """Return what makes one training step of a network of its own."""
    network = config.build(shape)
    initialise(network, (0, 0))
    network, objective = lay_out(network).train(), config.objective()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        objective.loss(network(batch), batch, 0)["loss"].backward()
        optimiser.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name, (config, shape, clips) in CASES.items():
        batch = random_batch(shape, clips)
        steps = [stepper(config, shape, batch, lay_out) for lay_out in (fast_layout, lambda network: network)]
        for threads in (1, 2):
            torch.set_num_threads(threads)
            clock = time.process_time if threads == 1 else time.perf_counter
            ours, plain = in_turns(steps, options.rounds, clock)
            label = f"{name}, {threads} thread{'s' * (threads > 1)}"
            row(label, f"{ours:.2f} s/step", f"{plain:.2f} s/step", plain / ours)


if __name__ == "__main__":
    main()
