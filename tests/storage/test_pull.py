"""Studies come home from object storage: whole, resumed, verified."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.pull import pull
from coablate_platform.results.table import build_table
from coablate_platform.study.errors import InputError
from coablate_platform.train.checkpoint import Checkpoints


@pytest.fixture
def journal(bucket) -> Journal:
    return Journal(f"{bucket}/results")


@pytest.fixture
def written(journal, plan, train) -> Journal:
    """A study of which every run but the last is completed, with checkpoints."""
    for number, run in enumerate(plan.runs):
        train(run, None if run == plan.runs[-1] else 0.5 + number / 100, epochs=(1,))
        Checkpoints(f"{journal.folder.uri}/checkpoints/{run.run_id}").save({"epoch": 1})
    journal.write_plan(plan)
    journal.write_plan(dataclasses.replace(plan, key="other-000000", name="other", runs=plan.runs[:1]))
    return journal


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in found}


def quiet(line: str) -> None:
    pass


def test_a_study_comes_whole_and_opens_like_any_other(written, plan, tmp_path):
    home = tmp_path / "home"
    pulled = pull(written.folder.uri, home, plan.key, quiet)
    assert pulled.studies == (plan.key,)
    assert pulled.files == pulled.fetched == len(files(home))
    assert pulled.changing == ()
    here = Journal(str(home))
    assert [found.key for found in here.plans()] == [plan.key]
    assert build_table(here.plan(), here).rows == build_table(plan, written).rows
    assert Checkpoints(f"{home}/checkpoints/{plan.runs[0].run_id}").epoch == 1


def test_a_pull_goes_on_where_it_stopped_and_mends_what_is_damaged(written, plan, tmp_path):
    home = tmp_path / "home"
    pull(written.folder.uri, home, plan.key, quiet)
    whole = files(home)
    assert pull(written.folder.uri, home, plan.key, quiet).fetched == 0
    gone, torn, spoilt = (home / name for name in sorted(whole)[:3])
    modified = spoilt.stat().st_mtime_ns
    gone.unlink()
    torn.write_bytes(torn.read_bytes()[:-1])
    spoilt.write_bytes(bytes(len(spoilt.read_bytes())))
    os.utime(spoilt, ns=(modified, modified))
    assert pull(written.folder.uri, home, plan.key, quiet).fetched == 3
    assert files(home) == whole
    assert set(pull(written.folder.uri, home, None, quiet).studies) == {plan.key, "other-000000"}


def test_a_killed_pull_leaves_no_study_until_it_is_whole(written, plan, tmp_path):
    home = tmp_path / "home"
    code = "import sys; from coablate_platform.journal.pull import pull; pull(*sys.argv[1:], None, print)"
    code = code.replace("*sys.argv[1:]", "sys.argv[1], __import__('pathlib').Path(sys.argv[2])")
    with subprocess.Popen([sys.executable, "-c", code, written.folder.uri, home]) as process:
        while len(files(home)) < 5:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    left = files(home)
    if not any(name.endswith("study.json") for name in left):
        assert Journal(str(home)).plans() == []
    pulled = pull(written.folder.uri, home, None, quiet)
    assert pulled.fetched <= pulled.files - len(left) + 1
    assert len(Journal(str(home)).plans()) == 2


def test_a_file_that_is_damaged_in_storage_is_named(written, plan, tmp_path):
    name = f"journal/{plan.runs[0].run_id}/000/predictions.arrow"
    written.folder.write(name, b"damaged")
    with pytest.raises(InputError, match=f"{name} is damaged in storage"):
        pull(written.folder.uri, tmp_path / "home", plan.key, quiet)


def test_results_of_other_folders_are_not_mixed(written, plan, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine").write_text("")
    with pytest.raises(InputError, match=f"{home}: expected a new folder, or one that was pulled from"):
        pull(written.folder.uri, home, None, quiet)
    pull(written.folder.uri, tmp_path / "second", plan.key, quiet)
    (tmp_path / "second" / ".lock-holder").write_text("process 1 on here")
    with pytest.raises(InputError, match="a study was continued here since it was pulled"):
        pull(written.folder.uri, tmp_path / "second", plan.key, quiet)
    with pytest.raises(InputError, match=r"holds no study 'othr' .did you mean 'other'"):
        pull(written.folder.uri, tmp_path / "third", "othr", quiet)


def test_the_command_says_what_came_and_how_to_look_at_it(written, plan, tmp_path, coablate):
    answer = coablate("pull", written.folder.uri, tmp_path / "home", "--study", plan.key)
    assert answer.code == 0, answer
    assert f"{tmp_path}/home: {plan.key};" in answer.out
    assert "all intact" in answer.out
    table = coablate("table", tmp_path / "home")
    assert table.code == 0
    assert table.out == coablate("table", written.folder.uri, "--study", plan.key).out
