"""A small network that is pre-trained on two views, and the task of its run."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from coablate_model.describe import measure
from coablate_model.objective import CrossEntropy
from coablate_platform.study.config import Augmentation, DataConfig, Pretraining, RunConfig, TrainingConfig
from coablate_platform.train.task import Task


class Network(nn.Module):
    """An encoder with a projector that has batch norm, dropout, and a class layer."""

    def __init__(self, shape) -> None:
        super().__init__()
        inputs = 3 * shape.skeleton_frames * shape.joints * shape.persons
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(0.1))
        self.projector = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
        self.classify = nn.Linear(8, shape.classes)

    def forward(self, batch):
        skeleton = batch["skeleton"]
        if skeleton.ndim == 6:
            one, two = (self.projector(self.encoder(view)) for view in skeleton.unbind(1))
            return {"one": one, "two": two}
        features = self.encoder(skeleton)
        return {"features": features, "fused": self.classify(features)}


@dataclass(frozen=True)
class Spread:
    """Two views are near each other, and the views of clips apart."""

    needs_whole_batch: ClassVar[bool] = True

    def loss(self, outputs, batch, step):
        one, two = outputs["one"], outputs["two"]
        spread = sum(torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() for z in (one, two))
        return {"loss": (one - two).square().mean() + spread, "loss_spread": spread.detach()}

    def turns(self, network):
        return [[*network.encoder.parameters(), *network.projector.parameters()]]

    def features(self, outputs):
        return outputs["features"]

    def retrieval_metrics(self, gallery, gallery_labels, features, labels):
        nearest = torch.cdist(features, gallery).argmin(1)
        return {"retrieval": (gallery_labels[nearest] == labels).double().mean().item()}


@dataclass(frozen=True)
class Probe(Spread, CrossEntropy):
    """The class layer alone."""

    needs_whole_batch: ClassVar[bool] = False

    def loss(self, outputs, batch, step):
        return CrossEntropy.loss(self, outputs, batch, step)

    def turns(self, network):
        return [list(network.classify.parameters())]


@dataclass(frozen=True, kw_only=True)
class SelfSupervised:
    """The configuration of the network."""

    pretraining_views: ClassVar[int] = 2
    modalities: ClassVar[tuple[str, ...]] = ("skeleton",)

    def build(self, shape):
        return Network(shape)

    def pretraining_objective(self):
        return Spread()

    def objective(self):
        return Probe()

    def describe(self, shape):
        return measure(self.build, shape)


def two_phases(pretraining: int = 3, epochs: int = 2, workers: int = 1, **settings) -> Task:
    """Return a run with so many epochs in each phase."""
    steps = {"batch_size": 6, "learning_rate": 1e-2, "schedule": "constant"}
    config = RunConfig(
        model=SelfSupervised(),
        data=DataConfig(),
        training=TrainingConfig(**(steps | {"epochs": epochs, "workers": workers, "optimiser": "sgd"})),
        pretraining=Pretraining(
            **(steps | {"epochs": pretraining} | settings), augmentation=Augmentation(rotation=0.1)
        ),
    )
    return Task(run_id="p" * 64, config=config, seed=(0, 1))
