"""Searches on real Ray, Tune, Train, Optuna and MLflow: they conclude, and come back from a kill as they were."""

import contextlib
import csv
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlflow
import optuna
import psutil
import pytest
import ray
from processes import coablate, finished, tracked

from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog, TrialOutcome, TrialRecord
from coablate_platform.lanes.cluster import joined
from coablate_platform.lanes.tuner import Locations, run_all
from coablate_platform.planning.resolve import resolve, task_of
from coablate_platform.results.table import build_table
from coablate_platform.study.load import load_study
from coablate_platform.study.plan import SearchPlan
from coablate_platform.study.source import Sources
from coablate_platform.train.events import RunState, RunUpdate
from coablate_platform.train.task import Task

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]
STUDY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")
STATUS = {RunState.COMPLETED: "FINISHED", RunState.STOPPED: "KILLED", RunState.DIVERGED: "FAILED"}


def started(*arguments: object, faults: str = "search") -> subprocess.Popen:
    """Start a command in a session of its own, which its Ray is in too."""
    return coablate(*arguments, faults=faults, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    """Kill a command, and what it leaves of its Ray. Its follower is in a session of its own, and ends by itself."""
    process.kill()
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
    process.communicate()


def check_everything_agrees(out: Path, number: int = 12) -> JournalTrialLog:
    """Journal, Optuna and MLflow say the same of every trial, nothing is open, and nothing is there twice."""
    journal = Journal(str(out))
    plan = journal.plan()
    log = JournalTrialLog(journal, plan.key)
    trials = log.trials()
    assert [trial.number for trial in trials] == list(range(number))
    assert all(trial.outcome is not None for trial in trials)
    study = optuna.load_study(study_name=plan.key, storage=f"sqlite:///{out}/optuna.db")
    told = [(t.number, t.state.name.replace("FAIL", "FAILED"), t.values, t.params) for t in study.trials]
    assert told == [(t.number, t.outcome.name, list(t.values) or None, t.params) if t.outcome else None for t in trials]
    runs = tracked(out)
    assert "RUNNING" not in {run.info.status for run in runs}
    own = [run for run in runs if run.data.tags["coablate.key"] == plan.key]
    cells = Counter((r.data.tags.get("coablate.arm"), r.data.tags.get("coablate.seed")) for r in own)
    assert set(cells.values()) == {1}
    assert len(own) == 1 + 2 * len([trial for trial in trials if trial.run_id])
    for run in own:
        if "coablate.run_id" in run.data.tags:
            assert run.info.status == STATUS[journal.state(run.data.tags["coablate.run_id"])]
    parent = next(run for run in own if "coablate.arm" not in run.data.tags)
    assert parent.info.status == "FINISHED"
    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "report")} >= {
        "report/report.html",
        "report/trials.csv",
        "report/curves.png",
    }
    return log


def test_a_search_ends_with_a_confirmed_table(store, tmp_path):
    said = finished(started("run", STUDY, "--data", store.uri, "--out", tmp_path))
    log = check_everything_agrees(tmp_path)
    trials = log.trials()
    outcomes = Counter(trial.outcome for trial in trials)
    assert outcomes[TrialOutcome.COMPLETE] >= 1
    assert outcomes[TrialOutcome.PRUNED] >= 1
    for trial in trials:
        assert (trial.outcome is TrialOutcome.FAILED) == (trial.params["model.hidden"] % 5 == 0)
    journal = Journal(str(tmp_path))
    table = build_table(journal.concluding_plan(), journal)
    assert table.plan.confirms == journal.plan().key
    assert table.rows[0].arm == "reference"
    assert {run.seed for run in table.plan.runs} == {1, 2}
    assert all(row.summary.n == 2 for row in table.rows)
    chosen = sorted((t for t in trials if t.outcome is TrialOutcome.COMPLETE), key=lambda t: (-t.values[0], t.number))
    names = [f"trial {trial.number}" for trial in chosen if trial.number != 0][:2]
    assert [row.arm for row in table.rows][1:] == names
    assert "confirmed" in said
    assert f"│ {chosen[0].number}" in finished(started("best", tmp_path))
    html = (tmp_path / "studies" / log.key / "report" / "report.html").read_text()
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
    with (tmp_path / "studies" / log.key / "report" / "trials.csv").open() as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == [trial.outcome.value for trial in trials]
    compared = finished(started("reconcile", tmp_path, "--check")).splitlines()
    assert f"{log.key}: nothing differs (journal, Tune, Optuna, files, MLflow)" in compared
    assert f"{table.plan.key}: nothing differs (journal, Tune, files, MLflow)" in compared


def test_a_row_of_alike_failures_ends_a_search_and_a_resumed_one_has_all_of_it(store, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    command = ("run", STUDY, "--data", store.uri, "--out", tmp_path / "out", "--trials", "8")
    changes = ("--set", "model.fault=while full", "--set", f"model.folder={model}")
    (model / "full").touch()
    process = started(*command, *changes)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 1, said
    assert "coablate: search sizes has stopped: 5 runs in a row failed alike (crashed: OSError: [Errno 28] No" in said
    assert f"To continue: coablate resume {tmp_path / 'out'} --study sizes-" in said
    assert "Traceback" not in said
    before = trials_of(tmp_path / "out")
    assert 5 <= len([trial for trial in before.values() if trial.outcome is TrialOutcome.FAILED]) < 8
    (model / "full").unlink()
    finished(started("resume", tmp_path / "out"))
    after = check_everything_agrees(tmp_path / "out", number=8).trials()
    assert TrialOutcome.FAILED not in {trial.outcome for trial in after}
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "optuna.db", isolation_level=None)) as dashboard:
        dashboard.execute("BEGIN EXCLUSIVE")
        said = finished(started("resume", tmp_path / "out"))
    assert "All 8 trials are in the journal already." in said
    stale = f"Optuna's study in sqlite:///{tmp_path / 'out'}/optuna.db is not up to date (OperationalError: "
    assert stale in said
    assert f"to update it: coablate resume {tmp_path / 'out'} --study sizes-" in said
    assert [(t.params, t.run_id) for t in after if t.number in before] == [
        (t.params, t.run_id) for t in before.values()
    ]


