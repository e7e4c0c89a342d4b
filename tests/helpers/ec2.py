"""The EC2 and IAM that moto plays on loopback, and what a user must have there before a cluster can start."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from job_cluster import free_ports

REGION = "us-east-1"
ACCOUNT = "123456789012"
PROFILES = ("coablate-head", "coablate-worker")
DLAMI = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261006"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The environment with which clients reach it, and an image and profiles in it."""

    environment: dict[str, str]
    image: str

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )

    def filled_in(self) -> str:
        """The text of cluster.yaml with all values; SSH leads nowhere, since the hosts do not exist."""
        text = (ROOT / "cluster.yaml").read_text().replace("ami-FILL-IN", self.image)
        text = text.replace("iam::FILL-IN", f"iam::{ACCOUNT}").replace("s3://FILL-IN", "s3://bucket")
        return text.replace("ssh_user: ubuntu", 'ssh_user: ubuntu\n  ssh_proxy_command: "false"')


@contextlib.contextmanager
def cloud() -> Iterator[Cloud]:
    """Start it for the block."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        found = Cloud(environment=environment, image="")
        for profile in PROFILES:
            found.client("iam").create_instance_profile(InstanceProfileName=profile)
        yield Cloud(environment=environment, image=register(found, DLAMI))
    finally:
        process.kill()
        process.wait()


def register(there: Cloud, name: str) -> str:
    """Register an image under a name, and return its id."""
    return str(there.client("ec2").register_image(Name=name, RootDeviceName="/dev/sda1")["ImageId"])


def home_environment(there: Cloud, home: Path) -> dict[str, str]:
    """The environment of a command, with a home of its own in which there is nothing."""
    named = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    return {**named, **there.environment, "HOME": str(home), "TMPDIR": str(home)}
