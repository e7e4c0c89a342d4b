"""Starts and ends a cluster with Ray's launcher, and opens SSH tunnels to its head."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from coablate_platform.cluster.file import ClusterFile
from coablate_platform.study.errors import ClusterError, InputError, first_line

TUNNEL_WAIT_S = 60.0
_POLL_S = 0.2
_NOT_UP = "not found"
"""Part of Ray's message about a cluster that has no head."""


def start(cluster: ClusterFile) -> None:
    """Start the cluster, or bring it up to date, as ``ray up`` does.

    Raises:
        ClusterError: the cloud refuses, or a host's setup fails; Ray has printed the details.
    """
    from ray.autoscaler import sdk

    with _ray_errors(cluster):
        sdk.create_or_update_cluster(str(cluster.path))


def end(cluster: ClusterFile) -> None:
    """End all hosts of the cluster, as ``ray down`` does.

    Raises:
        ClusterError: the cloud refuses.
    """
    from ray.autoscaler import sdk

    with _ray_errors(cluster):
        sdk.teardown_cluster(str(cluster.path))


def check_up(cluster: ClusterFile) -> None:
    """Check that the cluster has a head.

    Raises:
        InputError: it has none.
        ClusterError: the cloud does not answer.
    """
    from ray.autoscaler import sdk

    with _ray_errors(cluster):
        sdk.get_head_node_ip(str(cluster.path))


@contextlib.contextmanager
def tunnel(cluster: ClusterFile, port: int, local_port: int | None = None) -> Iterator[int]:
    """Forward a port of this machine's loopback to one of the head's, by ``ray dashboard``, during the block.

    Args:
        cluster: a cluster that is up.
        port: port on the head's loopback.
        local_port: port on this machine; None: a free one.

    Yields:
        The port on this machine.

    Raises:
        InputError: the cluster is not up, or the port of this machine is in use.
        ClusterError: SSH does not reach the head.
    """
    check_up(cluster)
    local_port = _free(local_port)
    command = [sys.executable, "-m", "ray.scripts.scripts", "dashboard", str(cluster.path)]
    ports = ["--port", str(local_port), "--remote-port", str(port)]
    process = subprocess.Popen(
        [*command, *ports],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for this process; it ends the tunnel itself
    )
    try:
        _wait_for(process, local_port, cluster)
        yield local_port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def _free(port: int | None) -> int:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise InputError(
                f"--port {port}: cannot be used on this machine ({error.strerror}); give another"
            ) from None
        return int(probe.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], port: int, cluster: ClusterFile) -> None:
    deadline = time.monotonic() + TUNNEL_WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(_POLL_S)
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate()[0].decode(errors="replace").split("\n")
    reason = next((line.strip() for line in reversed(said) if "ssh" in line.lower()), "no answer in time")
    raise ClusterError(f"cluster {cluster.name}: SSH does not reach its head ({reason})")


@contextlib.contextmanager
def _ray_errors(cluster: ClusterFile) -> Iterator[None]:
    """Turn what Ray's launcher raises into errors of one line."""
    import click
    from ray.autoscaler import sdk

    sdk.configure_logging(log_style="auto", color_mode="auto", verbosity=0)  # as ray up does; else all is said
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    try:
        yield
    except click.ClickException as error:
        raise ClusterError(f"cluster {cluster.name}: {first_line(error)}") from None
    except (Exception, SystemExit) as error:  # of the cloud's library too, which is not imported here
        if _NOT_UP in str(error):
            raise InputError(
                f"cluster {cluster.name} is not up; start it: coablate cluster up {cluster.path}"
            ) from None
        raise ClusterError(f"cluster {cluster.name}: {type(error).__name__}: {first_line(error)}") from None
