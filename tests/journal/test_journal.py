"""The journal's contract, on the local disk, in object storage and on another file system."""

import errno
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from made_study import make_plan

from coablate_platform.journal.journal import Journal
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedArm, StudyPlan
from coablate_platform.train.events import Conclusion, EpochReport, Failure, Predictions, RunState

RUN = "a" * 64
CONTEXT = {"code": "abc", "packages": {"torch": "2.13"}, "seed": 0}


class FillingFileSystem(MemoryFileSystem):
    """Storage in memory; while ``full`` is set, every write fails."""

    protocol = "filling"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec shares a store between instances in this way
    full = False

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if self.full and "w" in mode:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return super()._open(path, mode, **options)


fsspec.register_implementation("filling", FillingFileSystem, clobber=True)


@pytest.fixture(params=["local", "object storage", "remote"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "results of mine")
    elif request.param == "object storage":
        yield f"{request.getfixturevalue('bucket')}/results"
    else:
        FillingFileSystem.store.clear()
        FillingFileSystem.pseudo_dirs.clear()
        yield "fsspec+filling:///results"
        FillingFileSystem.full = False


def report(epoch: int, loss: float = 1.0) -> EpochReport:
    return EpochReport(epoch=epoch, metrics={"train/loss": loss, "validation/accuracy": 0.5}, seconds=2.0)


def conclusion(accuracy: float = 0.75) -> Conclusion:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], np.float32)
    predictions = Predictions(names=["x", "y", "z"], labels=np.array([1, 0, 0]), scores=scores)
    return Conclusion(epoch=2, metrics={"accuracy": accuracy}, predictions=predictions)


def test_a_run_goes_from_waiting_to_completed(uri: str) -> None:
    journal = Journal(uri)
    assert journal.state(RUN) is RunState.WAITING
    assert journal.attempts(RUN) == 0
    assert journal.record(RUN).started is None
    journal.begin(RUN, 0, CONTEXT)
    assert journal.state(RUN) is RunState.RUNNING
    journal.epoch(RUN, 0, report(1))
    journal.epoch(RUN, 0, report(2, loss=float("nan")))
    journal.conclude(RUN, 0, conclusion())
    record = journal.record(RUN)
    assert journal.state(RUN) is record.state is RunState.COMPLETED
    assert record.context == CONTEXT
    assert record.epochs[0] == report(1)
    assert np.isnan(record.epochs[1].metrics["train/loss"])
    assert (record.tested_epoch, record.metrics, record.failure) == (2, {"accuracy": 0.75}, None)
    assert record.started is not None
    assert record.ended is not None
    assert record.started <= record.epoch_times[0] <= record.epoch_times[1] <= record.ended
    read = journal.predictions(RUN)
    assert read.names == ["x", "y", "z"]
    np.testing.assert_array_equal(read.labels, [1, 0, 0])
    np.testing.assert_array_equal(read.scores, conclusion().predictions.scores)


def test_every_call_may_be_repeated(uri: str) -> None:
    """A second process that repeats all calls, some with other content, changes nothing."""
    once, twice = Journal(uri), Journal(uri)
    once.begin(RUN, 0, CONTEXT)
    once.epoch(RUN, 0, report(1))
    once.fail(RUN, 0, Failure(state=RunState.CRASHED, reason="ValueError: no"))
    once.begin(RUN, 1, CONTEXT)
    once.epoch(RUN, 1, report(2))
    once.conclude(RUN, 1, conclusion())
    before = once.record(RUN)
    twice.begin(RUN, 0, {"code": "other"})
    twice.epoch(RUN, 0, report(1))
    twice.fail(RUN, 0, Failure(state=RunState.LOST, reason="another"))
    twice.begin(RUN, 1, CONTEXT)
    twice.epoch(RUN, 1, report(2))
    twice.conclude(RUN, 1, conclusion(accuracy=0.1))
    assert twice.record(RUN) == before
    assert twice.attempts(RUN) == 2


