"""The follower with a real MLflow: an SQLite file, and a server that stops and starts again."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from coablate_platform.journal.journal import Journal
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import StudyPlan
from coablate_platform.tracking.follower import run_ui, tracking_uri
from coablate_platform.tracking.keeper import FollowerKeeper
from coablate_platform.tracking.view import view_key
from coablate_platform.train.events import EpochReport, Failure, RunState

pytestmark = [
    pytest.mark.timeout(120),
    # a deprecation in MLflow's own SQLAlchemy store
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
Train = Callable[..., None]
Serve = Callable[[], contextlib.AbstractContextManager[str]]
FOLLOWER = [sys.executable, "-m", "coablate_platform.tracking.follower"]


@pytest.fixture
def serve(tmp_path: Path, empty_database: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Run an MLflow server, always on the same port and with the same data, until a block ends; yields its URI."""
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # processes for jobs that no test uses
    database, port = tmp_path / "mlflow.db", str(free_port)
    shutil.copy(empty_database, database)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", (tmp_path / "artifacts").as_uri(), "--port", port, "--workers", "1"]
    return lambda: running(command, free_port, tmp_path / "server.log")


def runs(uri: str, **tags: str) -> list[Run]:
    """Return the MLflow runs that have these ``coablate`` tags."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("coablate")
    assert experiment is not None
    search = " and ".join(f"tags.`coablate.{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment.experiment_id], filter_string=search))


def catch_up(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run a follower that brings MLflow up to date once."""
    return subprocess.run([*FOLLOWER, str(directory), *options], capture_output=True, text=True, check=False)


def write_runs(plan: StudyPlan, journal: Journal, train: Train) -> None:
    """Write two of the three seed blocks: one run has diverged, and one has more metrics than MLflow takes at once."""
    train(plan.runs[0], 0.90, epochs=tuple(range(1, 301)))
    for run, accuracy in zip(plan.runs[1:6], (0.85, 0.88, 0.92, 0.88, None), strict=True):
        train(run, accuracy)
    journal.fail(plan.runs[5].run_id, 0, Failure(state=RunState.DIVERGED, reason="loss is NaN"))


def everything(uri: str) -> dict[str, object]:
    """Return everything that MLflow holds of the study, with the history of each metric."""
    client = MlflowClient(tracking_uri=uri)
    return {
        run.info.run_id: (
            run.data.tags,
            run.data.params,
            run.info.status,
            {
                key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            },
        )
        for run in runs(uri, study="fusion")
    }


