"""What is resolved and refused before anything is started or written."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from coablate_platform import driver
from coablate_platform.command import Accepts, Command
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog, TrialRecord
from coablate_platform.results.render import render
from coablate_platform.results.table import build_table
from coablate_platform.searching import search
from coablate_platform.session import Session, source_copies
from coablate_platform.study.errors import InputError
from coablate_platform.train.events import Conclusion, EpochReport, Predictions
from coablate_platform.train.provenance import origin_of, versions

FAULTY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")


class NoFollower:
    """Stands for a follower where MLflow does not matter."""

    def __init__(self, *_: object) -> None:
        pass

    def ask_to_finish(self) -> None:
        pass

    def finish(self) -> int:
        return 0


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
    session = Session(command, tmp_path / "out", Console(quiet=True), Accepts())
    with pytest.raises(InputError, match=r"torch 2\.13\.0\+cu130"):
        driver._check_versions(prepared, session, session.journal.records(prepared.plan))
    session.address = "10.0.0.1:6379"
    driver._check_versions(prepared, session, session.journal.records(prepared.plan))


def test_a_search_does_not_learn_from_trials_of_other_code(store, tmp_path):
    """Neither from its own nor from those of another search, before anything is written."""
    command = Command(study="learning_rates", data=store.uri, warm=("earlier",))
    prepared = driver.prepare(command)
    with Session(command, tmp_path / "out", Console(quiet=True), Accepts()) as session:
        journal = session.journal
        journal.write_plan(dataclasses.replace(prepared.plan, key="earlier-0a1b2c", name="earlier"))
        context = versions(origin_of(prepared.search.base))
        for key, number, code in (("earlier-0a1b2c", 3, {"coablate_model": "0ld"}), (prepared.plan.key, 4, {})):
            record = TrialRecord(number=number, params={}, ranges={}, sampler="tpe", run_id=str(number) * 64)
            JournalTrialLog(journal, key).write_trial(record)
            journal.begin(record.run_id, 0, context | {"code": context["code"] | code})
        with pytest.raises(InputError, match=r"code of coablate_model was 0ld and is \w{8} \(trial 3\); another --out"):
            search(prepared, session)
        assert [plan.name for plan in journal.plans()] == ["earlier"]


def test_the_way_on_from_a_mixed_table_is_named_as_such(command, tmp_path, monkeypatch):
    monkeypatch.setattr("coablate_platform.session.FollowerKeeper", NoFollower)
    plan = driver.prepare(command).plan
    console = Console(width=200)
    for accepts in (Accepts(), Accepts(mixed=True), Accepts(mixed=True, as_recorded=True)):
        session = Session(command, tmp_path, console, accepts)
        with console.capture() as captured, pytest.raises(KeyboardInterrupt), session.following(plan):
            raise KeyboardInterrupt
        assert captured.get().strip().endswith(f"--study {plan.key}" + accepts.options)


OWN = """
from dataclasses import dataclass, replace

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.study import Arm
from coablate_search_spaces.smoke import STUDY as SMOKE
from own_beside import WIDTH


@dataclass(frozen=True, kw_only=True)
class Own(CCDFARM):
    pass


BASE = replace(SMOKE.base, model=Own(width=WIDTH, streams=("skeleton",), tiam="none"))
STUDY = replace(SMOKE, name="own", base=BASE, arms=(Arm(name="own", changes={}),), reference="own")
"""


@pytest.fixture
def own(tmp_path) -> Path:
    """A study in a file, with a module beside it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own_beside.py").write_text("WIDTH = 0.125\n")
    (tmp_path / "mine" / "own.py").write_text(OWN)
    return tmp_path / "mine" / "own.py"


@pytest.fixture
def completed(own, store, tmp_path, monkeypatch) -> Path:
    """A results folder in which all runs of that study are completed."""
    monkeypatch.setattr("coablate_platform.session.FollowerKeeper", NoFollower)
    command, out = Command(study=str(own), data=store.uri, overrides=("training.epochs=1",)), tmp_path / "out"
    prepared = driver.prepare(command)
    journal = Journal(str(out))
    scores = Predictions(names=["clip"], labels=np.array([0]), scores=np.zeros((1, 3), np.float32))
    for task in prepared.tasks:
        journal.begin(task.run_id, 0, versions(task.origin))
        journal.epoch(task.run_id, 0, EpochReport(epoch=1, metrics={"train/loss": 1.0}, seconds=1.0))
        journal.conclude(task.run_id, 0, Conclusion(epoch=1, metrics={"accuracy": 0.5}, predictions=scores))
    driver.run(command, out, Console(quiet=True))
    return out


def test_the_table_is_shown_before_mlflow_is_waited_for(completed, monkeypatch):
    order: list[str] = []
    monkeypatch.setattr(NoFollower, "finish", lambda self: order.append("MLflow") or 1)
    console = Console(width=500)
    with console.capture() as captured:
        driver.resume(completed, None, console, show=lambda table: order.append("table"))
    assert order == ["table", "MLflow"]
    assert f"to update it: coablate track {completed} --study own-" in captured.get()


