"""Whole studies and searches with data and results in object storage, on real Ray, Tune, Train and MLflow."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import coablate, finished

from coablate_platform import driver
from coablate_platform.command import Command
from coablate_platform.data.clips import clips_of
from coablate_platform.data.store import Store
from coablate_platform.files import state_folder
from coablate_platform.folder_lease import FOLDER
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.pull import pull
from coablate_platform.journal.storage import Folder
from coablate_platform.journal.trials import JournalTrialLog
from coablate_platform.results.table import build_table
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, RunState
from coablate_platform.train.loop import train
from coablate_platform.train.provenance import versions

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
FAULTS = "none,none again"
STUDY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")


@pytest.fixture
def remote_store(bucket, store) -> str:
    """URI of a copy of the store in the bucket."""
    folder = Path(store.uri)
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if file.is_file() and not str(name).startswith("."):
            Folder(bucket).write(f"store/{name}", file.read_bytes())
    return f"{bucket}/store"


def outcome(out: str) -> tuple:
    """The rows of the table, and what every test sample got."""
    journal = Journal(out)
    plan = journal.plan()
    rows = [(row.arm, row.values) for row in build_table(plan, journal).rows]
    return rows, [journal.predictions(run.run_id).scores.tolist() for run in plan.runs]


def train_here(data: str, folder: Path) -> Journal:
    """Train the study in this process, without Ray, into a local results folder."""
    prepared = driver.prepare(Command(study=STUDY, data=data))
    journal, store = Journal(str(folder)), Store.open(data)
    journal.write_plan(prepared.plan)
    for task in prepared.tasks:
        journal.begin(task.run_id, 0, versions(task.origin))
        checkpoints, clips = Checkpoints(f"{folder}/{task.run_id}"), clips_of(task.config, store, task.seed, 2)
        for event in train(task, clips, checkpoints, partial(journal.epoch, task.run_id, 0), torch.device("cpu")):
            if isinstance(event, Conclusion):
                journal.conclude(task.run_id, 0, event)
    return journal


def test_a_study_on_object_storage_has_the_digits_of_a_local_folder(store, remote_store, bucket, tmp_path, monkeypatch):
    there, home = f"{bucket}/results", tmp_path / "home"
    finished(coablate("run", STUDY, "--data", remote_store, "--out", there, faults=FAULTS))
    assert Folder(there).stamps(FOLDER) == {}  # the lease is released
    assert (state_folder(there) / "mlflow.db").exists()
    monkeypatch.setenv("FAULTS", FAULTS)
    here = outcome(train_here(store.uri, tmp_path / "here").folder.uri)
    assert outcome(there) == here
    assert pull(there, home, None, lambda line: None).changing == ()
    assert outcome(str(home)) == here


@pytest.mark.slow
def test_a_killed_driver_is_followed_by_another_once_its_lease_has_lapsed(remote_store, bucket):
    there = f"{bucket}/results"
    first = coablate("run", STUDY, "--data", remote_store, "--out", there, "--set", "model.pause=4", faults="none")
    try:
        journal = Journal(there)
        while not (journal.plans() and journal.record(journal.plan().runs[0].run_id).epochs):
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.5)
        refused = finished(coablate("resume", there, faults="none"), 2)
        assert f"results folder {there}: process {first.pid} of" in refused
        assert first.poll() is None
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    assert Folder(there).stamps(FOLDER)  # it is left
    finished(coablate("resume", there, faults="none"))
    assert Folder(there).stamps(FOLDER) == {}
    assert journal.attempts(journal.plan().runs[0].run_id) == 2
    assert journal.state(journal.plan().runs[0].run_id) is RunState.COMPLETED


@pytest.mark.slow
def test_a_search_on_object_storage_rebuilds_its_copies_on_another_machine(
    remote_store, bucket, tmp_path, monkeypatch, free_port
):
    there = f"{bucket}/results"
    finished(coablate("run", STUDY, "--data", remote_store, "--out", there, faults="search"))
    journal = Journal(there)
    trials = JournalTrialLog(journal, journal.plan().key).trials()
    assert trials
    assert finished(coablate("best", there))
    finished(coablate("report", there))
    monkeypatch.setenv("COABLATE_STATE", str(tmp_path / "another machine"))
    finished(coablate("resume", there, faults="search"))
    with sqlite3.connect(state_folder(there) / "optuna.db") as database:
        assert database.execute("SELECT count(*) FROM trials").fetchone() == (len(trials),)
    monkeypatch.setenv("COABLATE_STATE", str(tmp_path / "a third one"))
    command = [sys.executable, "-m", "coablate_platform", "ui", there, "--port", str(free_port)]
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        end = time.monotonic() + 200
        while time.monotonic() < end and ui.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/health", timeout=1) as answer:
                    assert answer.read()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail("MLflow did not answer")
    finally:
        os.killpg(ui.pid, signal.SIGKILL)
        said = ui.communicate()[0]
    assert f"{journal.plan().key}: http://127.0.0.1:{free_port}/#/experiments/" in said
