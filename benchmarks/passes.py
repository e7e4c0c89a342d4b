"""Passes that the other two models save: one fused pass against three, and tokens of whole frames against crops.

Decomposition & Composition classifies from one pass of its encoder; late fusion has a pass of an encoder of its own for
each modality. PAN encodes whole frames once and samples tokens at the joints; the reference crops a window of 16 pixels
around every joint and encodes each. Forward and backward pass, one thread, processor time.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from measure import in_turns, row
from torch import Tensor

from coablate_model.dc.encoder import DCEncoder, Fusion, LateFusion, build_encoder
from coablate_model.pan.tokens import TokenSampler
from coablate_model.pan.vit import ViT
from coablate_platform.data.joints import KINECT_V2

FRAMES, JOINTS, PERSONS, SIZE, WINDOW = 8, 25, 2, 64, 16
FUSIONS: tuple[Fusion, Fusion] = ("early", "late")
WIDTHS = {"the studies' size": (128, 256), "UmURL's size": (1024, 1024)}


def backward(forward: Callable[[], Tensor]) -> Callable[[], None]:
    """Return what makes a forward and a backward pass."""

    def work() -> None:
        forward().sum().backward()  # type: ignore[no-untyped-call]  # as torch has it

    return work


def features(encoder: DCEncoder | LateFusion, skeletons: Tensor) -> Callable[[], None]:
    """Return what makes the fused features of skeletons, and their gradients."""
    return backward(lambda: encoder.fused(skeletons)["whole"])


def cropped(frames: Tensor, pixels: Tensor) -> Tensor:
    """Return a window around each joint, (N, C, F·V·M, w, w); it moves into the frame where it would lie beyond.

    Args:
        frames: (N, C, F, S, S).
        pixels: (N, 2, F, V, M).
    """
    clips, channels = frames.shape[:2]
    corners = (pixels - WINDOW / 2).round().long().clamp(0, SIZE - WINDOW).flatten(3).flatten(2)  # (N, 2, F·V·M)
    steps = torch.arange(WINDOW)
    columns, rows = (corners[:, axis, :, None] + steps for axis in (0, 1))
    number = torch.arange(FRAMES).repeat_interleave(JOINTS * PERSONS)
    windows = [
        frames[clip][:, number[:, None, None], rows[clip][:, :, None], columns[clip][:, None, :]]
        for clip in range(clips)
    ]
    return torch.stack(windows).view(clips, channels, -1, WINDOW, WINDOW)


def main(rounds: Annotated[int, typer.Option(help="Turns that each kind of pass gets.")] = 5) -> None:
    """Measure passes, and print a row each."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    works: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
    skeletons = torch.randn(16, 3, 32, JOINTS, PERSONS)
    for name, (width, inner) in WIDTHS.items():
        sizes = {"frames": 32, "joints": JOINTS, "persons": PERSONS, "width": width, "feed_forward": inner}
        early, late = (build_encoder(fusion, bones=KINECT_V2.bones, **sizes) for fusion in FUSIONS)
        works[f"fused features of 16 clips, {name}"] = features(early, skeletons), features(late, skeletons)
    video, pixels = torch.randn(4, 3, FRAMES, SIZE, SIZE), torch.rand(4, 2, FRAMES, JOINTS, PERSONS) * SIZE
    frames, windows = (ViT(size, patch=8, width=96, depth=2, heads=3) for size in (SIZE, WINDOW))
    sampler = TokenSampler(96, SIZE)
    seen = torch.ones(4, FRAMES, JOINTS, PERSONS, dtype=torch.bool)
    works["tokens at the joints of 4 clips"] = (
        backward(lambda: sampler(frames(video), pixels, seen)),
        backward(lambda: windows(cropped(video, pixels)).mean((2, 3))),
    )
    for name, (ours, theirs) in works.items():
        here, reference = in_turns([ours, theirs], rounds, time.process_time)
        row(f"{name}, 1 thread", f"{here * 1000:.0f} ms", f"{reference * 1000:.0f} ms", reference / here)


if __name__ == "__main__":
    typer.run(main)
