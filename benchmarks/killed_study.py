"""A study whose epochs take a while each and leave a line in a file: six runs, to be killed."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import tiny_study
import torch
from torch import nn

from coablate_model.describe import Cost
from coablate_model.shape import Shape
from coablate_platform.study.config import TrainingConfig

RUNS, EPOCHS, EPOCH_S = 6, 12, 0.5
ALL_CLIPS = 1_000
"""A batch that holds every clip, so that an epoch is one step."""


def train_for(folder: str) -> None:
    """Take the time of an epoch, and note it."""
    time.sleep(EPOCH_S)
    with (Path(folder) / "epochs").open("a") as notes:
        notes.write("trained\n")


@dataclass(frozen=True, kw_only=True)
class Noted(tiny_study.Linear):
    """A linear layer that notes its epochs.

    Args:
        folder: where.
    """

    folder: str = ""

    def build(self, shape: Shape) -> nn.Module:
        return Net(self.folder, 3 * shape.skeleton_frames * shape.joints * shape.persons, shape.classes)

    def describe(self, shape: Shape) -> Cost:
        return tiny_study.Linear().describe(shape)  # measuring is no training


class Net(tiny_study.Net):
    def __init__(self, folder: str, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.folder = folder

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.training:
            train_for(self.folder)
        return super().forward(batch)


STUDY = replace(
    tiny_study.STUDY,
    name="killed",
    title="Runs that are killed",
    base=replace(
        tiny_study.STUDY.base,
        model=Noted(),
        training=TrainingConfig(epochs=EPOCHS, batch_size=ALL_CLIPS),
    ),
    seeds=RUNS,
)
