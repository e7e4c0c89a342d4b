"""Whole studies on real Ray, Tune, Train and MLflow: what is promised about failures, kills and resumption."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import await_epoch, children, coablate, finished, outcome, tracked

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.tune_check import read_account
from coablate_platform.train.events import RunState

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]
STUDY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")


def run(store, out, *more: object, faults: str, code: int = 0) -> str:
    return finished(coablate("run", STUDY, "--data", store.uri, "--out", out, *more, faults=faults), code)


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    """What two arms come to when nothing happens to them."""
    out = tmp_path_factory.mktemp("undisturbed")
    said = run(store, out, "--set", "model.pause=0.01", faults="none,none again")
    assert "accuracy" in said
    return outcome(out)


def test_failures_are_told_apart_counted_and_do_not_stop_the_others(store, tmp_path):
    said = run(store, tmp_path, faults="none,diverge,raise,memory,none again", code=1)
    journal = Journal(str(tmp_path))
    plan = journal.plan()
    states = {cell.arm: journal.state(cell.run_id) for cell in plan.runs}
    assert states == {
        "none": RunState.COMPLETED,
        "diverge": RunState.DIVERGED,
        "raise": RunState.CRASHED,
        "memory": RunState.OUT_OF_MEMORY,
        "none again": RunState.COMPLETED,
    }
    broken = next(cell for cell in plan.runs if cell.arm == "raise")
    failure = journal.record(broken.run_id).failure
    assert failure is not None
    assert "broken on purpose" in failure.reason
    assert "faulty_study.py" in failure.traceback or "in fail" in failure.traceback
    assert "1 diverged" in said
    statuses = {
        run.data.tags["coablate.arm"]: run.info.status for run in tracked(tmp_path) if "coablate.seed" in run.data.tags
    }
    assert statuses["raise"] == "FAILED"
    assert statuses["none"] == "FINISHED"
    assert len(read_account(journal, plan.key)) == 5
    compared = finished(coablate("reconcile", tmp_path, "--check"))
    assert compared == f"{plan.key}: nothing differs (journal, Tune, files, MLflow)\n"


@pytest.mark.slow
def test_a_run_without_memory_is_tried_again_with_the_machine_to_itself(store, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    more = ("--set", f"model.folder={marks}", "--set", "model.pause=0.25")
    run(store, tmp_path / "out", *more, faults="none,memory once,none again,none again again")
    journal = Journal(str(tmp_path / "out"))
    runs = {cell.arm: cell.run_id for cell in journal.plan().runs}
    assert {journal.state(run_id) for run_id in runs.values()} == {RunState.COMPLETED}
    assert {arm: journal.attempts(run_id) for arm, run_id in runs.items()} == {
        **dict.fromkeys(runs, 1),
        "memory once": 2,
    }
    steps = (marks / "steps").read_text().split("\n")[:-1]
    own = [number for number, fault in enumerate(steps) if fault == "memory once"]
    again = own[3:]  # the third step is the one that failed
    assert len(again) > 4
    assert again == list(range(again[0], again[0] + len(again)))  # no other trained meanwhile


def test_running_again_repeats_nothing(store, tmp_path):
    run(store, tmp_path, faults="none")
    journal = Journal(str(tmp_path))
    before = journal.stamp(journal.plan().runs[0].run_id)
    said = run(store, tmp_path, faults="none")
    assert "in the journal already" in said
    assert journal.stamp(journal.plan().runs[0].run_id) == before


def test_a_killed_worker_changes_nothing_but_the_time(store, tmp_path, undisturbed):
    folder = tmp_path / "marks"
    folder.mkdir()
    run(
        store,
        tmp_path / "out",
        "--set",
        "model.pause=0.01",
        "--set",
        f"model.folder={folder}",
        faults="die once,none again",
    )
    assert (folder / "failed-once").exists()
    journal = Journal(str(tmp_path / "out"))
    assert journal.attempts(journal.plan().runs[0].run_id) == 2
    assert list(outcome(tmp_path / "out")["scores"].values()) == list(undisturbed["scores"].values())


def test_a_worker_that_hangs_is_ended_and_its_run_resumes(store, tmp_path, undisturbed):
    marks = tmp_path / "marks"
    marks.mkdir()
    run(store, tmp_path / "out", "--set", f"model.folder={marks}", faults="hang once,none again")
    journal = Journal(str(tmp_path / "out"))
    hung = journal.plan().runs[0].run_id
    assert journal.attempts(hung) == 2
    [failure] = journal._files.rows(hung, 0, "failure")
    assert failure["state"] == RunState.LOST
    assert failure["reason"] == "its worker made no step for 0:00:06 and was ended"
    assert "in fail" in failure["traceback"]  # the function that hung
    assert list(outcome(tmp_path / "out")["scores"].values()) == list(undisturbed["scores"].values())


@pytest.mark.slow
def test_a_run_that_keeps_killing_its_lane_is_given_up(store, tmp_path):
    said = run(store, tmp_path, faults="none,die,none again", code=1)
    assert "1 lost" in said
    journal = Journal(str(tmp_path))
    lost = next(cell for cell in journal.plan().runs if cell.arm == "die")
    assert "died 3 times" in journal.record(lost.run_id).failure.reason


def started(store, out, pause: float, *more: str) -> subprocess.Popen:
    """Start two arms in a process of their own and wait for the first recorded epoch."""
    process = coablate(
        *("run", STUDY, "--data", store.uri, "--out", out, "--set", f"model.pause={pause}", *more),
        faults="none,none again",
        start_new_session=True,
    )
    try:
        await_epoch(process, out)
    except BaseException:
        process.kill()
        print(process.communicate()[0])
        raise
    return process


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """End a process that a failing test would leave behind."""
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(600)  # Train gives a dead lane's place back after half a minute, on a busy machine after minutes
@pytest.mark.parametrize("title", ["ray::_Trainers", pytest.param("ray::TrainController", marks=pytest.mark.slow)])
def test_lanes_that_are_lost_as_a_whole_are_started_again(cluster, store, tmp_path, undisturbed, title):
    """The process of all trainers is killed, or one lane's controller, while another Ray runs on the machine."""
    with killed_at_the_end(started(store, tmp_path, 0.5)) as process:
        os.kill(children(process, title)[0].pid, signal.SIGKILL)
        finished(process, seconds=450)
    assert list(outcome(tmp_path)["scores"].values()) == list(undisturbed["scores"].values())


