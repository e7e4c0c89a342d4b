"""A training step of the graph network: few large matrix products, against the public code's loops and convolutions.

Both have the same weights and the same random clips, at NW-UCLA's size: 16 clips of 52 frames, one person, 20 joints.
One graph unit makes its forward and backward pass; the whole network a step: forward, loss, backward, optimiser. One
thread is measured by the processor's time.
"""

import copy
import time
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from measure import in_turns, row
from torch import Tensor, nn

from coablate_model.pan.ctr_gcn import CTRGC, CTRGCN, GraphUnit
from coablate_model.pan.graph import adjacency
from coablate_model.pan.temporal import Conv2d
from coablate_platform.data.joints import KINECT_V1

CLIPS, FRAMES, JOINTS, CLASSES = 16, 52, 20, 10
UNITS = {(64, 64): FRAMES, (128, 128): FRAMES // 2, (256, 256): FRAMES // 4}
"""Frames that the units of each width see."""


class PlainConv(Conv2d):
    """A convolution that is one for torch too."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C, T, V) to (P, C', ⌈T/stride⌉, V)."""
        return nn.Conv2d.forward(self, x)


class LoopingUnit(GraphUnit):
    """A graph unit that takes one subset after the other, and the mean over frames last."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C, T, V) to (P, C', T, V)."""
        total = torch.zeros(())
        for conv, graph in zip(self.convs, self.PA, strict=True):
            assert isinstance(conv, CTRGC)
            hearers, speakers = conv.conv1(x).mean(2), conv.conv2(x).mean(2)
            relations = torch.tanh(hearers[..., :, None] - speakers[..., None, :])
            topology = conv.conv4(relations) * self.alpha + graph
            total = total + torch.einsum("ncuv,nctv->nctu", topology, conv.conv3(x))
        return F.relu(self.bn(total) + self.down(x), inplace=True)


def looping(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose graph units loop, with torch's convolutions."""
    network = copy.deepcopy(network)
    for module in network.modules():
        for ours, theirs in ((GraphUnit, LoopingUnit), (Conv2d, PlainConv)):
            if isinstance(module, ours):
                module.__class__ = theirs
    return network


def passes(unit: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return what makes one forward and backward pass of a unit."""

    def work() -> None:
        unit(x).sum().backward()

    return work


def stepper(network: nn.Module, clips: Tensor) -> Callable[[], None]:
    """Return what makes one training step of a network."""
    optimiser = torch.optim.SGD(network.parameters(), 1e-3)
    labels = torch.arange(CLIPS) % CLASSES

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(network(clips), labels).backward()  # type: ignore[no-untyped-call]  # as torch has it
        optimiser.step()

    return step


def main(rounds: Annotated[int, typer.Option(help="Turns that each kind of step gets.")] = 7) -> None:
    """Measure units and steps, and print a row each."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tree = adjacency(KINECT_V1.bones, JOINTS)
    works = {}
    for (channels, out), frames in UNITS.items():
        unit, x = GraphUnit(channels, out, tree), torch.randn(CLIPS, channels, frames, JOINTS, requires_grad=True)
        works[f"graph unit {channels} → {out}, {frames} frames"] = passes(unit, x), passes(looping(unit), x)
    for width in (1.0, 0.25):
        network, clips = CTRGCN(CLASSES, tree, persons=1, width=width), torch.randn(CLIPS, 3, FRAMES, JOINTS, 1)
        works[f"CTR-GCN, width {width:g}, a step"] = stepper(network, clips), stepper(looping(network), clips)
    for name, pair in works.items():
        ours, loop = in_turns(pair, rounds, time.process_time)
        row(f"{name}, 1 thread", f"{ours * 1000:.0f} ms", f"{loop * 1000:.0f} ms", loop / ours)


if __name__ == "__main__":
    typer.run(main)
