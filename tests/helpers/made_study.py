"""A small study, and a function that writes its runs to a journal without training them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coablate_platform.journal.journal import Journal
from coablate_platform.study.plan import PlannedArm, PlannedRun, StudyPlan
from coablate_platform.train.events import Conclusion, EpochReport, Predictions

CONTEXT = {"code": {"platform": "c0de"}, "packages": {"torch": "2.13.0", "numpy": "2.4"}, "seed": 0}


@pytest.fixture
def plan() -> StudyPlan:
    """Three arms, three seeds; their names hold characters that Markdown, LaTeX and MLflow need escaped."""
    arms = (
        PlannedArm(
            name="full",
            difference={},
            config={"model": {"gate": True, "stages": [4, 5]}, "training": {"epochs": 3}},
            parameters=13_700_000,
            flops=27_100_000_000,
            published={"ntu60/cs": 93.8, "ntu60/cv": 97.2},
        ),
        PlannedArm(
            name="fusion=mmtm|λ_0",
            difference={"model.fusion": "mmtm"},
            config={"model": {"gate": False, "stages": [4]}, "training": {"epochs": 3}},
            parameters=9_100,
            flops=850,
            published={"ntu60/cs": 89.4},
        ),
        PlannedArm(
            name="no gate",
            difference={"model.gate": False},
            config={"model": {"gate": False, "stages": [4, 5]}, "training": {"epochs": 3}},
            parameters=13_600_000,
            flops=27_000_000_000,
        ),
    )
    data = {"uri": "/data/utd", "fingerprint": "f" * 64, "source": "UTD-MHAD", "test": 100}
    return make_plan(*arms, seeds=3, title="What does 10 % of fusion give?", data=data)


@pytest.fixture
def on_ntu(plan: StudyPlan) -> StudyPlan:
    """The same study on the protocol for which its values were published."""
    return dataclasses.replace(plan, protocol="ntu60/cs")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "results"))


@pytest.fixture
def train(journal: Journal) -> Callable[..., None]:
    """Write some epochs of a run, and its conclusion if an accuracy is given."""

    def write(
        run: PlannedRun,
        accuracy: float | None,
        epochs: tuple[int, ...] = (1, 2, 3),
        attempt: int = 0,
        **context: object,
    ) -> None:
        journal.begin(run.run_id, attempt, CONTEXT | {"seed": run.seed} | context)
        for epoch in epochs:
            metrics = {"train/loss": 1 / epoch, "validation/accuracy": 0.1 * epoch}
            journal.epoch(run.run_id, attempt, EpochReport(epoch=epoch, metrics=metrics, seconds=0.5))
        if accuracy is not None:
            scores = Predictions(names=["clip"], labels=np.array([0]), scores=np.zeros((1, 2), np.float32))
            ending = Conclusion(epoch=epochs[-1], metrics={"accuracy": accuracy}, predictions=scores)
            journal.conclude(run.run_id, attempt, ending)

    return write


def make_plan(*arms: PlannedArm, seeds: int = 1, **fields: Any) -> StudyPlan:
    """Return the plan of a study with these arms, the first of them the reference; ``fields`` are its other fields."""
    runs = (
        PlannedRun(run_id=f"{place}{seed}" * 32, arm=arm.name, seed=seed)
        for seed in range(seeds)
        for place, arm in enumerate(arms)
    )
    plan = StudyPlan(
        key="fusion-0a1b2c",
        name="fusion",
        title="Fusion",
        reference=arms[0].name,
        metric="accuracy",
        selection="last",
        protocol="utd/cs",
        data={},
        command={},
        arms=arms,
        runs=tuple(runs),
    )
    return dataclasses.replace(plan, **fields)
