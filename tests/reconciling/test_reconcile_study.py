"""`coablate reconcile` on a study, with a real MLflow: what was changed is found, mended, and then no longer found."""

import contextlib
import dataclasses
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from coablate_platform.driver import conclude
from coablate_platform.journal.storage import Folder
from coablate_platform.journal.tune_check import account_keeper
from coablate_platform.session import only_user
from coablate_platform.tracking.follower import track, tracking_uri
from coablate_platform.tracking.relocate import relocate_artifacts
from coablate_platform.train.events import Failure, RunState, RunUpdate

pytestmark = [
    pytest.mark.timeout(120),
    # a deprecation in MLflow's own SQLAlchemy store
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


ENDED: list[Path] = []
"""The results folder of a study that has ended, once a test has made it; each test gets a copy."""


@pytest.fixture
def out(plan, journal, train, empty_database, tmp_path) -> Path:
    """A results folder of a study that has ended, one of whose runs has diverged, as `run` leaves it."""
    folder = journal.folder.local
    if not ENDED:
        journal.write_plan(plan)
        for run in plan.runs[:-1]:
            train(run, 0.8 + 0.01 * run.seed)
        train(plan.runs[-1], None)
        journal.fail(plan.runs[-1].run_id, 0, Failure(state=RunState.DIVERGED, reason="loss is NaN"))
        conclude(plan, journal, allow_mixed=False)
        shutil.copy(empty_database, folder / "mlflow.db")
        assert track(str(folder), plan.key, None) == 0
        ENDED.append(Path(shutil.copytree(folder, empty_database.parent / "ended")))
    else:
        shutil.copytree(ENDED[0], folder)
        relocate_artifacts(folder)
    return folder


def assert_agrees(coablate, folder: Path) -> None:
    answer = coablate("reconcile", folder, "--check")
    assert (answer.code, answer.out) == (0, "fusion-0a1b2c: nothing differs (journal, Tune, files, MLflow)\n"), answer


def runs(folder: Path) -> dict[str, Run]:
    """Return the MLflow runs by their names."""
    client = client_of(folder)
    (experiment,) = client.search_experiments(filter_string="name = 'coablate'")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking_uri(str(folder)))


def test_whatever_was_changed_is_found_mended_and_then_no_longer_found(out, plan, journal, coablate):
    before = {run.info.run_name: run for run in runs(out).values()}
    change_mlflow(out, before)
    folder = out / "studies" / plan.key
    table = (folder / "table.md").read_bytes()
    (folder / "table.md").unlink()
    (folder / "figures" / "effects.svg").write_text("mine\n")
    account_keeper(journal, plan.key)(told(plan))
    lines = (
        f"Tune: run {plan.runs[2].run_id[:12]}: running after epoch 9, expected completed after epoch 3",
        f"Tune: run {plan.runs[-1].run_id[:12]}: completed, expected diverged after epoch 3",
        "files: table.md: is missing, expected that of the journal",
        "files: figures/effects.svg: has another content",
        "MLflow: full seed 0: is missing, expected a run; not mended",
        "MLflow: no gate: is missing",
        "MLflow: no gate seed 0: tag coablate.state is 'crashed', expected 'completed' (and 1 tags more)",
        "MLflow: no gate seed 1: tag mlflow.parentRunId is 'a run that is not there', expected 'no gate'",
        "MLflow: no gate seed 2: tag mlflow.parentRunId",
        "MLflow: full seed 1: metric test/accuracy: 0.99 at step 3, expected nothing",
        "MLflow: full: metric accuracy: 0.99 at step 0, expected 0.81",
        "MLflow: full seed 2: status RUNNING, expected FINISHED",
        "MLflow: no gate seed 1: param seed is '7', expected '1'",
        "MLflow: full seed 17: is there",
        "MLflow: the study's run, table/table.csv: is missing",
    )
    found = coablate("reconcile", out, "--check")
    assert found.code == 1
    assert [text for text in lines if text not in found.out] == [], found.out
    assert len(found.out.splitlines()) == len(lines), found.out
    answer = coablate("reconcile", out)
    assert answer.code == 0, answer
    assert len(answer.out.splitlines()) == len(lines), answer.out
    assert "mended" not in answer.out
    assert_agrees(coablate, out)
    assert (folder / "table.md").read_bytes() == table
    after = runs(out)
    assert after.keys() == before.keys()
    assert after["full seed 1"].data.metrics == before["full seed 1"].data.metrics


