"""What MLflow refuses, what was deleted there, and odd names; with a real MLflow on an SQLite file."""

import dataclasses
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, ViewType
from mlflow.exceptions import MlflowException

from coablate_platform.study.plan import PlannedArm, StudyPlan
from coablate_platform.tracking.follower import tracking_uri
from coablate_platform.tracking.mlflow_runs import STUDY, MlflowRuns, RunDeletedError
from coablate_platform.tracking.refusals import Refusals, is_refusal, reason_of

pytestmark = [
    pytest.mark.timeout(120),
    # a deprecation in MLflow's own SQLAlchemy store
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
FOR_EVER = ("--grace", "100000")
"""Options with which a follower that takes a refusal for an outage does not end within the test's time limit."""
LONG = "a very telling name " * 13


@pytest.fixture
def database(directory: Path, empty_database: Path) -> str:
    """The tracking URI of the results folder, whose database is empty."""
    shutil.copy(empty_database, directory / "mlflow.db")
    return tracking_uri(str(directory))


@pytest.fixture
def forbidding() -> Iterator[str]:
    """A server that forbids everything, as one does to users whom it does not know; yields its URI."""

    class Forbids(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b'{"error_code": "PERMISSION_DENIED", "message": "no\\nentry"}')

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbids) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def catch_up(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Bring MLflow up to date once, in a process of its own."""
    command = [sys.executable, "-m", "coablate_platform.tracking.follower", str(directory), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tree(uri: str) -> dict[tuple[str | None, str | None], Run]:
    """Return (arm, seed) -> active run, of all studies in a database."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("coablate")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    levels = [(run.data.tags.get("coablate.arm"), run.data.tags.get("coablate.seed")) for run in runs]
    assert len(set(levels)) == len(levels)
    return dict(zip(levels, runs, strict=True))


def test_a_study_with_odd_names_is_tracked_whole_and_only_once(directory, plan, journal, train, database):
    names = ("full", "λ=0.25//r=4", LONG, LONG + "x", "who's", "..")
    arms = [dataclasses.replace(plan.arms[0], name=name, difference={}) for name in names]
    odd = odd_study(plan, arms)
    journal.write_plan(odd)
    for run in odd.runs:
        train(run, 0.5 + 0.1 * run.seed)
    for _ in range(2):
        process = catch_up(directory, "--study", odd.key)
        assert process.returncode == 0, process.stderr
        assert "MLflow at" not in process.stderr
        runs = tree(database)
        assert len(runs) == 1 + 6 + 12
        for name in names[1:]:
            assert runs[name, None].data.metrics["effect"] == pytest.approx(0)
        assert {run.info.status for run in runs.values()} == {"FINISHED"}


def odd_study(plan: StudyPlan, arms: list[PlannedArm]) -> StudyPlan:
    """Return a study with an apostrophe in its name and two seeds of each arm."""
    seeds = [(arm, seed, f"{place}{seed}" * 32) for seed in range(2) for place, arm in enumerate(arms)]
    runs = tuple(dataclasses.replace(plan.runs[0], run_id=run_id, arm=arm.name, seed=s) for arm, s, run_id in seeds)
    return dataclasses.replace(plan, name="who's first", key="who's first-0a1b2c", arms=tuple(arms), runs=runs)


def test_what_was_deleted_comes_back_below_its_new_parent(directory, plan, journal, train, database):
    for run in plan.runs:
        train(run, 0.5 + 0.1 * run.seed)
    assert catch_up(directory).returncode == 0
    before, client = tree(database), MlflowClient(tracking_uri=database)
    for level in (STUDY, ("no gate", None), ("full", "1")):
        client.delete_run(before[level].info.run_id)
    assert catch_up(directory).returncode == 0
    after = tree(database)
    assert after.keys() == before.keys()
    for (arm, seed), run in after.items():
        parent = STUDY if seed is None else (arm, None)
        if arm is not None:
            assert run.data.tags["mlflow.parentRunId"] == after[parent].info.run_id
        old = before[arm, seed]
        assert (run.data.metrics, run.data.params, run.info.status) == (
            old.data.metrics,
            old.data.params,
            old.info.status,
        )
    for folder in ("table", "figures"):
        assert client.list_artifacts(after[STUDY].info.run_id, folder)


def test_a_deleted_experiment_is_restored_with_its_runs(directory, plan, train, database):
    train(plan.runs[0], 0.9)
    assert catch_up(directory).returncode == 0
    before, client = tree(database), MlflowClient(tracking_uri=database)
    client.delete_experiment(before[STUDY].info.experiment_id)
    assert not client.search_experiments(view_type=ViewType.ACTIVE_ONLY, filter_string="name = 'coablate'")
    assert catch_up(directory).returncode == 0
    assert {run.info.run_id for run in tree(database).values()} == {run.info.run_id for run in before.values()}


def test_what_mlflow_refuses_is_said_once_and_does_not_hold_up_the_rest(plan, database, capsys):
    refusals = Refusals("there")
    runs = MlflowRuns(plan, MlflowClient(database), None, refusals)
    study = runs.open(STUDY, "study", {}, {}, 1.0)
    metrics = [Metric(name, 1.0, 1, 1) for name in ("a", "x//y", "b", "c", "..", "d")]
    for _ in range(2):
        runs.log(study, metrics=metrics, params={"p": 1}, tags={"t": "2"})
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" refuses ")[2].partition(":")[0] for line in said] == [
        "metric 'x//y' of run 'study'",
        "metric '..' of run 'study'",
    ]
    assert "INVALID_PARAMETER_VALUE" in said[0] or "Invalid value" in said[0]
    assert refusals.any
    held = MlflowClient(tracking_uri=database).get_run(study.id).data
    assert (held.metrics, held.params) == (dict.fromkeys("abcd", 1.0), {"p": "1"})
    assert held.tags["t"] == "2"


