"""S3 on loopback: moto's server in a process of its own, a bucket for a test, and the log of its requests."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Server:
    """The server's process, its address and its log."""

    process: subprocess.Popen
    address: str
    log: Path

    def requests(self) -> list[str]:
        """The requests so far, as ``METHOD /path``, once the log has stopped growing."""
        size = -1
        while size != (size := self.log.stat().st_size):
            time.sleep(0.1)
        return re.findall(r'"(?:\x1b\[\d+m)*([A-Z]+ \S+) HTTP', self.log.read_text())


def put(address: str) -> None:
    """Make a bucket."""
    urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=20).close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
            stdout=sink,
            stderr=sink,
            env=os.environ | _CREDENTIALS,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        for _ in range(300):
            try:
                put(f"{server.address}/ready")
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(s3_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a new bucket, which this process and those that it starts can reach; their state is the test's."""
    for name, value in _CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.address)
    monkeypatch.setenv("COABLATE_STATE", str(tmp_path / "state"))
    name = f"bucket-{uuid.uuid4().hex}"
    put(f"{s3_server.address}/{name}")
    return f"s3://{name}"