def change_mlflow(out: Path, held: dict[str, Run]) -> None:
    """Change in MLflow whatever a user, a server or a killed follower may change."""
    client = client_of(out)
    client.delete_run(held["full seed 0"].info.run_id)
    client.delete_run(held["no gate"].info.run_id)  # an arm: its runs get a new parent
    client.log_metric(held["full seed 1"].info.run_id, "test/accuracy", 0.99, step=3)
    client.log_metric(held["full"].info.run_id, "accuracy", 0.99)
    client.update_run(held["full seed 2"].info.run_id, status="RUNNING")
    client.set_tag(held["no gate seed 0"].info.run_id, "coablate.state", "crashed")
    with contextlib.closing(sqlite3.connect(out / "mlflow.db")) as database, database:
        changed = held["no gate seed 1"].info.run_id
        database.execute("UPDATE params SET value = '7' WHERE key = 'seed' AND run_uuid = ?", (changed,))
    study = held["fusion-0a1b2c"].info
    foreign = {"coablate.key": "fusion-0a1b2c", "coablate.arm": "full", "coablate.seed": "17"}
    client.create_run(study.experiment_id, tags=foreign, run_name="foreign")
    (out / "mlartifacts" / study.run_id / "artifacts" / "table" / "table.csv").unlink()


def told(plan) -> dict[str, tuple[str, RunUpdate]]:
    """What Tune may have been told: of the third run and the last one more than the journal has."""
    return {
        plan.runs[0].run_id: ("TERMINATED", RunUpdate(state=RunState.COMPLETED)),
        plan.runs[1].run_id: ("RUNNING", RunUpdate(state=RunState.RUNNING, epoch=2)),
        plan.runs[2].run_id: ("TERMINATED", RunUpdate(state=RunState.RUNNING, epoch=9)),
        plan.runs[-1].run_id: ("TERMINATED", RunUpdate(state=RunState.COMPLETED)),
    }


def test_nothing_differs_after_an_undisturbed_study(out, coablate):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in out.rglob("*.*"))
    assert_agrees(coablate, out)
    after = sorted((path.name, path.stat().st_mtime_ns) for path in out.rglob("*.*"))
    assert [name for name in after if name not in before and not name[0].startswith(".lock")] == []


def test_a_check_makes_no_database(out, plan, coablate):
    (out / "mlflow.db").unlink()
    answer = coablate("reconcile", out, "--check")
    assert answer.out == f"{plan.key}: MLflow: the study: is not there, expected 13 runs; not mended\n"
    assert not (out / "mlflow.db").exists()


def test_a_folder_in_use_is_refused(out, plan, refused):
    with only_user(Folder(str(out)), pytest.fail, pytest.fail):
        refused("reconcile", out, says=("uses it; wait until it has ended",))


def test_what_cannot_be_reached_is_said_and_the_rest_is_compared(out, plan, journal, coablate, free_port):
    journal.write_plan(dataclasses.replace(plan, command={"tracking": f"http://127.0.0.1:{free_port}"}))
    (out / "studies" / plan.key / "table.md").unlink()
    answer = coablate("reconcile", out)
    assert answer.code == 1
    first, second = answer.out.splitlines()
    assert first.endswith("table.md: is missing, expected that of the journal; written again from the journal")
    assert f"{plan.key}: MLflow: not compared: MLflow at http://127.0.0.1:{free_port}" in second


def test_a_study_whose_password_was_not_kept_says_which_variable_to_set(out, plan, journal, coablate):
    journal.write_plan(dataclasses.replace(plan, command={"tracking": "http://me:***@127.0.0.1:1"}))
    answer = coablate("reconcile", out)
    assert "its password was not kept; set COABLATE_TRACKING to the whole address" in answer.out


def test_an_empty_folder_has_nothing_to_compare(tmp_path, refused):
    refused("reconcile", tmp_path, says=("holds no study",))