def test_a_run_whose_failed_attempt_is_repeated_is_running_again(uri: str) -> None:
    journal = Journal(uri)
    journal.begin(RUN, 0, CONTEXT)
    journal.fail(RUN, 0, Failure(state=RunState.OUT_OF_MEMORY, reason="cuda", traceback="Traceback …"))
    failed = journal.record(RUN)
    assert failed.state is journal.state(RUN) is RunState.OUT_OF_MEMORY
    assert failed.failure == Failure(state=RunState.OUT_OF_MEMORY, reason="cuda", traceback="Traceback …")
    assert failed.ended is not None
    journal.begin(RUN, 1, CONTEXT | {"device": "other"})
    again = journal.record(RUN)
    assert again.state is journal.state(RUN) is RunState.RUNNING
    assert again.failure is None
    assert again.ended is None
    assert again.context["device"] == "other"
    assert again.started == failed.started


def test_an_attempt_that_failed_before_it_began_is_not_the_start_of_the_run(uri: str) -> None:
    journal = Journal(uri)
    journal.fail(RUN, 0, Failure(state=RunState.LOST, reason="its worker died"))
    assert journal.record(RUN).started is None
    journal.begin(RUN, 1, CONTEXT)
    assert journal.record(RUN).started is not None


def test_a_resumed_attempt_replaces_the_epochs_that_it_repeats(uri: str) -> None:
    journal = Journal(uri)
    journal.begin(RUN, 0, CONTEXT)
    for epoch in (1, 2, 3):
        journal.epoch(RUN, 0, report(epoch, loss=1.0))
    journal.begin(RUN, 1, CONTEXT)
    for epoch in (3, 4):
        journal.epoch(RUN, 1, report(epoch, loss=2.0))
    losses = {entry.epoch: entry.metrics["train/loss"] for entry in journal.record(RUN).epochs}
    assert losses == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}


def test_a_run_with_predictions_but_no_conclusion_is_not_completed(uri: str) -> None:
    journal = Journal(uri)
    journal.begin(RUN, 0, CONTEXT)
    journal.conclude(RUN, 0, conclusion())
    content = journal.folder.read(f"journal/{RUN}/000/predictions.arrow")
    assert content is not None
    journal.folder.write(f"journal/{'b' * 64}/000/predictions.arrow", content)
    assert journal.state("b" * 64) is RunState.RUNNING
    with pytest.raises(InputError, match="not completed"):
        journal.predictions("b" * 64)


def test_unfinished_files_of_a_crash_are_ignored(uri: str) -> None:
    journal = Journal(uri)
    journal.begin(RUN, 0, CONTEXT)
    journal.folder.write(f"journal/{RUN}/000/.conclusion.arrow.0123.tmp", b"half an Arrow fi")
    assert journal.state(RUN) is RunState.RUNNING
    journal.conclude(RUN, 0, conclusion())
    assert journal.state(RUN) is RunState.COMPLETED


def test_writing_to_a_full_object_store_raises_and_loses_nothing() -> None:
    FillingFileSystem.store.clear()
    journal = Journal("fsspec+filling:///full")
    journal.begin(RUN, 0, CONTEXT)
    journal.epoch(RUN, 0, report(1))
    FillingFileSystem.full = True
    try:
        with pytest.raises(OSError, match="No space left"):
            journal.epoch(RUN, 0, report(2))
        assert [entry.epoch for entry in journal.record(RUN).epochs] == [1]
    finally:
        FillingFileSystem.full = False
    journal.epoch(RUN, 0, report(2))
    assert [entry.epoch for entry in journal.record(RUN).epochs] == [1, 2]


def test_writing_to_a_full_disk_raises_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write stops half-way."""
    program = f"""
