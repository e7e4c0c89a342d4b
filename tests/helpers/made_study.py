"""A small study and hands that play its runs into a journal."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coablate_platform.journal.journal import Journal
from coablate_platform.study.plan import PlannedArm, PlannedRun, StudyPlan
from coablate_platform.train.events import Conclusion, EpochReport, Predictions

CONTEXT = {"code": {"platform": "c0de"}, "packages": {"torch": "2.13.0", "numpy": "2.4"}, "seed": 0}


@pytest.fixture
def plan() -> StudyPlan:
    """Three arms, three seeds; names with everything that Markdown, LaTeX and MLflow must escape."""
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
    return StudyPlan(
        key="fusion-0a1b2c",
        name="fusion",
        title="What does 10 % of fusion give?",
        reference="full",
        metric="accuracy",
        selection="last",
        protocol="utd/cs",
        data={"uri": "/data/utd", "fingerprint": "f" * 64, "source": "UTD-MHAD", "test": 100},
        command={},
        arms=arms,
        runs=tuple(PlannedRun(run_id=f"{i}{s}" * 32, arm=a.name, seed=s) for s in range(3) for i, a in enumerate(arms)),
    )


@pytest.fixture
def on_ntu(plan: StudyPlan) -> StudyPlan:
    return dataclasses.replace(plan, protocol="ntu60/cs")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "results"))


@pytest.fixture
def train(journal: Journal) -> Callable[..., None]:
    """Play some epochs of a run, and its end where an accuracy is given."""

    def play(
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

    return play
