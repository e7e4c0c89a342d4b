"""A study whose epochs take a while each and leave a line in a file: six runs, to be killed."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import tiny_study
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
        network = super().build(shape)
        network.register_forward_pre_hook(lambda module, inputs: train_for(self.folder) if module.training else None)
        return network

    def describe(self, shape: Shape) -> Cost:
        return tiny_study.Linear().describe(shape)  # measuring is no training


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
