"""The progress of a study: plain lines without a terminal, one live table with one."""

import io
from dataclasses import replace

import pytest
from made_study import make_plan
from rich.console import Console
from rich.text import Text

from coablate_platform.screen.progress import Progress
from coablate_platform.study.plan import PlannedArm
from coablate_platform.train.events import RunState, RunUpdate

ARMS = [PlannedArm(name=name, difference={}, config={}, parameters=1, flops=1) for name in ("MMTM", "DSFM")]
PLAN = make_plan(*ARMS, seeds=2, title="Which [fusion]?")
RUN = {(run.arm, run.seed): run.run_id for run in PLAN.runs}


@pytest.fixture
def output():
    return io.StringIO()


def epoch(number: int, **metrics: float) -> RunUpdate:
    return RunUpdate(state=RunState.RUNNING, epoch=number, seconds=1.5, metrics=metrics)


def completed(accuracy: float) -> RunUpdate:
    return RunUpdate(state=RunState.COMPLETED, metrics={"test/accuracy": accuracy})


def progress_on(output, epochs=9, done=None, terminal=False) -> Progress:
    return Progress(PLAN, epochs, done or {}, Console(file=output, force_terminal=terminal, width=120))


def test_without_a_terminal_a_run_prints_three_epochs_and_its_end(output):
    with progress_on(output) as progress:
        for number in range(1, 10):
            metrics = {"train/accuracy": 0.5, "validation/accuracy": number / 10}
            progress.update(RUN["MMTM", 0], epoch(number, **metrics))
        progress.update(RUN["MMTM", 0], completed(0.875))
    lines = output.getvalue().splitlines()
    assert [line.partition("  [")[0] for line in lines] == [
        "MMTM, seed 0: epoch 3/9  validation 30.0%  1.5 s/epoch",
        "MMTM, seed 0: epoch 6/9  validation 60.0%  1.5 s/epoch",
        "MMTM, seed 0: epoch 9/9  validation 90.0%  1.5 s/epoch",
        "MMTM, seed 0: test accuracy 87.5%",
    ]
    assert "epochs/min" in lines[0]
    assert "left]" in lines[0]


def test_without_a_validation_split_the_training_metric_is_shown(output):
    progress_on(output, epochs=1).update(RUN["DSFM", 1], epoch(1, **{"train/accuracy": 0.25}))
    assert output.getvalue().startswith("DSFM, seed 1: epoch 1/1  train 25.0%")


def test_a_failure_is_shown_with_its_reason(output):
    reason = "RuntimeError: [red]odd[/red] brackets"
    progress_on(output).update(RUN["DSFM", 0], RunUpdate(state=RunState.CRASHED, reason=reason))
    assert output.getvalue().startswith(f"DSFM, seed 0: crashed: {reason}")


def test_the_last_line_shows_how_long_the_study_took(output):
    progress = progress_on(output, done={run.run_id: 0.5 for run in PLAN.runs[1:]})
    progress.update(PLAN.runs[0].run_id, completed(1.0))
    assert "[done in 0:00:0" in output.getvalue()


def test_a_terminal_shows_one_table_of_arms_and_seeds(output):
    with progress_on(output, done={RUN["DSFM", 1]: 0.75}, terminal=True) as progress:
        progress.update(RUN["MMTM", 0], epoch(1, **{"validation/accuracy": 0.4}))
        progress.update(RUN["DSFM", 0], RunUpdate(state=RunState.DIVERGED, reason="nan"))
    shown = output.getvalue()
    for text in ("Which [fusion]? — utd/cs", "seed 0", "seed 1", "1/9", "40.0%", "75.0%", "(known)"):
        assert text in shown
    assert "MMTM, seed 0:" not in shown
    assert "DSFM, seed 0: diverged: nan" in shown  # above the table, at once


def test_a_narrow_terminal_shows_every_seed_and_the_time_left():
    arms = [replace(ARMS[0], name=f"DSFM at a place with a long name {number}") for number in range(3)]
    plan = make_plan(*arms, seeds=9)
    output = io.StringIO()
    with Progress(plan, 9, {}, Console(file=output, force_terminal=True, width=80, height=60)) as progress:
        for run in plan.runs:
            progress.update(run.run_id, epoch(1, **{"validation/accuracy": 0.4}))
    last = output.getvalue()[output.getvalue().rindex("epochs/min") :]
    assert "about 0:00:" in last
    assert all(f"seed {seed}" in last for seed in range(9))
    assert last.count("40.0%") == len(plan.runs)
    assert "…" not in last
    assert max(len(line) for line in Text.from_ansi(last).plain.splitlines()) <= 80


def test_a_low_terminal_shows_the_arms_that_train():
    plan = make_plan(*(replace(ARMS[0], name=f"arm {number}") for number in range(30)), seeds=1)
    output = io.StringIO()
    with Progress(plan, 9, {}, Console(file=output, force_terminal=True, width=80, height=24)) as progress:
        progress.update(plan.runs[0].run_id, completed(0.5))
        progress.update(plan.runs[29].run_id, epoch(1, **{"validation/accuracy": 0.4}))
    last = output.getvalue()[output.getvalue().rindex("epochs/min") :]
    assert "arm 29" in last
    assert "more arms" in last


def test_what_begins_is_shown_until_the_first_report(output):
    with progress_on(output, terminal=True) as progress:
        progress.begin("starting 2 lanes")
    assert "starting 2 lanes" in output.getvalue()
    lines = io.StringIO()
    progress_on(lines).begin("starting 2 lanes")
    assert lines.getvalue() == "Starting 2 lanes\n"
