"""A study of runs so short that only what surrounds them takes time."""

from dataclasses import dataclass

import torch
from torch import nn

from coablate_model.describe import Cost, measure
from coablate_model.objective import CrossEntropy
from coablate_model.shape import Shape
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.study import Arm, Resources, Study


@dataclass(frozen=True, kw_only=True)
class Linear:
    """The least that can be trained on skeletons."""

    modalities: tuple[str, ...] = ("skeleton",)

    def build(self, shape: Shape) -> nn.Module:
        return Net(3 * shape.skeleton_frames * shape.joints * shape.persons, shape.classes)

    def objective(self) -> CrossEntropy:
        return CrossEntropy(heads=("fused",), mode="joint", label_smoothing=0.0)

    def describe(self, shape: Shape) -> Cost:
        return measure(self.build, shape)


class Net(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, classes)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"fused": self.layer(batch["skeleton"].flatten(1))}


RUNS = 12
STUDY = Study(
    name="lanes",
    title="Runs so short that only their overhead is seen",
    base=RunConfig(
        model=Linear(),
        data=DataConfig(skeleton_frames=8, validation="none"),
        training=TrainingConfig(epochs=2, batch_size=8),
    ),
    arms=(Arm(name="linear", changes={}),),
    reference="linear",
    seeds=RUNS,
    resources=Resources(gpus=0.0),
)
