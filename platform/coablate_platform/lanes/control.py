"""Notices that Ray's control process (the GCS) has ended. Ray itself ends this process then, after a silent minute."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

_LOOK_S = 1.0  # between two looks
_ANSWER_S = 5.0  # within which it answers


@contextlib.contextmanager
def watched(address: str, patience: float, on_end: Callable[[], None]) -> Iterator[None]:
    """Watch a control process during the block.

    Args:
        address: its ``host:port``.
        patience: seconds for which it may not answer; those of a cluster may be started again.
        on_end: called, in another thread, when it has not answered for longer.
    """
    host, _, port = address.rpartition(":")
    left = threading.Event()

    def look() -> None:
        answered = time.monotonic()
        while not left.wait(_LOOK_S):
            if _answers(host, int(port)):
                answered = time.monotonic()
            elif time.monotonic() - answered > patience and not left.is_set():
                on_end()
                return

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True
