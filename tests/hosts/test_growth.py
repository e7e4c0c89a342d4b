"""A cluster that starts without a worker: Ray's own autoscaler adds nodes, on this machine, when a study asks for them.

Its processes have a process namespace of their own, so that they end with the test and no other Ray is stopped.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray.util
from hosts import WITH_THE_TEST, skip_reason
from processes import outcome

pytestmark = [pytest.mark.hosts, pytest.mark.slow, pytest.mark.timeout(400)]
STUDY = Path(__file__).parents[1] / "helpers" / "faulty_study.py"
WORKERS = 2
EMPTY = {
    "file_mounts": {},
    "auth": {},
    "docker": {},
    **dict.fromkeys(("cluster_synced_files", "initialization_commands", "setup_commands"), ()),
    **{f"{node}_{what}": () for node in ("head", "worker") for what in ("setup_commands", "start_ray_commands")},
}
"""What Ray's launcher fills in, and its monitor looks up."""
WAIT_FOR_THE_HEAD_ALONE = """
import ray, time
ray.init("{address}", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) > 1:
    time.sleep(1)
print("the head is alone")
"""


@pytest.fixture
def script(tmp_path, store) -> list[str]:
    """Commands that start the cluster, run the study there, and wait for its nodes to go."""
    if reason := skip_reason():
        pytest.skip(reason)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, dashboard = one.getsockname()[1], other.getsockname()[1]
    address = f"{ray.util.get_node_ip_address()}:{port}"
    file, home = tmp_path / "cluster.json", tmp_path / "home"
    home.mkdir()
    home.joinpath("ray_bootstrap_config.yaml").touch()  # as on a head that Ray's launcher has set up
    file.write_text(json.dumps(cluster(address)))
    binaries = Path(sys.executable).parent
    return [
        f"export HOME={home} RAY_FAKE_CLUSTER=1 AUTOSCALER_UPDATE_INTERVAL_S=1",
        f"{binaries}/ray start --head --num-cpus=0 --port={port} --dashboard-port={dashboard} "
        f"--object-store-memory=100000000 --autoscaling-config={file} >/dev/null",
        f"{binaries}/coablate run {STUDY} --data {store.uri} --out {tmp_path}/out --address {address}",
        f"{sys.executable} -c '{WAIT_FOR_THE_HEAD_ALONE.format(address=address)}'",
    ]


def cluster(address: str) -> dict:
    """Return a cluster file for nodes that are processes of this machine."""
    provider = {"type": "fake_multinode", "gcs_address": address, "use_node_id_as_ip": True}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    worker = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": WORKERS}
    return EMPTY | {
        "cluster_name": "growing",
        "max_workers": WORKERS,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": provider | {"disable_node_updaters": True, "disable_launch_config_check": True},
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
    }


def test_nodes_come_when_a_study_asks_for_them_and_go_when_it_has_ended(script, tmp_path):
    own = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64, "FAULTS": "none,none again"}
    said = subprocess.run(
        [*WITH_THE_TEST, *own, "sh", "-ec", "\n".join(script)],
        env=os.environ | token,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    assert "Waiting for nodes: a lane needs 1 worker(s)" in said, said
    assert "the head is alone" in said, said
    assert set(outcome(tmp_path / "out")["scores"]) == {"none", "none again"}
