"""A node that lacks the store takes no run: the study ends on the others, and names the host."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import coablate, finished

from coablate_platform.journal.journal import Journal
from coablate_platform.train.events import RunState

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
STUDY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")
HOST = "host-without-store"
JOIN_S = 60.0


@pytest.fixture
def other_node(cluster, store) -> Iterator[None]:
    """A second node with a host name of its own, on which an empty file system hides the store."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a host of its own needs root and unshare")
    ray_command = Path(sys.executable).with_name("ray")
    start = f"{ray_command} start --address={cluster.address} --num-cpus=1 --block"
    hidden = f"hostname {HOST} && mount -t tmpfs none {store.uri} && exec {start}"
    with subprocess.Popen(["unshare", "-m", "-u", "sh", "-c", hidden], stdout=subprocess.DEVNULL) as node:
        deadline = time.monotonic() + JOIN_S
        while len(cluster.global_state.node_table()) < 2:
            assert node.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield
        node.terminate()


def test_a_study_ends_on_the_nodes_that_can_train(cluster, other_node, store, tmp_path):
    command = ("run", STUDY, "--data", store.uri, "--out", tmp_path, "--address", cluster.address)
    said = finished(
        coablate(*command, "--set", "model.pause=0.5", faults="none")
    )  # slow: the other node has time to come
    [line] = [line for line in said.splitlines() if line.startswith("Not used")]
    assert line.startswith(f"Not used: host {HOST}: store {store.uri} cannot be opened (")
    journal = Journal(str(tmp_path))
    runs = [run.run_id for run in journal.plan().runs]
    assert {journal.state(run) for run in runs} == {RunState.COMPLETED}
    assert {journal.record(run).attempts for run in runs} == {1}
    assert not list(tmp_path.glob(".probe-*"))
