"""A real Ray cluster of one host with its job server, all on loopback, beside any other that runs here."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from coablate_platform.process import keep_token

START_WAIT_S = 100


def free_ports(count: int) -> list[int]:
    """Return ports on loopback that nothing listens on."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def job_cluster() -> Iterator[str]:
    """Start it for the block, and yield the job server's address."""
    keep_token()
    port, dashboard, agent = free_ports(3)
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    places = ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--include-dashboard=true"]
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    sizes = ["--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000", "--include-log-monitor=false"]
    programs = Path(sys.executable).parent  # where jobs find python and coablate
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "PATH": f"{programs}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [*ray, *places, *ports, *sizes], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd="/",
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_WAIT_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", dashboard), timeout=1):
                break
            time.sleep(0.2)
        else:
            process.kill()
            pytest.fail(process.communicate()[0].decode())
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()  # Ray itself takes half a minute to end
        process.communicate()
