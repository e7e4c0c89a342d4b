"""Makes this process and those it starts work on an ordinary machine: proxies, working directories, text, signals."""

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import IO, Any

from coablate_platform.study.errors import InputError, first_line

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXY_EXCEPTIONS = ("no_proxy", "NO_PROXY", "no_grpc_proxy")
_SAFE_PATH = "PYTHONSAFEPATH"
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_CLOSED = {"enable_metrics_collection": False}  # metrics' ports would be open to all, without a token
_METRICS_PORTS = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")
_NO_PORT = "-1"  # at which Ray starts no server, and goes on
_USER_ONLY = 0o600
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as a shell has it."""


_received: list[int] = []


def prepare() -> None:
    """Prepare this process; processes that it starts inherit the environment.

    A proxy of the environment is not used for this machine. Python does not import modules from the working directory,
    where a ``queue.py`` would replace the standard library's. Characters that the output's encoding lacks are replaced.
    """
    exempt_from_proxies((*LOOPBACK, socket.gethostname()))
    os.environ[_SAFE_PATH] = "1"
    for stream in (sys.stdout, sys.stderr):
        _replace_characters(stream)


@contextlib.contextmanager
def safe_imports() -> Iterator[None]:
    """Let processes that start in the block import nothing from the working directory."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def working_directory() -> str:
    """Return the working directory; empty where it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def away_from_working_directory() -> contextlib.AbstractContextManager[None]:
    """Leave the working directory during the block, in which Ray starts.

    Ray puts the directory in which it starts first on its workers' path, whatever Python's own settings are.
    """
    return contextlib.chdir(os.sep) if working_directory() else contextlib.nullcontext()


def start_ray(system: Mapping[str, object] = MappingProxyType({}), **options: Any) -> None:
    """Start a Ray of this machine, whatever cluster the environment names. All its servers are on loopback.

    Args:
        system: settings of Ray's own system configuration.
        options: of ``ray.init``.

    Raises:
        InputError: it does not start.
    """
    import ray  # not for every process

    keep_token()
    for name in _METRICS_PORTS:
        os.environ.setdefault(name, _NO_PORT)
    try:
        with _on_loopback():
            connect_ray(address="local", _system_config={**_CLOSED, **system}, **options)
    except Exception as error:  # of many kinds: long paths, no shared memory, a busy machine
        ray.shutdown()
        reason = f"{type(error).__name__}: {first_line(error)}"
        hint = "; set TMPDIR to a folder with a shorter path" if "path length" in reason else ""
        raise InputError(f"Ray does not start on this machine ({reason}){hint}") from None


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a Ray that starts in the block bind its servers to loopback, as it does on macOS and Windows.

    On Linux it binds them to all interfaces, and has no option for this.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def keep_token() -> None:
    """Make the token file that Ray uses by default, if there is none, and let nobody but the user read it.

    Whoever reads it can run code on a cluster of this user. Ray makes it readable for all users of the machine.
    """
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    file = Path.home() / ".ray" / "auth_token"
    file.parent.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError), open(file, "x", opener=_open_for_the_user) as made:
        made.write(secrets.token_hex(32))
    file.chmod(_USER_ONLY)


def _open_for_the_user(path: str, flags: int) -> int:
    return os.open(path, flags, _USER_ONLY)


def connect_ray(**options: Any) -> None:
    """Call ``ray.init``, from outside the working directory and so that Ray prints nothing.

    What its raylets report of lost processes would stand on the standard output, among the tables. What is lost is
    noticed and said by its owners.

    Args:
        options: of ``ray.init``.

    Raises:
        Exception: one of many kinds; Ray does not start or answer.
    """
    import ray
    from ray._private import worker

    worker.print_to_stdstream = lambda *_, **__: None  # log_to_driver leaves it out, and Ray has no other switch
    with away_from_working_directory():
        ray.init(log_to_driver=False, logging_level="critical", **options)


def exempt_from_proxies(hosts: Iterable[str]) -> None:
    """Let no process that starts from now on reach these hosts through a proxy of the environment."""
    for name in _PROXY_EXCEPTIONS:
        known = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys((*known, *hosts)))


def seconds_ahead(ask: Callable[[], float]) -> float:
    """Return by how many seconds another clock is ahead of this one. The question's way there and back is halved.

    Args:
        ask: asks for the other clock's time, in Unix seconds.
    """
    before = time.time()
    theirs = ask()
    return theirs - (before + time.time()) / 2


def interface_of(address: str) -> str | None:
    """Return the name of the network interface that has this address; None if none has."""
    import psutil  # not for every process

    families = (socket.AF_INET, socket.AF_INET6)
    found = psutil.net_if_addrs().items()
    return next((name for name, own in found for a in own if a.family in families and a.address == address), None)


def end_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise :class:`KeyboardInterrupt` in the main thread.

    A signal that is ignored stays ignored, as ``nohup`` asks. Ray replaces the handlers when it starts, so this is
    called again after that.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in _ENDING:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def exit_code() -> int:
    """Return the exit code of an interrupted process: 128 and the number of the signal."""
    return 128 + _received[0] if _received else INTERRUPTED


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt


def _replace_characters(stream: IO[str]) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # a stream that a test or notebook put in place may have none
    if reconfigure is not None:
        reconfigure(errors="replace")