def test_files_that_cannot_be_stored_do_not_hold_up_the_rest(directory, plan, train, database):
    (directory / "mlartifacts").write_text("no folder\n")
    for run in plan.runs:
        train(run, 0.9)
    process = catch_up(directory, *FOR_EVER)
    assert process.returncode == 1
    for folder in ("table", "figures"):
        assert f"refuses its {folder} of run" in process.stderr
    assert process.stderr.count("\n") == 2
    assert "out of reach" not in process.stderr
    assert {run.info.status for run in tree(database).values()} == {"FINISHED"}


def test_a_run_that_is_deleted_meanwhile_is_noticed(plan, database):
    runs = MlflowRuns(plan, MlflowClient(database), None, Refusals("there"))
    study = runs.open(STUDY, "study", {}, {}, 1.0)
    MlflowClient(tracking_uri=database).delete_run(study.id)
    with pytest.raises(RunDeletedError, match="run 'study' was deleted in MLflow"):
        runs.log(study, params={"p": 1})
    again = MlflowRuns(plan, MlflowClient(database), None, Refusals("there")).open(STUDY, "study", {}, {"p": 1}, 1.0)
    assert again.id != study.id


def test_a_server_that_refuses_everything_is_not_waited_for(directory, plan, train, forbidding):
    train(plan.runs[0], 0.9)
    process = catch_up(directory, "--tracking", forbidding, *FOR_EVER)
    assert process.returncode == 1
    assert f"MLflow at {forbidding} refuses: PERMISSION_DENIED: no entry" in process.stderr
    assert "out of reach" not in process.stderr
    assert "Traceback" not in process.stderr


def test_refusals_and_outages_are_told_apart(tmp_path):
    refused = MlflowException.invalid_parameter_value("bad\nname")
    assert is_refusal(refused)
    assert reason_of(refused) == "bad name"
    assert not is_refusal(MlflowException("the database is locked"))
    assert not is_refusal(ConnectionError("refused"))
    assert not is_refusal(TimeoutError())
    with pytest.raises(OSError, match="tmp") as error:
        (tmp_path / "file" / "below").write_text("")
    assert is_refusal(error.value)
    assert not is_refusal(OSError(28, os.strerror(28)))  # a full disk may have room later
    assert len(reason_of(ValueError("x" * 1000))) == 301


def test_another_study_with_the_same_digest_is_not_taken_for_this_one(plan, database):
    MlflowRuns(plan, MlflowClient(database), None, Refusals("there")).open(STUDY, "study", {}, {}, 1.0)
    other = dataclasses.replace(plan, key="other-" + plan.key.rpartition("-")[2])
    assert MlflowRuns(other, MlflowClient(database), None, Refusals("there")).logged == {}
    assert STUDY in MlflowRuns(plan, MlflowClient(database), None, Refusals("there")).logged
