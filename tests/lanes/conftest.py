"""A Ray cluster of nodes on this machine, for drivers in processes of their own."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray.cluster_utils

JOIN_S = 60.0


@pytest.fixture
def cluster() -> Iterator[ray.cluster_utils.Cluster]:
    """One node with one CPU; its dashboard is on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    node = {"num_cpus": 1, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def add_host(cluster) -> Iterator[Callable[..., str]]:
    """Return a function that adds a node of one CPU with a host name of its own, and returns the node's id.

    An empty file system hides the folders it is given from that node.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a host of its own needs root and unshare")
    with contextlib.ExitStack() as stack:
        yield lambda name, *hidden: _added(cluster, stack, name, *hidden)


def _added(cluster: ray.cluster_utils.Cluster, stack: contextlib.ExitStack, name: str, *hidden: str) -> str:
    def nodes() -> set[str]:
        return {node["NodeID"] for node in cluster.global_state.node_table() if node["Alive"]}

    before = nodes()
    ray_command = Path(sys.executable).with_name("ray")
    start = f"exec {ray_command} start --address={cluster.address} --num-cpus=1 --block"
    lines = [f"hostname {name}", *(f"mount -t tmpfs none {folder}" for folder in hidden), start]
    node = subprocess.Popen(["unshare", "-m", "-u", "sh", "-c", " && ".join(lines)], stdout=subprocess.DEVNULL)
    stack.callback(node.wait)
    stack.callback(node.terminate)
    deadline = time.monotonic() + JOIN_S
    while not (new := nodes() - before):
        assert node.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return new.pop()
