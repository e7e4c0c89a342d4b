"""A study of fast models that fail on purpose: one trains, others diverge, raise, run out of memory or die.

Read as ``coablate run tests/helpers/faulty_study.py``; tests override ``model.folder`` (where a model leaves its marks
and a line a training step, and where a file ``full`` says that the disk is full), ``model.pause`` (seconds a step) and
the arms through the environment. With ``FAULTS=search`` it is a search in which models of every fifth size diverge,
with ``FAULTS=population`` one by population-based training.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from coablate_model.objective import CrossEntropy
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.domains import Float, Int
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space
from coablate_platform.study.study import Arm, Resources, Study

Fault = Literal[
    "none", "diverge", "fifth", "raise", "while full", "memory", "memory once", "die", "die once", "hang once"
]


@dataclass(frozen=True, kw_only=True)
class Cost:
    parameters: int
    flops: int
    activation_bytes: int


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """Two linear layers on the skeleton; ``fault`` says what happens in the second epoch."""

    hidden: int = 16
    fault: Fault = "none"
    folder: str = ""
    pause: float = 0.0

    @property
    def modalities(self) -> tuple[str, ...]:
        return ("skeleton",)

    def build(self, shape) -> nn.Module:
        return Net(self, shape)

    def objective(self) -> CrossEntropy:
        return CrossEntropy(heads=("fused",), mode="joint", label_smoothing=0.0)

    def describe(self, shape) -> Cost:
        parameters = sum(p.numel() for p in self.build(shape).parameters())
        return Cost(parameters=parameters, flops=2 * parameters, activation_bytes=4 * self.hidden)


class Net(nn.Module):
    """Counts the training steps it has made in the process it lives in."""

    def __init__(self, config: Faulty, shape) -> None:
        super().__init__()
        features = 3 * shape.skeleton_frames * shape.joints * shape.persons
        self.layers = nn.Sequential(nn.Linear(features, config.hidden), nn.ReLU(), nn.Dropout(0.2))
        self.out = nn.Linear(config.hidden, shape.classes)
        self.config, self.steps = config, 0

    def forward(self, batch):
        logits = self.out(self.layers(batch["skeleton"].flatten(1)))
        if self.training:
            self.steps += 1
            if self.config.folder:
                with (Path(self.config.folder) / "steps").open("a") as steps:
                    steps.write(f"{self.config.fault}\n")
            time.sleep(self.config.pause)
            if self.steps == 3:  # the first step of the second epoch
                logits = self.fail(logits)
        return {"fused": logits}

    def fail(self, logits):
        fault, mark = self.config.fault, Path(self.config.folder) / "failed-once"
        if fault == "diverge" or (fault == "fifth" and self.config.hidden % 5 == 0):
            return logits * float("nan")
        if fault == "raise":
            raise RuntimeError("the model is broken on purpose")
        if fault == "while full" and (Path(self.config.folder) / "full").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.config.folder)
        if fault == "memory" or (fault == "memory once" and not mark.exists()):
            if fault == "memory once":
                mark.touch()
            raise torch.OutOfMemoryError("asked for more than there is")
        with contextlib.suppress(FileExistsError):  # of several workers one dies
            if fault in ("die once", "hang once"):
                mark.touch(exist_ok=False)
            if fault == "hang once":
                time.sleep(3600)
            if fault in ("die", "die once"):
                os.kill(os.getpid(), signal.SIGKILL)
        return logits


FAULTS = os.environ.get("FAULTS", "none,diverge,raise,memory,none again").split(",")
BASE = RunConfig(
    model=Faulty(),
    data=DataConfig(skeleton_frames=8),
    training=TrainingConfig(epochs=4, batch_size=7, learning_rate=1e-2),
)


def arms(faults: list[str]) -> Study:
    return Study(
        name="faulty",
        title="Arms that fail on purpose",
        base=BASE,
        arms=tuple(
            Arm(name=fault, changes={"model.fault": fault.partition(" again")[0], "model.hidden": 16 + number})
            for number, fault in enumerate(faults)
        ),
        reference=faults[0],
        seeds=1,
        resources=Resources(hang_after=6.0 if "hang once" in faults else None),
    )


SEARCH = Search(
    name="sizes",
    title="Sizes of a fast model",
    base=replace(BASE, model=Faulty(fault="fifth")),
    space=Space(
        {"model.hidden": Int(low=2, high=64, log=True), "training.learning_rate": Float(low=1e-3, high=1.0, log=True)}
    ),
    trials=12,
    stopping=Stopping(rule="asha", grace=1, reduction=2),
    confirm=2,
    seeds=2,
)
POPULATION = Search(
    name="rates",
    title="Rates of a fast model, changed while it trains",
    base=replace(BASE, model=Faulty(pause=0.02)),
    space=Space({"training.learning_rate": Float(low=1e-3, high=1.0, log=True)}),
    trials=5,
    sampler="random",
    stopping=Stopping(rule="pbt", grace=1, reduction=3),
    confirm=2,
    seeds=2,
)
PROMOTION = replace(
    SEARCH, name="promoted", stopping=Stopping(rule="asha_promotion", grace=1, reduction=2, paused=3), sampler="random"
)
STUDY = {"search": SEARCH, "promotion": PROMOTION, "population": POPULATION}.get(FAULTS[0]) or arms(FAULTS)
