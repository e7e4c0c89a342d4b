"""Nodes that take no run, or leave: the study ends on the others, and what happened is said."""

import subprocess
import sys
from pathlib import Path

import pytest
import ray
from processes import await_epoch, coablate, finished

from coablate_platform.journal.journal import Journal
from coablate_platform.lanes.cluster import LaneSize
from coablate_platform.lanes.dispatcher import Dispatcher
from coablate_platform.lanes.lane import LaneConfig
from coablate_platform.lanes.pool import RayLanes
from coablate_platform.study.errors import LaneLostError
from coablate_platform.train.events import RunState

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
STUDY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")
HOST = "host-without-store"


def test_a_study_ends_on_the_nodes_that_can_train(cluster, add_host, store, tmp_path):
    add_host(HOST, store.uri)
    command = ("run", STUDY, "--data", store.uri, "--out", tmp_path, "--address", cluster.address)
    slow = ("--set", "model.pause=0.5")  # the lane on the other node has time to start
    said = finished(coablate(*command, *slow, faults="none,none again"))
    [line] = [line for line in said.splitlines() if line.startswith("Not used")]
    assert line.startswith(f"Not used: host {HOST}: store {store.uri} cannot be opened (")
    journal = Journal(str(tmp_path))
    runs = [run.run_id for run in journal.plan().runs]
    assert {journal.state(run) for run in runs} == {RunState.COMPLETED}
    assert {journal.record(run).attempts for run in runs} == {1}
    assert not list(tmp_path.glob(".probe-*"))


def test_a_run_goes_on_elsewhere_when_the_cluster_takes_its_node_away(cluster, add_host, store, tmp_path):
    leaver = add_host("host-that-leaves")
    out, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    study = ("run", STUDY, "--data", store.uri, "--out", out, "--address", cluster.address)
    slow = ("--set", "model.pause=1", "--set", "training.epochs=16", "--set", f"model.folder={marks}")
    running = coablate(*study, *slow, faults="none,none again")
    await_epoch(running, out, of=all)
    ray_command = Path(sys.executable).with_name("ray")
    drain = f"{ray_command} drain-node --address {cluster.address} --node-id {leaver} --deadline-remaining-seconds 100"
    reason = "--reason DRAIN_NODE_REASON_PREEMPTION --reason-message spot"
    subprocess.run(f"{drain} {reason}", shell=True, check=True, capture_output=True)
    finished(running)
    journal = Journal(str(out))
    runs = [run.run_id for run in journal.plan().runs]
    assert {journal.state(run) for run in runs} == {RunState.COMPLETED}
    assert sorted(journal.record(run).attempts for run in runs) == [1, 2]
    steps = (marks / "steps").read_text().count("\n")
    assert steps == sum(len(journal.record(run).epochs) for run in runs) * 2  # none was trained twice


@pytest.mark.slow
def test_a_lane_that_fails_before_it_takes_a_run_is_started_three_times(cluster, tmp_path):
    ray.init(cluster.address, log_to_driver=False)
    try:
        dispatcher = ray.remote(num_cpus=0)(Dispatcher).remote()
        config = LaneConfig(
            lane=0, dispatcher=dispatcher, recorder=None, checkpoints="", store="", proof=None, threads=-1
        )
        lanes = RayLanes(config, LaneSize(workers=1, cpus=1, gpus=0), str(tmp_path), most=1)
        lanes.start(0, ())
        lanes.wait(200)
        [(lane, error)] = lanes.ended()
        assert (lane, type(error)) == (0, LaneLostError)
        assert "lane 0 failed 4 times before it took a run, last with RuntimeError: set_num_threads" in str(error)
    finally:
        ray.shutdown()