import resource
from coablate_platform.journal.journal import Journal
from coablate_platform.train.events import EpochReport
journal = Journal({str(tmp_path)!r})
journal.begin("r", 0, {{}})
journal.epoch("r", 0, EpochReport(epoch=1, metrics={{"loss": 1.0}}, seconds=1.0))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    journal.epoch("r", 0, EpochReport(epoch=2, metrics={{f"m{{i}}": 1.0 for i in range(999)}}, seconds=1.0))
except OSError:
    print([entry.epoch for entry in journal.record("r").epochs])
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[1]"
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_failure_is_recorded_on_a_full_disk_in_the_room_that_was_kept_for_it(tmp_path: Path) -> None:
    """A quota stands for the full disk: writes fail while the kept file is there, and the failure's still arrives."""
    journal = Journal(str(tmp_path))
    journal.keep_room()
    journal.begin(RUN, 0, CONTEXT)
    write = type(journal.folder).write

    def write_within_quota(folder: Any, name: str, content: bytes) -> None:
        if (tmp_path / ".room").exists():
            raise OSError(errno.ENOSPC, "No space left on device", name)
        write(folder, name, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(journal.folder), "write", write_within_quota)
        journal.fail(RUN, 0, Failure(state=RunState.CRASHED, reason="No space left on device"))
    assert journal.record(RUN).state is RunState.CRASHED
    assert not (tmp_path / ".room").exists()


def test_readers_during_writing_never_see_an_incomplete_file(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.begin(RUN, 0, CONTEXT)
    stop, counts, errors = threading.Event(), [0], []

    def read() -> None:
        reader = Journal(str(tmp_path))
        while not stop.is_set():
            try:
                epochs = [entry.epoch for entry in reader.record(RUN).epochs]
            except Exception as error:
                errors.append(error)
                return
            assert epochs == list(range(1, len(epochs) + 1))
            counts.append(len(epochs))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for epoch in range(1, 41):
        journal.epoch(RUN, 0, report(epoch))
    stop.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert len(set(counts)) > 2


def test_a_pickled_journal_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal("results")
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(journal))
    copy.begin(RUN, 0, CONTEXT)
    assert (tmp_path / "results" / "journal" / RUN / "000" / "begin.arrow").is_file()


def plan(name: str, key: str) -> StudyPlan:
    arm = PlannedArm(name="full", difference={}, config={"model": {"gate": True}}, parameters=1, flops=2)
    return make_plan(arm, name=name, key=key)


def test_studies_are_found_by_name_or_key(uri: str) -> None:
    journal = Journal(uri)
    with pytest.raises(InputError, match="holds no study"):
        journal.plan()
    journal.write_plan(plan("fusion", "fusion-111111"))
    journal.write_plan(plan("fusion", "fusion-111111"))
    assert journal.plan() == plan("fusion", "fusion-111111")
    journal.write_plan(plan("fusion", "fusion-222222"))
    journal.write_plan(plan("placement", "placement-333333"))
    assert [entry.key for entry in journal.plans()] == ["fusion-111111", "fusion-222222", "placement-333333"]
    assert journal.plan("fusion-222222").key == "fusion-222222"
    assert journal.plan("placement").key == "placement-333333"
    with pytest.raises(InputError, match=r"name one of: fusion-111111, fusion-222222$"):
        journal.plan("fusion")
    with pytest.raises(InputError, match="name one of: fusion-111111, fusion-222222, placement-333333"):
        journal.plan()
    with pytest.raises(InputError, match="did you mean 'placement'"):
        journal.plan("placment")


def test_an_unknown_scheme_is_a_clear_error() -> None:
    with pytest.raises(InputError, match="nowhere://x: this storage cannot be opened"):
        Journal("nowhere://x").plans()


def test_runs_that_have_not_begun_cost_nothing_to_look_at(uri: str) -> None:
    journal = Journal(uri)
    arm = PlannedArm(name="a", difference={}, config={}, parameters=1, flops=1)
    plan = make_plan(arm, seeds=3)
    assert journal.begun() == set()
    first = plan.runs[0].run_id
    journal.begin(first, 0, CONTEXT)
    assert journal.begun() == {first}
    records = journal.records(plan)
    assert [records[run.run_id].state for run in plan.runs] == [RunState.RUNNING, RunState.WAITING, RunState.WAITING]
    assert records[plan.runs[1].run_id] == journal.record(plan.runs[1].run_id)
