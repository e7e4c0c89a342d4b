"""A Ray cluster of nodes on this machine, for drivers in processes of their own."""

import socket
from collections.abc import Iterator

import pytest
import ray.cluster_utils


@pytest.fixture
def cluster() -> Iterator[ray.cluster_utils.Cluster]:
    """One node with one CPU; its dashboard is on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    node = {"num_cpus": 1, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()
