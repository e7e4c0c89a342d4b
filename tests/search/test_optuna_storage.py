"""Optuna's storage, embedded and on a real PostgreSQL server: it holds what the log says, and nothing of another."""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from curves import said, search, simulate
from optuna.trial import TrialState

from coablate_platform.search import optuna_storage
from coablate_platform.search.optuna_storage import open_storage
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.errors import InputError


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL server of its own, reached through a socket in a folder."""
    found = {name: shutil.which(name) for name in ("initdb", "pg_ctl")}
    if not all(found.values()):
        pytest.skip("PostgreSQL is not installed (no initdb and pg_ctl on the path)")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:  # a socket's path must be short
        folder = Path(name)
        as_user = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "nobody")
            as_user = {"user": "nobody", "cwd": "/"}
        cluster = str(folder / "data")
        subprocess.run(
            [found["initdb"], "-D", cluster, "-U", "coablate", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            **as_user,
        )
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        control = [found["pg_ctl"], "-D", cluster, "-w", "-l", str(folder / "log")]
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, **as_user)
        try:
            yield f"postgresql+psycopg://coablate@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **as_user)


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/optuna.db"
        return
    url = request.getfixturevalue("server")
    yield url
    opened = open_storage(url)
    for name in optuna.get_all_study_names(opened):
        optuna.delete_study(study_name=name, storage=opened)


def test_it_holds_what_the_book_says_and_nothing_of_another_search(storage):
    log, other = MemoryTrialLog(), MemoryTrialLog()
    declared = search(trials=8)
    for events in (9, None):
        scheduler, simulator = simulate(declared, log, storage=storage)
        simulator.run(events)
    assert not scheduler.finish()
    second, simulator = simulate(replace(declared, name="second", seed=3), other, storage=storage)
    simulator.run()
    assert not second.finish()
    for name, has in (("curves", scheduler), ("second", second)):
        study = optuna.load_study(study_name=name, storage=open_storage(storage))
        assert len(study.trials) == 8
        assert [trial.user_attrs["run_id"] for trial in study.trials] == [record.run_id for record in has.records]
        assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        for trial, record in zip(study.trials, has.records, strict=True):
            assert trial.values == list(record.values)


def test_it_keeps_what_another_folder_has_in_it(storage):
    simulate(search(trials=2), MemoryTrialLog(owner="mine"), storage=storage)
    simulate(search(trials=2), MemoryTrialLog(owner="mine"), storage=storage)
    with pytest.raises(InputError, match="belongs to mine"):
        simulate(search(trials=2), MemoryTrialLog(owner="theirs"), storage=storage)


def test_a_folder_s_own_file_moves_with_it(tmp_path):
    (tmp_path / "old").mkdir()
    log = MemoryTrialLog(owner=str(tmp_path / "old"))
    _, simulator = simulate(search(trials=4), log, storage=f"sqlite:///{tmp_path}/old/optuna.db")
    simulator.run(5)
    (tmp_path / "old").rename(tmp_path / "new")
    log.owner = str(tmp_path / "new")
    scheduler, simulator = simulate(search(trials=4), log, storage=f"sqlite:///{tmp_path}/new/optuna.db")
    simulator.run()
    assert len(scheduler.study.trials) == 4
    with pytest.raises(InputError, match="belongs to"):
        simulate(search(trials=4), MemoryTrialLog(owner="else"), storage=f"sqlite:///{tmp_path}/new/optuna.db")


def test_what_was_only_begun_is_taken_over_and_what_is_nobody_s_is_not(storage):
    optuna.create_study(study_name="curves", storage=open_storage(storage))
    simulate(search(trials=2), MemoryTrialLog(), storage=storage)
    optuna.delete_study(study_name="curves", storage=open_storage(storage))
    theirs = optuna.create_study(study_name="curves", storage=open_storage(storage))
    theirs.tell(theirs.ask(), 1.0)
    with pytest.raises(InputError, match="belongs to None"):
        simulate(search(trials=2), MemoryTrialLog(), storage=storage)


@pytest.mark.parametrize("url", ["sqlite:///{}/no/such/folder/optuna.db", "nonsense://x", "nonsense", "mysql://a/b"])
def test_one_that_there_cannot_be_is_one_clear_line(tmp_path, url):
    with pytest.raises(InputError, match="Optuna storage") as error:
        simulate(search(), MemoryTrialLog(), storage=url.format(tmp_path))
    assert "\n" not in str(error.value)


class Watched:
    """A search of ten trials whose copy is watched, beside the same search without one."""

    def __init__(self, storage: str, log: MemoryTrialLog) -> None:
        self.storage, self.lines, declared = storage, [], search(trials=10)
        self.alone, simulator = simulate(declared, MemoryTrialLog(), lanes=1)
        simulator.run()
        self.scheduler, self.simulator = simulate(declared, log, 1, storage=storage, say=self.lines.append)

    def check(self, whole: bool = True) -> None:
        """The search took its course, and the copy holds all of it, or else says that it does not."""
        assert self.simulator.run()
        fault = self.scheduler.finish()
        assert self.scheduler.records == self.alone.records
        assert said(self.scheduler) == said(self.alone)
        assert bool(fault) != whole
        assert "\n" not in fault
        if whole:
            copy = optuna.load_study(study_name="curves", storage=open_storage(self.storage))
            assert [self._told(trial) for trial in copy.trials] == [self._told(t) for t in self.scheduler.study.trials]

    def check_said_once(self, why: str) -> None:
        (line,) = self.lines
        assert line.startswith(f"Optuna storage {self.storage} cannot be written now (")
        assert why in line
        assert "\n" not in line

    def _told(self, trial: optuna.trial.FrozenTrial) -> tuple:
        own = (trial.number, trial.state, trial.params, trial.distributions, trial.values)
        return (*own, trial.intermediate_values, trial.user_attrs, trial.system_attrs)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(optuna_storage, "PATIENCE_S", 0.05)
    monkeypatch.setattr(optuna_storage, "_REST", 0)


def test_the_copy_of_an_undisturbed_search_is_whole(storage):
    watched = Watched(storage, MemoryTrialLog())
    watched.check()
    assert not watched.lines


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("since", [None, 0, 25], ids=["before it starts", "from its start", "in its midst"])
@pytest.mark.parametrize("freed", [True, False])
def test_a_file_that_another_has_locked_is_waited_for_and_then_whole(tmp_path, since, freed):
    url = f"sqlite:///{tmp_path}/optuna.db"
    with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)) as other:
        if since is None:
            other.execute("BEGIN EXCLUSIVE")
        watched = Watched(url, MemoryTrialLog())
        if since is not None:
            watched.simulator.run(since)
            other.execute("BEGIN EXCLUSIVE")
        watched.simulator.run(20)
        if freed:
            other.execute("ROLLBACK")
        watched.check(whole=freed)
        watched.check_said_once("database is locked")


def test_a_file_that_is_deleted_comes_back_whole(tmp_path):
    watched = Watched(f"sqlite:///{tmp_path}/optuna.db", MemoryTrialLog())
    watched.simulator.run(25)
    (tmp_path / "optuna.db").unlink()
    watched.check()
    (tmp_path / "optuna.db").unlink()
    watched.check()
    assert not watched.lines


def test_a_copy_that_another_deleted_comes_back_and_what_took_its_place_is_kept(storage):
    watched = Watched(storage, MemoryTrialLog())
    watched.simulator.run(25)
    optuna.delete_study(study_name="curves", storage=open_storage(storage))
    other, simulator = simulate(search(trials=4, name="other", seed=9), MemoryTrialLog(), storage=storage)
    simulator.run()
    assert not other.finish()
    watched.check()
    theirs = optuna.load_study(study_name="other", storage=open_storage(storage))
    assert [trial.params for trial in theirs.trials] == [trial.params for trial in other.study.trials]


def test_a_file_that_another_folder_took_meanwhile_is_left_to_it(tmp_path):
    watched = Watched(f"sqlite:///{tmp_path}/optuna.db", MemoryTrialLog(owner="mine"))
    watched.simulator.run(25)
    (tmp_path / "optuna.db").unlink()
    simulate(search(trials=2), MemoryTrialLog(owner="theirs"), storage=watched.storage)[1].run()
    watched.check(whole=False)
    watched.check_said_once("its study curves belongs to theirs")
    assert len(optuna.load_study(study_name="curves", storage=open_storage(watched.storage)).trials) == 2


@pytest.mark.timeout(30)
def test_a_server_that_is_not_there_or_never_answers_stops_no_search(tmp_path):
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        never = f"postgresql+psycopg://coablate@127.0.0.1:{silent.getsockname()[1]}/postgres"
        nowhere = f"postgresql+psycopg://coablate@/postgres?host={tmp_path}"
        for url, why in ((never, "timeout"), (nowhere, "No such file")):
            watched = Watched(url, MemoryTrialLog())
            watched.check(whole=False)
            watched.check_said_once(why)


@pytest.mark.timeout(60)
def test_a_server_s_table_that_another_has_locked_stops_no_search(server, monkeypatch):
    monkeypatch.setattr(optuna_storage, "_REST", 0)  # on a slow machine it would rest through the lock
    with open_storage(server).engine.connect() as other:
        watched = Watched(server, MemoryTrialLog())
        watched.simulator.run(25)
        other.execute(sqlalchemy.text("LOCK TABLE trials IN ACCESS EXCLUSIVE MODE"))
        watched.simulator.run(4)
        other.rollback()
        watched.check()
        watched.check_said_once("statement timeout")


def test_a_slow_storage_is_written_in_a_tenth_of_the_time(tmp_path, monkeypatch):
    """Each study's name is asked for before a write, and takes a second here."""
    clock, asked = [0.0], []
    monkeypatch.setattr(optuna_storage.time, "monotonic", lambda: clock[0])
    watched = Watched(f"sqlite:///{tmp_path}/optuna.db", MemoryTrialLog())

    def slowly(storage, study_id, plain=optuna.storages.RDBStorage.get_study_name_from_id):
        asked.append(clock[0])
        clock[0] += 1
        return plain(storage, study_id)

    monkeypatch.setattr(optuna.storages.RDBStorage, "get_study_name_from_id", slowly)
    while not watched.simulator.run(1):
        clock[0] += 2  # seconds between reports
    assert len(asked) >= 3
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 11
    watched.check()
    assert not watched.lines
