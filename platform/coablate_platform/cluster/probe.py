"""Looks at every host of a cluster, from a Ray job on its head, and prints what it found as one line of JSON."""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coablate_platform.cluster.live_checks import MARK
from coablate_platform.data.store import Store
from coablate_platform.files import filesystem_of, write_atomically
from coablate_platform.passwords import TRACKING
from coablate_platform.process import connect_ray, interface_of, seconds_ahead
from coablate_platform.study.errors import first_line
from coablate_platform.train.provenance import PACKAGES, platform_code

_HEAD = "node:__internal_head__"  # a resource of the head, by Ray's name
_REWRITES = 20  # times that a host replaces a file that the head reads meanwhile
_CONTENTS = (b"a" * 2**16, b"b" * 2**16)
_CONNECT_WAIT_S = 5.0
_GPU_WAIT_S = 120


class Prober:
    """Looks at the host on which it runs; an actor on each."""

    def facts(self, data: str | None, out: str | None) -> dict[str, Any]:
        """Return what a host is and has.

        Args:
            data: URI of a store; None: none is asked for.
            out: URI of a folder that holds the head's probe file, ``head``; None likewise.
        """
        file = Path.home() / ".ray" / "auth_token"
        return {
            "host": socket.gethostname(),
            "address": ray.util.get_node_ip_address(),
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in ("coablate", *PACKAGES)},
            "code": platform_code(),
            "token_mode": file.stat().st_mode & 0o777 if file.is_file() else None,
            "auth_mode": os.environ.get("RAY_AUTH_MODE", ""),
            "disk": shutil.disk_usage(tempfile.gettempdir()).free,
            "shared_memory": shutil.disk_usage("/dev/shm").free,
            "interface": interface_of(ray.util.get_node_ip_address()) or "",
            "store": data and _answer(lambda: Store.open(data).fingerprint),
            "storage": out and _answer(lambda: _same_storage(out)),
            "gpu": _gpu(),
        }

    def clock(self) -> float:
        """Return the host's time in seconds since 1970."""
        return time.time()

    def rewrite(self, uri: str) -> str:
        """Replace a file many times; return the error, or an empty text."""
        filesystem, path = filesystem_of(uri)

        def replace_it() -> None:
            for turn in range(_REWRITES):
                write_atomically(filesystem, path, _CONTENTS[turn % 2])

        return _error(replace_it)

    def listen(self) -> tuple[str, int]:
        """Accept connections on a free port, and return the address."""
        server = socket.create_server((ray.util.get_node_ip_address(), 0))
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        return ray.util.get_node_ip_address(), server.getsockname()[1]

    def unreachable(self, addresses: list[tuple[str, int]]) -> list[str]:
        """Return the hosts among addresses to which no connection can be made."""
        found = []
        for host, port in addresses:
            try:
                socket.create_connection((host, port), timeout=_CONNECT_WAIT_S).close()
            except OSError:
                found.append(host)
        return found


def probe(data: str | None, out: str | None) -> dict[str, Any]:
    """Look at every host of the joined cluster.

    Returns:
        ``hosts``: for the head and then the others what :meth:`Prober.facts` returns, with ``clock`` (seconds by which
            it is ahead of the head's), ``atomic`` (what was wrong while it replaced files) and ``unreachable`` (hosts).
        ``tracking``: why MLflow does not answer on the head; empty if it does, or is not set.
        ``head_storage``: why the head cannot write the folder; empty if it can.
    """
    folder = out and f"{out.rstrip('/')}/.coablate-doctor-{uuid.uuid4().hex}"
    if folder and (error := _error(lambda: _write(f"{folder}/head"))):
        return {"hosts": [], "tracking": "", "head_storage": error}
    actor = ray.remote(num_cpus=0)(Prober)
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = sorted(alive, key=lambda node: _HEAD not in node["Resources"])
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    probers = [actor.options(scheduling_strategy=place).remote() for place in places]
    hosts: list[dict[str, Any]] = ray.get([prober.facts.remote(data, folder) for prober in probers])
    addresses = ray.get([prober.listen.remote() for prober in probers])
    for host, prober in zip(hosts, probers, strict=True):
        host["clock"] = seconds_ahead(partial(_clock_of, prober))
        host["atomic"] = _torn(prober, f"{folder}/{uuid.uuid4().hex}") if folder else ""
        host["unreachable"] = ray.get(prober.unreachable.remote(addresses))
    if folder:
        filesystem, path = filesystem_of(folder)
        filesystem.delete_dir(path)
    return {"hosts": hosts, "tracking": _error(_ask_tracking), "head_storage": ""}


def main() -> None:
    """Probe the cluster of this Ray job, and print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    parser.add_argument("--out")
    options = parser.parse_args()
    connect_ray(address="auto")
    print(MARK + json.dumps(probe(options.data, options.out)), flush=True)


def _answer(ask: Callable[[], str]) -> str:
    """Return the answer, or the error, which begins with an exclamation mark."""
    try:
        return ask()
    except Exception as error:  # of storage, the store or the resolver
        return f"!{type(error).__name__}: {first_line(error)}"


def _error(do: Callable[[], object]) -> str:
    try:
        do()
    except Exception as error:  # likewise
        return f"{type(error).__name__}: {first_line(error)}"
    return ""


def _write(uri: str) -> None:
    filesystem, path = filesystem_of(uri)
    write_atomically(filesystem, path, _CONTENTS[0])


def _read(uri: str) -> bytes:
    filesystem, path = filesystem_of(uri)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def _same_storage(folder: str) -> str:
    """Return whether this host sees the head's probe file, and can write beside it."""
    if _read(f"{folder}/head") != _CONTENTS[0]:
        raise ValueError("the head's file has another content here")
    _write(f"{folder}/{uuid.uuid4().hex}")
    return "same"


def _torn(prober: Any, uri: str) -> str:
    """Read a file while a host replaces it, and return what was wrong; empty if every reading was whole."""
    try:
        _write(uri)
        replacing = prober.rewrite.remote(uri)
        while not ray.wait([replacing], timeout=0)[0]:
            if _read(uri) not in _CONTENTS:
                return "the head read a part of a file"
        return str(ray.get(replacing))
    except Exception as error:  # likewise
        return f"{type(error).__name__}: {first_line(error)}"


def _clock_of(prober: Any) -> float:
    return float(ray.get(prober.clock.remote()))


def _gpu() -> dict[str, Any]:
    """Return what :mod:`coablate_platform.cluster.gpu` prints; ``error`` where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-m", "coablate_platform.cluster.gpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_GPU_WAIT_S)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _accept(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


def _ask_tracking() -> None:
    address = os.environ.get(TRACKING, "")
    if address.startswith("http"):
        urllib.request.urlopen(f"{address}/health", timeout=_CONNECT_WAIT_S).close()


if __name__ == "__main__":
    main()
