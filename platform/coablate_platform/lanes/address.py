"""Finds the cluster that a command is to use, and checks early that it takes this process: Ray tries for minutes."""

import os
import socket

import grpc
import psutil
from ray._private.authentication.grpc_authentication_client_interceptor import (
    SyncAuthenticationMetadataClientInterceptor,
)
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.exceptions import AuthenticationError

from coablate_platform.study.errors import InputError

ADDRESS = "RAY_ADDRESS"
"""The environment variable that names a cluster; Ray sets it for the jobs that are submitted to one."""
MAX_PORT = 65535
_PATIENCE_S = 5.0
_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""The call with which every Ray driver begins."""


def address_of(given: str | None) -> str | None:
    """Return ``host:port`` of the cluster that a command is to use; None: a local one is started for it.

    Args:
        given: ``host:port``, ``auto`` for the cluster that runs on this host, or ``local``; None: what the
            environment variable :data:`ADDRESS` says, which within a Ray job is the job's own cluster.

    Raises:
        InputError: it is none of these, or no cluster is there.
    """
    address = given or os.environ.get(ADDRESS) or "local"
    if address == "local":
        return None
    name = f"--address {address}" if given else f"{ADDRESS}={address}"
    if address == "auto":
        try:
            address = canonicalize_bootstrap_address_or_die("auto")
        except ConnectionError:
            raise InputError(f"{name}: no Ray cluster runs on this host") from None
    _check_reachable(address, name)
    return address


def _check_reachable(address: str, name: str) -> None:
    host, _, port = address.rpartition(":")
    if "/" in address:
        raise InputError(f"{name}: expected host:port; to submit to a job server or another host, use --cluster")
    if not host or not port.isdigit() or int(port) > MAX_PORT:
        raise InputError(f"{name}: expected host:port, for example 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise InputError(f"{name}: no Ray cluster answers there ({error})") from None


def check_membership(address: str) -> None:
    """Check that a cluster has a node on this host, and takes this user's token.

    Raises:
        InputError: it has none, this user has no token, or the cluster refuses it.
    """
    if not any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        raise InputError(
            f"Ray at {address}: this host is no node of it, so a study cannot be driven from here; submit it with: "
            "coablate run STUDY --cluster FILE"
        )
    expected = "expected that of the cluster, in ~/.ray/auth_token or RAY_AUTH_TOKEN"
    try:
        with grpc.insecure_channel(address) as plain:
            channel = grpc.intercept_channel(plain, SyncAuthenticationMetadataClientInterceptor())
            channel.unary_unary(_CLUSTER_ID)(b"", timeout=_PATIENCE_S)
    except AuthenticationError:
        raise InputError(f"Ray at {address}: there is no token; {expected}") from None
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise InputError(f"Ray at {address}: it refuses the token; {expected}") from None
