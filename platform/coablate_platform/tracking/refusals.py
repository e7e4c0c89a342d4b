"""Tells a request that MLflow refuses from an outage: it is said once, and it is not repeated."""

import errno
import sys
import time

from coablate_platform.passwords import masked

_MAY_PASS = (408, 429)  # HTTP: the request took too long, or there were too many
_FILES_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)
_LONGEST_REASON = 300


def is_refusal(error: Exception) -> bool:
    """Return whether MLflow, or the place of its artifacts, refuses a request, so that repeating it cannot help."""
    if isinstance(error, OSError) and error.errno in _FILES_REFUSED:
        return True
    status = getattr(error, "get_http_status_code", None)  # MLflow's exceptions; this module does not import MLflow
    code = status() if status else getattr(getattr(error, "response", None), "status_code", 0)
    return 400 <= code < 500 and code not in _MAY_PASS


def reason_of(error: Exception) -> str:
    """Return an error's message as one line that is not too long."""
    text = " ".join(str(error).split()) or repr(error)
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


class Refusals:
    """What MLflow has refused of a study.

    Args:
        uri: MLflow's address, as it may be shown.

    Attributes:
        any: whether it has refused anything.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._said: set[str] = set()

    @property
    def any(self) -> bool:
        return bool(self._said)

    def add(self, what: str, error: Exception) -> None:
        """Say that MLflow refuses something, and why; the same thing only once."""
        if what not in self._said:
            self._said.add(what)
            say(f"MLflow at {self._uri} refuses {what}: {reason_of(error)}")


def say(message: str) -> None:
    """Print a line with the time, for the log; without passwords."""
    print(f"{time.strftime('%F %T')} {masked(message)}", file=sys.stderr, flush=True)
