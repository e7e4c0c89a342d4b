"""Optuna's storage, embedded and on a real PostgreSQL server: it holds what the log says, and nothing of another."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from curves import search, simulate
from optuna.trial import TrialState

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
    second, simulator = simulate(replace(declared, name="second", seed=3), other, storage=storage)
    simulator.run()
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


def test_one_that_cannot_be_opened_is_one_clear_line(tmp_path):
    nowhere = f"postgresql+psycopg://coablate@/postgres?host={tmp_path}"
    for url in (f"sqlite:///{tmp_path}/no/such/folder/optuna.db", "nonsense://x", nowhere):
        with pytest.raises(InputError, match="Optuna storage") as error:
            simulate(search(), MemoryTrialLog(), storage=url)
        assert "\n" not in str(error.value)
