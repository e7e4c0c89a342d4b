"""The follower against real MLflow: SQLite, and a real server that goes away and comes back."""

import contextlib
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
from coablate_platform.tracking.follower import finish_follower, run_ui, start_follower, tracking_uri
from coablate_platform.train.events import EpochReport, Failure, RunState

pytestmark = [
    pytest.mark.timeout(120),
    # MLflow's own, in its SQLAlchemy store
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
Train = Callable[..., None]
FOLLOWER = [sys.executable, "-m", "coablate_platform.tracking.follower"]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: its some forty migrations take most of ten seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def directory(journal: Journal, plan: StudyPlan) -> Path:
    journal.write_plan(plan)
    assert journal.folder.local is not None
    return journal.folder.local


def runs(uri: str, **tags: str) -> list[Run]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("coablate")
    assert experiment is not None
    search = " and ".join(f"tags.`coablate.{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment.experiment_id], filter_string=search))


def catch_up(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*FOLLOWER, str(directory), *options], capture_output=True, text=True, check=False)


def play(plan: StudyPlan, journal: Journal, train: Train) -> None:
    """Two seed blocks: completed but for one that diverged; the third not begun. One run exceeds MLflow's batches."""
    train(plan.runs[0], 0.90, epochs=tuple(range(1, 301)))
    for run, accuracy in zip(plan.runs[1:6], (0.85, 0.88, 0.92, 0.88, None), strict=True):
        train(run, accuracy)
    journal.fail(plan.runs[5].run_id, 0, Failure(state=RunState.DIVERGED, reason="loss is NaN"))


def everything(uri: str) -> dict[str, object]:
    """All that MLflow holds, with every logged point."""
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


def test_layout_and_idempotency(directory: Path, plan: StudyPlan, journal: Journal, train: Train) -> None:
    play(plan, journal, train)
    done = catch_up(directory)
    assert done.returncode == 0, done.stderr
    uri = tracking_uri(str(directory))
    found = {
        (run.data.tags.get("coablate.arm"), run.data.tags.get("coablate.seed")): run
        for run in runs(uri, study="fusion")
    }
    assert len(found) == 1 + 3 + 6
    study, arm, seed = found[None, None], found["no gate", None], found["no gate", "0"]
    assert arm.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert seed.data.tags["mlflow.parentRunId"] == arm.info.run_id
    assert seed.data.tags["coablate.run_id"] == plan.runs[2].run_id
    assert {run.data.tags["coablate.key"] for run in found.values()} == {plan.key}
    assert seed.data.params == {"model.gate": "false", "model.stages": "[4, 5]", "training.epochs": "3", "seed": "0"}
    assert arm.data.params == {"model.gate": "false", "parameters": "13600000", "flops": "27000000000"}
    assert found["full", None].data.params["model.gate"] == "true"  # beside the arm's that has none
    assert seed.data.metrics["test/accuracy"] == 0.88
    client = MlflowClient(tracking_uri=uri)
    history = client.get_metric_history(seed.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    long = client.get_metric_history(found["full", "0"].info.run_id, "epoch")
    assert [point.step for point in long] == list(range(1, 301))
    assert Counter(run.info.status for run in found.values()) == {"FINISHED": 5, "FAILED": 1, "KILLED": 4}
    assert found["no gate", "1"].data.tags["coablate.state"] == "diverged"
    assert found["no gate", "1"].data.tags["coablate.reason"] == "loss is NaN"
    assert found["full", None].data.metrics["mean/accuracy"] == pytest.approx(0.91)
    assert found["full", None].data.metrics["n"] == 2
    assert study.data.metrics["effect/fusion_mmtm_λ_0"] == pytest.approx(-0.045)
    assert study.data.metrics["ci_low/fusion_mmtm_λ_0"] < -0.045 < study.data.metrics["ci_high/fusion_mmtm_λ_0"]
    assert {file.path for file in client.list_artifacts(study.info.run_id, "table")} == {
        f"table/table.{ending}" for ending in ("csv", "html", "json", "md", "tex")
    }
    assert {file.path for file in client.list_artifacts(study.info.run_id, "figures")} == {
        f"figures/{name}.{ending}" for name in ("curves", "effects") for ending in ("png", "svg")
    }
    before = everything(uri)
    assert catch_up(directory).returncode == 0
    assert everything(uri) == before


def test_an_interrupted_study_leaves_nothing_running_and_resumes(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, empty_database: Path
) -> None:
    """A driver is killed in the middle of a run; the study is resumed by another one and completed."""
    shutil.copy(empty_database, directory / "mlflow.db")
    uri = tracking_uri(str(directory))
    code = f"""
import time
from coablate_platform.tracking.follower import start_follower
print(start_follower({str(directory)!r}, {plan.key!r}).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            follower = int(driver.stdout.readline())
            train(plan.runs[0], None, epochs=(1, 2))
            until(lambda: [run.info.status for run in runs(uri, seed="0")] == ["RUNNING"])
        finally:
            driver.kill()  # it stays a zombie until it is waited for: the follower must see through that
        until(lambda: not alive(follower))
    assert {run.info.status for run in runs(uri, key=plan.key)} == {"KILLED"}
    before = {run.info.run_id for run in runs(uri, key=plan.key)}

    process = start_follower(str(directory), plan.key)
    train(plan.runs[0], None, epochs=(2, 3), attempt=1)
    until(lambda: {run.info.status for run in runs(uri, key=plan.key)} == {"RUNNING"})
    assert {run.info.run_id for run in runs(uri, key=plan.key)} == before
    train(plan.runs[0], 0.9, epochs=(3,), attempt=1)
    for run in plan.runs[1:]:
        train(run, 0.8 + 0.01 * run.seed)
    assert finish_follower(process) == 0
    assert Counter(run.info.status for run in runs(uri, key=plan.key)) == {"FINISHED": 13}
    first = MlflowClient(tracking_uri=uri).get_metric_history(
        runs(uri, run_id=plan.runs[0].run_id)[0].info.run_id, "epoch"
    )
    assert [point.step for point in first] == [1, 2, 3]
    assert (directory / "studies" / plan.key / "tracking.log").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_server_that_was_down_is_caught_up_with(
    directory: Path,
    plan: StudyPlan,
    journal: Journal,
    train: Train,
    empty_database: Path,
    tmp_path: Path,
    free_port: int,
) -> None:
    process = start_follower(str(directory), plan.key, f"http://127.0.0.1:{free_port}")
    for epoch in range(1, 4):  # training goes on beside it, at its own pace
        journal.begin(plan.runs[0].run_id, 0, {})
        journal.epoch(plan.runs[0].run_id, 0, EpochReport(epoch=epoch, metrics={"loss": 1.0}, seconds=0.1))
    until(lambda: "tracking waits for" in (directory / "studies" / plan.key / "tracking.log").read_text())
    assert process.poll() is None
    with server(tmp_path, empty_database, free_port) as uri:
        for run in plan.runs:
            train(run, 0.8)
        assert finish_follower(process) == 0
        assert Counter(run.info.status for run in runs(uri, key=plan.key)) == {"FINISHED": 13}
        study = next(run for run in runs(uri, key=plan.key) if "coablate.arm" not in run.data.tags)
        stored = MlflowClient(tracking_uri=uri).list_artifacts(study.info.run_id, "table")
        assert len(stored) == 5


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_server_that_goes_away_in_the_middle_misses_nothing(
    directory: Path,
    plan: StudyPlan,
    journal: Journal,
    train: Train,
    empty_database: Path,
    tmp_path: Path,
    free_port: int,
) -> None:
    with server(tmp_path, empty_database, free_port) as uri:
        process = start_follower(str(directory), plan.key, uri)
        train(plan.runs[0], 0.8)
        train(plan.runs[1], None, epochs=(1,))
        until(lambda: [run.info.status for run in runs(uri, seed="0", arm=plan.runs[1].arm)] == ["RUNNING"])
    train(plan.runs[1], 0.8, epochs=(2, 3))
    for run in plan.runs[2:-1]:
        train(run, 0.8)
    until(lambda: "tracking waits for" in (directory / "studies" / plan.key / "tracking.log").read_text())
    with server(tmp_path, empty_database, free_port) as uri:
        train(plan.runs[-1], 0.8)
        assert finish_follower(process) == 0
        assert Counter(run.info.status for run in runs(uri, key=plan.key)) == {"FINISHED": 13}
        client = MlflowClient(tracking_uri=uri)
        for run in plan.runs:
            (tracked,) = runs(uri, run_id=run.run_id)
            points = client.get_metric_history(tracked.info.run_id, "train/loss")
            assert [point.step for point in points] == [1, 2, 3]
            assert tracked.data.metrics["test/accuracy"] == 0.8


def test_a_server_that_never_comes_back_is_given_up_with_advice(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, free_port: int
) -> None:
    train(plan.runs[0], 0.9)
    done = catch_up(directory, "--tracking", f"http://127.0.0.1:{free_port}", "--grace", "2")
    assert done.returncode == 1
    assert "run `coablate track" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_users_mistake_is_one_line(directory: Path, plan: StudyPlan) -> None:
    done = catch_up(directory, "--study", "fusio")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "did you mean 'fusion'" in done.stderr
    done = catch_up(directory, "--tracking", "htp://localhost")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'htp://localhost' is no address" in done.stderr
    with pytest.raises(InputError, match="name an MLflow server"):
        tracking_uri("fsspec+memory:///x")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_ui_serves_what_was_tracked(
    directory: Path, plan: StudyPlan, journal: Journal, train: Train, free_port: int
) -> None:
    with pytest.raises(InputError, match="was not tracked yet"):
        run_ui(str(directory))
    with pytest.raises(InputError, match="is a server already"):
        run_ui(str(directory), "http://127.0.0.1:1")
    play(plan, journal, train)
    assert catch_up(directory).returncode == 0
    code = f"from coablate_platform.tracking.follower import run_ui; run_ui({str(directory)!r}, port={free_port})"
    with running([sys.executable, "-c", code], free_port, directory / "ui.log") as uri:
        assert len(runs(uri, key=plan.key)) == 10
        study = next(run for run in runs(uri, key=plan.key) if "coablate.arm" not in run.data.tags)
        address = f"{uri}/get-artifact?path=table/table.csv&run_uuid={study.info.run_id}"
        with urllib.request.urlopen(address) as answer:
            assert answer.read().startswith(b"arm,difference")


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, AssertionError):  # no server yet, no experiment yet
            if condition():
                return
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def server(folder: Path, database: Path, port: int) -> Iterator[str]:
    """Serve what the folder holds from an earlier time, or an empty database."""
    if not (folder / "mlflow.db").exists():
        shutil.copy(database, folder / "mlflow.db")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri(), "--port", str(port), "--workers", "1"]
    with running(command, port, folder / "server.log") as uri:
        yield uri


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Run a server in a process group of its own, and end all of it."""
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        until(lambda: bool(urllib.request.urlopen(f"{uri}/health", timeout=1).read()), seconds=150)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