def test_a_study_is_exported_as_nested_runs_and_a_second_time_changes_nothing(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train
) -> None:
    write_runs(plan, journal, train)
    process = catch_up(directory)
    assert process.returncode == 0, process.stderr
    uri = tracking_uri(str(directory))
    by_level = {
        (run.data.tags.get("coablate.arm"), run.data.tags.get("coablate.seed")): run
        for run in runs(uri, study="fusion")
    }
    assert len(by_level) == 1 + 3 + 6
    study, arm, seed = by_level[None, None], by_level["no gate", None], by_level["no gate", "0"]
    assert arm.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert seed.data.tags["mlflow.parentRunId"] == arm.info.run_id
    assert seed.data.tags["coablate.run_id"] == plan.runs[2].run_id
    assert {run.data.tags["coablate.key"] for run in by_level.values()} == {plan.key}
    assert seed.data.params == {"model.gate": "false", "model.stages": "[4, 5]", "training.epochs": "3", "seed": "0"}
    assert arm.data.params == {"model.gate": "false", "parameters": "13600000", "flops": "27000000000"}
    assert by_level["full", None].data.params["model.gate"] == "true"  # to compare with the arm "no gate"
    assert seed.data.metrics["test/accuracy"] == 0.88
    client = MlflowClient(tracking_uri=uri)
    history = client.get_metric_history(seed.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    long = client.get_metric_history(by_level["full", "0"].info.run_id, "epoch")
    assert [point.step for point in long] == list(range(1, 301))
    assert Counter(run.info.status for run in by_level.values()) == {"FINISHED": 5, "FAILED": 1, "KILLED": 4}
    assert by_level["no gate", "1"].data.tags["coablate.state"] == "diverged"
    assert by_level["no gate", "1"].data.tags["coablate.reason"] == "loss is NaN"
    assert {
        level: [
            run.data.tags["coablate.level"] for key, run in by_level.items() if run.data.tags["coablate.level"] == level
        ]
        for level in ("study", "arm", "run")
    } == {"study": ["study"], "arm": ["arm"] * 3, "run": ["run"] * 6}
    full, mmtm = by_level["full", None], by_level["fusion=mmtm|λ_0", None]
    assert (full.data.metrics["accuracy"], full.data.metrics["n"]) == (pytest.approx(0.91), 2)
    assert (mmtm.data.metrics["effect"], mmtm.data.metrics["pairs"]) == (pytest.approx(-0.045), 2)
    assert "ci_low" not in mmtm.data.metrics, "two seeds tell no interval"
    assert (full.data.tags["verdict"], mmtm.data.tags["verdict"][:13]) == ("reference", "too few seeds")
    experiment = client.get_experiment(study.info.experiment_id)
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{view_key(plan.key)}"])
    assert view["orderByKey"] == "metrics.`effect`"
    assert {"metrics.`effect`", "tags.`verdict`", "params.`model.gate`"} <= set(view["selectedColumns"])
    link, _, table = study.data.tags["mlflow.note.content"].partition("\n\n")
    assert link.endswith(f"(#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey={view_key(plan.key)})")
    assert table.startswith("**What does 10 % of fusion give?**\n\n| Arm ")
    assert {file.path for file in client.list_artifacts(study.info.run_id, "table")} == {
        f"table/table.{ending}" for ending in ("csv", "html", "json", "md", "tex")
    }
    assert {file.path for file in client.list_artifacts(study.info.run_id, "figures")} == {
        f"figures/{name}.{ending}" for name in ("cost", "curves", "effects") for ending in ("png", "svg", "pdf")
    }
    before = everything(uri)
    assert catch_up(directory).returncode == 0
    assert everything(uri) == before


def test_an_interrupted_study_leaves_no_run_running_and_is_resumed_in_the_same_runs(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, empty_database: Path
) -> None:
    """A driver is killed in the middle of a run; another driver resumes and completes the study."""
    shutil.copy(empty_database, directory / "mlflow.db")
    uri = tracking_uri(str(directory))
    code = f"""
import time
from coablate_platform.tracking.keeper import FollowerKeeper
print(FollowerKeeper({str(directory)!r}, {plan.key!r}, None, print).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            follower = int(driver.stdout.readline())
            train(plan.runs[0], None, epochs=(1, 2))
            until(lambda: [run.info.status for run in runs(uri, seed="0")] == ["RUNNING"])
        finally:
            driver.kill()  # then a zombie with a pid until it is waited for; the follower must end all the same
        until(lambda: not alive(follower))
    assert {run.info.status for run in runs(uri, key=plan.key)} == {"KILLED"}
    before = {run.info.run_id for run in runs(uri, key=plan.key)}

    process = FollowerKeeper(str(directory), plan.key, None, print)
    train(plan.runs[0], None, epochs=(2, 3), attempt=1)
    until(lambda: {run.info.status for run in runs(uri, key=plan.key)} == {"RUNNING"})
    assert {run.info.run_id for run in runs(uri, key=plan.key)} == before
    train(plan.runs[0], 0.9, epochs=(3,), attempt=1)
    for run in plan.runs[1:]:
        train(run, 0.8 + 0.01 * run.seed)
    assert process.finish() == 0
    assert Counter(run.info.status for run in runs(uri, key=plan.key)) == {"FINISHED": 13}
    first = MlflowClient(tracking_uri=uri).get_metric_history(
        runs(uri, run_id=plan.runs[0].run_id)[0].info.run_id, "epoch"
    )
    assert [point.step for point in first] == [1, 2, 3]
    assert (directory / "studies" / plan.key / "tracking.log").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_server_that_starts_late_gets_everything(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, serve: Serve, free_port: int
) -> None:
    process = FollowerKeeper(str(directory), plan.key, f"http://127.0.0.1:{free_port}", print)
    for epoch in range(1, 4):  # training does not wait for MLflow
        journal.begin(plan.runs[0].run_id, 0, {})
        journal.epoch(plan.runs[0].run_id, 0, EpochReport(epoch=epoch, metrics={"loss": 1.0}, seconds=0.1))
    until(lambda: "tracking waits for" in (directory / "studies" / plan.key / "tracking.log").read_text())
    assert alive(process.pid)
    with serve() as uri:
        for run in plan.runs:
            train(run, 0.8)
        assert process.finish() == 0
        assert Counter(run.info.status for run in runs(uri, key=plan.key)) == {"FINISHED": 13}
        study = next(run for run in runs(uri, key=plan.key) if "coablate.arm" not in run.data.tags)
        stored = MlflowClient(tracking_uri=uri).list_artifacts(study.info.run_id, "table")
        assert len(stored) == 5


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_server_that_stops_and_starts_again_gets_everything(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, serve: Serve
) -> None:
    with serve() as uri:
        process = FollowerKeeper(str(directory), plan.key, uri, print)
        train(plan.runs[0], 0.8)
        train(plan.runs[1], None, epochs=(1,))
        until(lambda: [run.info.status for run in runs(uri, seed="0", arm=plan.runs[1].arm)] == ["RUNNING"])
    train(plan.runs[1], 0.8, epochs=(2, 3))
    for run in plan.runs[2:-1]:
        train(run, 0.8)
    until(lambda: "tracking waits for" in (directory / "studies" / plan.key / "tracking.log").read_text())
    with serve() as uri:
        train(plan.runs[-1], 0.8)
        assert process.finish() == 0
        assert Counter(run.info.status for run in runs(uri, key=plan.key)) == {"FINISHED": 13}
        client = MlflowClient(tracking_uri=uri)
        for run in plan.runs:
            (tracked,) = runs(uri, run_id=run.run_id)
            points = client.get_metric_history(tracked.info.run_id, "train/loss")
            assert [point.step for point in points] == [1, 2, 3]
            assert tracked.data.metrics["test/accuracy"] == 0.8


def test_a_follower_that_cannot_reach_its_server_ends_with_advice(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, free_port: int
) -> None:
    train(plan.runs[0], 0.9)
    process = catch_up(directory, "--tracking", f"http://127.0.0.1:{free_port}", "--grace", "2")
    assert process.returncode == 1
    assert "later run `coablate track" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_mistake_of_the_user_is_one_line(directory: Path, plan: StudyPlan) -> None:
    process = catch_up(directory, "--study", "fusio")
    assert (process.returncode, process.stderr.count("\n")) == (2, 1)
    assert "did you mean 'fusion'" in process.stderr
    process = catch_up(directory, "--tracking", "htp://localhost")
    assert (process.returncode, process.stderr.count("\n")) == (2, 1)
    assert "'htp://localhost' is no address that MLflow can track to" in process.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_ui_shows_what_the_journal_holds(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, free_port: int
) -> None:
    with pytest.raises(InputError, match="holds no study"):
        run_ui(str(directory / "studies"))
    with pytest.raises(InputError, match="is a server already"):
        run_ui(str(directory), "http://127.0.0.1:1")
    write_runs(plan, journal, train)
    code = f"from coablate_platform.tracking.follower import run_ui; run_ui({str(directory)!r}, port={free_port})"
    with running([sys.executable, "-c", code], free_port, directory / "ui.log") as uri:
        assert len(runs(uri, key=plan.key)) == 10
        study = next(run for run in runs(uri, key=plan.key) if "coablate.arm" not in run.data.tags)
        address = f"{uri}/get-artifact?path=table/table.csv&run_uuid={study.info.run_id}"
        with urllib.request.urlopen(address) as answer:
            assert answer.read().startswith(b"kind,arm,difference")


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds, at most so many seconds."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, AssertionError):  # no server yet, no experiment yet
            if condition():
                return
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.3)


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Run a server until the block ends, then end its whole process group; yields its URI."""
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        until(lambda: bool(urllib.request.urlopen(f"{uri}/health", timeout=1).read()), seconds=150)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