@pytest.mark.slow
def test_a_population_s_members_go_on_from_each_other_and_the_best_are_confirmed(store, tmp_path):
    killed = started("run", STUDY, "--data", store.uri, "--out", tmp_path, faults="population")
    while not trials_of(tmp_path):
        time.sleep(0.2)
    time.sleep(2)  # among the first members
    kill(killed)
    finished(started("run", STUDY, "--data", store.uri, "--out", tmp_path, faults="population"))
    log = check_everything_agrees(tmp_path, number=8)  # five, and one for one after each of three turns
    trials, journal = log.trials(), Journal(str(tmp_path))
    assert Counter(t.outcome for t in trials) == {TrialOutcome.COMPLETE: 5, TrialOutcome.PRUNED: 3}
    for trial in trials[5:]:
        own = [report.epoch for report in journal.record(trial.run_id).epochs]
        assert own == list(range(trial.origin["epoch"] + 1, max(own) + 1))
        assert trial.epoch == max(own)
    table = build_table(journal.concluding_plan(), journal)
    assert [row.summary.n for row in table.rows] == [2] * len(table.rows)


def trials_of(out: Path) -> dict[int, TrialRecord]:
    journal = Journal(str(out))
    roots = [plan.key for plan in journal.plans() if isinstance(plan, SearchPlan)]
    return {trial.number: trial for key in roots for trial in JournalTrialLog(journal, key).trials()}


@pytest.mark.slow
def test_paused_trials_are_promoted_after_a_kill_too_and_leave_no_checkpoints(store, tmp_path):
    killed = started("run", STUDY, "--data", store.uri, "--out", tmp_path, faults="promotion")
    while sum(trial.rung > 0 for trial in trials_of(tmp_path).values()) < 2:
        time.sleep(0.2)
    kill(killed)
    before = trials_of(tmp_path)
    finished(started("resume", tmp_path, faults="promotion"))
    trials, journal = check_everything_agrees(tmp_path).trials(), Journal(str(tmp_path))
    assert {TrialOutcome.COMPLETE, TrialOutcome.PRUNED} <= {trial.outcome for trial in trials}
    for number, trial in before.items():
        assert trials[number].rung >= trial.rung
    for trial in trials:
        if trial.outcome is TrialOutcome.PRUNED:
            epochs = [report.epoch for report in journal.record(trial.run_id).epochs]
            assert epochs == list(range(1, (trial.rung or 1) + 1))
            assert not list(tmp_path.glob(f"**/{trial.run_id}/last.pt"))


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_it_had_not_been(store, tmp_path):
    chance, known, within = random.Random(0), {}, 0
    for _ in range(4):
        process = started("run", STUDY, "--data", store.uri, "--out", tmp_path, "--set", "model.pause=0.05")
        time.sleep(chance.uniform(12, 30))
        kill(process)
        trials = trials_of(tmp_path)
        within += any(trial.outcome is None for trial in trials.values())
        ended = {number: trial for number, trial in trials.items() if trial.outcome is not None}
        assert {number: ended[number] for number in known} == known
        known = ended
    finished(started("resume", tmp_path))
    check_everything_agrees(tmp_path)
    assert within, "no kill met the trials"
    after = trials_of(tmp_path)
    assert {number: after[number] for number in known} == known


@dataclass
class GivenUp:
    """A hundred runs, each stopped at its first report."""

    tasks: list[Task]
    most: int = 100
    reports: Counter[str] = field(default_factory=Counter)

    @property
    def exhausted(self) -> bool:
        return not self.tasks

    def next(self) -> Task | None:
        return self.tasks.pop(0) if self.tasks else None

    def report(self, run_id: str, update: RunUpdate) -> bool:
        assert update.epoch == 1
        self.reports[run_id] += 1
        return True

    def check(self) -> None:
        """Go on."""


def test_a_hundred_runs_that_are_given_up_free_their_lanes_at_once(store, tmp_path, monkeypatch):
    monkeypatch.setenv("FAULTS", "none")
    study = load_study(STUDY)
    opened = Store.open(store.uri)
    study = resolve(study, opened)
    config = study.config(study.arms[0])
    tasks = [
        task_of(replace(config, model=replace(config.model, hidden=2 + number)), opened.fingerprint, (0, 0))
        for number in range(100)
    ]
    scheduler = GivenUp(list(tasks))
    journal = Journal(str(tmp_path))
    for name, content in Sources.imported().files.items():
        journal.folder.write(f"source/{name}", content)
    with joined(None, [], os.abort):
        before = ray.available_resources()
        run_all(study, scheduler, Locations.below(journal.folder, opened, journal, str(tmp_path / "source")))
        deadline = time.monotonic() + 30
        while ray.available_resources().get("CPU") != before["CPU"] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert ray.available_resources()["CPU"] == before["CPU"]
    assert scheduler.reports == Counter({task.run_id: 1 for task in tasks})
    starts = sorted(journal.record(task.run_id).started or 0 for task in tasks)
    lanes = int(before["CPU"])
    gaps = [later - earlier for earlier, later in zip(starts, starts[lanes:], strict=False)]
    assert sorted(gaps)[len(gaps) // 2] < 2.0  # a lane's next run, after the one before: training, stopping, starting
