"""What a user reads while a study runs: plain lines without a terminal, one live table with one."""

import io

import pytest
from rich.console import Console

from coablate_platform.screen.progress import Progress
from coablate_platform.study.plan import PlannedArm, PlannedRun, StudyPlan
from coablate_platform.train.events import RunState, RunUpdate

RUNS = tuple(PlannedRun(run_id=f"{arm}{seed}", arm=arm, seed=seed) for seed in (0, 1) for arm in ("MMTM", "DSFM"))
PLAN = StudyPlan(
    key="s-000000",
    name="s",
    title="Which [fusion]?",
    reference="MMTM",
    metric="accuracy",
    selection="last",
    protocol="utd/cs",
    data={},
    command={},
    arms=tuple(PlannedArm(name=arm, difference={}, config={}, parameters=1, flops=1) for arm in ("MMTM", "DSFM")),
    runs=RUNS,
)


@pytest.fixture
def said():
    return io.StringIO()


def epoch(number: int, **metrics: float) -> RunUpdate:
    return RunUpdate(state=RunState.RUNNING, epoch=number, seconds=1.5, metrics=metrics)


def completed(accuracy: float) -> RunUpdate:
    return RunUpdate(state=RunState.COMPLETED, metrics={"test/accuracy": accuracy})


def watched(said, epochs=9, done=None, terminal=False) -> Progress:
    return Progress(PLAN, epochs, done or {}, Console(file=said, force_terminal=terminal, width=120))


def test_a_run_says_three_epochs_and_its_end(said):
    with watched(said) as progress:
        for number in range(1, 10):
            metrics = {"train/accuracy": 0.5, "validation/accuracy": number / 10}
            progress.update("MMTM0", epoch(number, **metrics))
        progress.update("MMTM0", completed(0.875))
    lines = said.getvalue().splitlines()
    assert [line.partition("  [")[0] for line in lines] == [
        "MMTM, seed 0: epoch 3/9  validation 30.0%  1.5 s/epoch",
        "MMTM, seed 0: epoch 6/9  validation 60.0%  1.5 s/epoch",
        "MMTM, seed 0: epoch 9/9  validation 90.0%  1.5 s/epoch",
        "MMTM, seed 0: test accuracy 87.5%",
    ]
    assert "epochs/min" in lines[0]
    assert "left]" in lines[0]


def test_without_validation_the_training_is_shown(said):
    watched(said, epochs=1).update("DSFM1", epoch(1, **{"train/accuracy": 0.25}))
    assert said.getvalue().startswith("DSFM, seed 1: epoch 1/1  train 25.0%")


def test_a_failure_is_said_with_its_reason(said):
    reason = "RuntimeError: [red]odd[/red] brackets"
    watched(said).update("DSFM0", RunUpdate(state=RunState.CRASHED, reason=reason))
    assert said.getvalue().startswith(f"DSFM, seed 0: crashed: {reason}")


def test_the_last_end_says_how_long_it_took(said):
    progress = watched(said, done={run.run_id: 0.5 for run in RUNS[1:]})
    progress.update("MMTM0", completed(1.0))
    assert "[done in 0:00:0" in said.getvalue()


def test_a_terminal_gets_one_table_of_arms_and_seeds(said):
    with watched(said, done={"DSFM1": 0.75}, terminal=True) as progress:
        progress.update("MMTM0", epoch(1, **{"validation/accuracy": 0.4}))
        progress.update("DSFM0", RunUpdate(state=RunState.DIVERGED, reason="nan"))
    shown = said.getvalue()
    for text in ("Which [fusion]? — utd/cs", "seed 0", "seed 1", "1/9  validation 40.0%", "75.0% (known)", "diverged"):
        assert text in shown
    assert "DSFM, seed 0:" not in shown
