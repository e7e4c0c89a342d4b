"""What is resolved and refused before anything is started or written."""

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from coablate_platform import driver
from coablate_platform.journal.journal import Journal
from coablate_platform.session import Command, Session
from coablate_platform.study.errors import InputError
from coablate_platform.train.events import EpochReport
from coablate_platform.train.provenance import versions

FAULTY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")


@pytest.fixture
def command(store) -> Command:
    return Command(study=FAULTY, data=store.uri)


@pytest.fixture
def begun(command, tmp_path):
    """Let the first run have trained an epoch with other versions."""

    def begin(changed) -> Journal:
        prepared = driver.prepare(command)
        task = prepared.tasks[0]
        journal = Journal(str(tmp_path / "out"))
        journal.begin(task.run_id, 0, versions(task.origin) | changed)
        journal.epoch(task.run_id, 0, EpochReport(epoch=1, metrics={}, seconds=1.0))
        return journal

    return begin


def test_a_mixture_is_refused_before_anything_is_written(command, begun, tmp_path):
    journal = begun({"code": {"platform": "another"}})
    with pytest.raises(InputError, match="would mix versions: code of platform another"):
        driver.run(command, tmp_path / "out", Console(quiet=True))
    assert journal.plans() == []


def test_what_a_cluster_has_installed_is_not_what_the_driver_has(command, begun, tmp_path):
    begun({"packages": {"coablate": "0", "torch": "2.13.0+cu130"}})
    prepared = driver.prepare(command)
    session = Session(command, tmp_path / "out", Console(quiet=True))
    with pytest.raises(InputError, match=r"torch 2\.13\.0\+cu130"):
        driver._check_versions(prepared, session)
    elsewhere = dataclasses.replace(command, address="10.0.0.1:6379")
    driver._check_versions(prepared, Session(elsewhere, tmp_path / "out", Console(quiet=True)))


def test_the_way_on_from_a_mixed_table_is_named_as_such(command, tmp_path, monkeypatch):
    monkeypatch.setattr("coablate_platform.session.start_follower", lambda *_: None)
    monkeypatch.setattr("coablate_platform.session.finish_follower", lambda _: 0)
    plan = driver.prepare(command).plan
    console = Console(width=200)
    for mixed in (False, True):
        session = Session(command, tmp_path, console, mixed)
        with console.capture() as captured, pytest.raises(KeyboardInterrupt), session.following(plan):
            raise KeyboardInterrupt
        assert captured.get().strip().endswith(f"--study {plan.key}" + " --mixed" * mixed)