@pytest.mark.parametrize(
    ("title", "reason"), [("ray::Dispatcher", "the dispatcher died"), ("gcs_server", "Ray's control process has ended")]
)
def test_a_study_that_loses_what_all_lanes_need_stops_and_says_how_to_go_on(store, tmp_path, title, reason):
    with killed_at_the_end(started(store, tmp_path, 1.0)) as process:
        os.kill(children(process, title)[0].pid, signal.SIGKILL)
        said = finished(process, code=1)
    assert f"coablate: {reason}" in said
    assert "To continue: coablate resume" in said
    assert "raylet" not in said
    assert "Traceback" not in said
    assert len(said.splitlines()) < 8
    journal = Journal(str(tmp_path))
    assert not any(journal.state(run.run_id).ended for run in journal.plan().runs)


def test_an_interrupt_stops_in_good_order_and_says_how_to_go_on(store, tmp_path):
    with killed_at_the_end(started(store, tmp_path, pause=1.0)) as process:
        process.send_signal(signal.SIGINT)
        said = finished(process, code=130)
    assert "coablate resume" in said
    assert "Traceback" not in said
    assert "raylet" not in said
    assert {run.info.status for run in tracked(tmp_path)} == {"KILLED"}


def test_a_killed_driver_is_resumed_to_the_same_table(store, tmp_path, undisturbed):
    with started(store, tmp_path, pause=0.01) as process:
        os.kill(process.pid, signal.SIGKILL)
    said = finished(coablate("resume", tmp_path, faults="none,none again"))
    assert "accuracy" in said
    assert outcome(tmp_path) == undisturbed
    runs = tracked(tmp_path)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 1 + 2 + 2  # study, arms, seeds: none twice


def test_lanes_of_two_workers_share_a_batch_and_outlive_the_death_of_one(store, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    more = ["training.workers=2", "training.batch_size=6", f"model.folder={marks}"]
    run(store, tmp_path / "out", *(word for value in more for word in ("--set", value)), faults="die once")
    journal = Journal(str(tmp_path / "out"))
    record = journal.record(journal.plan().runs[0].run_id)
    assert record.state is RunState.COMPLETED
    assert record.attempts == 2  # what the other worker met then is no failure of the run
    assert len(journal.predictions(record.run_id).names) == 20


def wait_for(process: subprocess.Popen, out, *states: RunState) -> None:
    """Wait until the two runs of a study are in these states."""
    journal = Journal(str(out))
    while [journal.state(run.run_id) for run in journal.plan().runs] != list(states):
        assert process.poll() is None, "it ended before"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_node_that_joins_is_put_to_work(store, tmp_path, cluster):
    with killed_at_the_end(started(store, tmp_path, 20.0, "--address", cluster.address)) as process:
        wait_for(process, tmp_path, RunState.RUNNING, RunState.WAITING)  # one CPU, one lane
        cluster.add_node(num_cpus=1)
        wait_for(process, tmp_path, RunState.RUNNING, RunState.RUNNING)
        process.send_signal(signal.SIGINT)
        finished(process, code=130)


@pytest.mark.slow
def test_a_node_that_leaves_for_good_costs_no_run(store, tmp_path, cluster, undisturbed):
    node = cluster.add_node(num_cpus=1)
    with killed_at_the_end(started(store, tmp_path, 4.0, "--address", cluster.address)) as process:
        wait_for(process, tmp_path, RunState.RUNNING, RunState.RUNNING)
        cluster.remove_node(node, allow_graceful=False)
        finished(process)
    assert list(outcome(tmp_path)["scores"].values()) == list(undisturbed["scores"].values())
    journal = Journal(str(tmp_path))
    assert sorted(journal.attempts(run.run_id) for run in journal.plan().runs) == [1, 2]
