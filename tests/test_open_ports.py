"""A Ray that Coablate starts listens on loopback only, and answers nobody without its token."""

import http.client
import ipaddress
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from processes import coablate, finished

from coablate_platform.process import keep_token

DRIVER = """
from ray._private import ray_constants
ray_constants.ENABLE_RAY_CLUSTER = False  # or it would look for a cluster on loopback at this host's other address
from coablate_platform.cli import main
main()
"""
"""A driver on the machine of a local cluster."""


def listening(parent: int) -> dict[str, str]:
    """Return address and port -> name of the process, of all that listens in a family of processes."""
    root, found = psutil.Process(parent), dict[str, str]()
    for process in [root, *root.children(recursive=True)]:
        try:
            connections, name = process.net_connections("tcp"), process.name()
        except psutil.NoSuchProcess:
            continue
        found |= {f"{c.laddr.ip} {c.laddr.port}": name for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def answers(port: str) -> list[str]:
    """Return what a port tells over HTTP without a token."""
    told = []
    for path in ("/metrics", "/api/version", "/nodes?view=summary", "/api/jobs/"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
                told.append(f"{port}{path}: {answer.read(80)!r}")
        except (OSError, ValueError, http.client.HTTPException):  # gRPC is no HTTP/1
            pass
    return told


def is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address.partition(" ")[0])
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_what_listens_while_a_study_trains_is_on_loopback_and_a_driver_without_the_token_is_refused(
    store, tmp_path, monkeypatch
):
    """The store of a process group, Tune's and Train's actors, dashboard and workers listen as long as runs train."""
    study = str(Path(__file__).parent / "helpers" / "faulty_study.py")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    keep_token()
    out = tmp_path / "out"
    driver = coablate("run", study, "--data", store.uri, "--out", out, "--set", "model.pause=1", faults="none")
    try:
        until = time.monotonic() + 120
        while not list(out.glob("journal/*/*/epochs.arrow")):
            assert driver.poll() is None, driver.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.2)
        found = listening(driver.pid)
        assert {address: name for address, name in found.items() if not is_loopback(address)} == {}
        assert {"gcs_server", "raylet", "ray::RayTrainWorker"} <= {name[:19] for name in found.values()}
        assert [answer for address in found for answer in answers(address.split()[1])] == []
        gcs = next(address.split()[1] for address, name in found.items() if name == "gcs_server")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        words = ["run", study, "--data", store.uri, "--out", str(tmp_path / "other"), "--address", f"127.0.0.1:{gcs}"]
        other = subprocess.Popen(
            [sys.executable, "-P", "-c", DRIVER, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = finished(other, code=2, seconds=60)
        assert "it refuses the token; expected that of the cluster" in said
        assert "Traceback" not in said
        assert not list((tmp_path / "other").glob("journal/*"))
    finally:
        driver.terminate()
        driver.communicate(timeout=60)