def resumed(out: Path) -> str:
    """What resume says; that all runs are there already."""
    console = Console(width=500)
    with console.capture() as captured:
        table = driver.resume(out, None, console)
    assert [row.summary.n for row in table.rows] == [1]
    assert "All 1 runs are in the journal already." in captured.get()
    return captured.get()


def test_a_finished_study_whose_code_has_changed_is_not_passed_off_as_its_result(completed, own):
    changed = OWN.replace("    pass", "    def objective(self):\n        return super().objective()")
    own.write_text(changed)
    with pytest.raises(
        InputError, match=r"code of coablate_study_own was \w{8} and is \w{8} \(own/seed 0\); another --out"
    ):
        driver.resume(completed, None, Console(quiet=True))
    table = driver.resume(completed, None, Console(quiet=True), Accepts(as_recorded=True))
    said = "As recorded, by other code than was at hand: code of coablate_study_own was "
    assert said in render(table, "md")
    journal = Journal(str(completed))
    assert said in render(build_table(journal.concluding_plan(), journal), "md")  # coablate table
    own.write_text(OWN)
    assert said not in render(driver.resume(completed, None, Console(quiet=True)), "md")


def test_a_study_s_files_are_kept_with_its_results(completed, own):
    plan = Journal(str(completed)).plan()
    kept = Path(source_copies(Journal(str(completed)), plan.key, plan.command["source"]))
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "coablate_study_own.py": OWN,
        "own_beside.py": "WIDTH = 0.125\n",
    }
    assert "there" not in resumed(completed).replace("there already", "")


def test_a_study_whose_files_moved_is_resumed_from_what_was_kept(completed, own, tmp_path):
    plan = Journal(str(completed)).plan()
    own.parent.rename(tmp_path / "elsewhere")
    kept = Path(source_copies(Journal(str(completed)), plan.key, plan.command["source"]))
    assert f"{own} no longer exists; continuing with its copy in {kept}" in resumed(completed)
    again = Journal(str(completed)).plan()
    assert (again.key, again.command["source"]) == (plan.key, plan.command["source"])
    assert again.command["study"] == str(kept / "coablate_study_own.py")
    completed.rename(tmp_path / "moved")  # the results may move too
    assert "no longer exists" in resumed(tmp_path / "moved")


def test_a_study_whose_code_changed_goes_on_with_it_and_says_so(completed, own):
    plan = Journal(str(completed)).plan()
    own.write_text(OWN + "# a remark\n")
    said = resumed(completed)
    assert "The study's files have changed since it was started; continuing with the changed files" in said
    assert str(Path(source_copies(Journal(str(completed)), plan.key, plan.command["source"]))) in said


def test_a_study_that_declares_something_else_is_not_resumed(completed, own):
    plan = Journal(str(completed)).plan()
    (own.parent / "own_beside.py").write_text("WIDTH = 0.25\n")
    kept = Path(source_copies(Journal(str(completed)), plan.key, plan.command["source"]))
    with pytest.raises(InputError, match=f"its declaration has changed .*restore your files from {kept}"):
        driver.resume(completed, None, Console(quiet=True))


def test_every_file_that_a_command_names_is_kept_and_found_again(store, tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(
        "from dataclasses import dataclass, replace\n"
        "from coablate_model.cc_dfarm import CCDFARM\n"
        "from coablate_platform.data.protocols import get_protocol\n"
        "from coablate_platform.study.config import TrainingConfig\n"
        "from optuna.samplers import RandomSampler\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Net(CCDFARM):\n    pass\n"
        "NET = Net(width=0.125, streams=('skeleton',), tiam='none')\n"
        "HALVES = replace(get_protocol('utd/cs'), name='own/halves')\n"
        "LONG = TrainingConfig(epochs=77)\n"
        "def sampler(search, number):\n    return RandomSampler(seed=number)\n"
    )
    command = Command(
        study="learning_rates",
        data=store.uri,
        protocol=f"{tmp_path}/own_parts.py:HALVES",
        sampler=f"{tmp_path}/own_parts.py:sampler",
        overrides=(f"model={tmp_path}/own_parts.py:NET",),
    )
    assert command.user_files == [tmp_path / "own_parts.py"] * 3
    prepared = driver.prepare(command)
    assert prepared.plan.protocol == "own/halves"
    assert prepared.search.base.data.protocol == "own_parts:HALVES"
    assert prepared.search.sampler == "own_parts:sampler"
    (tmp_path / "kept").mkdir()
    (tmp_path / "own_parts.py").rename(tmp_path / "kept" / "own_parts.py")
    moved = command.with_copies_in(tmp_path / "kept")
    assert moved.study == "learning_rates"
    again = driver.prepare(moved).plan
    assert (again.key, again.command["source"]) == (prepared.plan.key, prepared.plan.command["source"])
