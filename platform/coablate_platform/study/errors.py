"""Errors a person can act on: what, where, what was expected, the nearest valid name."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A user's mistake, said in one line. The command line prints it without a traceback and exits with 2."""


class LaneLostError(Exception):
    """What trains was lost too often: a lane as a whole, or the dispatcher. What was recorded stays; exit code 1."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; empty where it says nothing."""
    return str(error).partition("\n")[0]


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest option, else the sorted list of all options."""
    known = sorted(options)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(known) or 'none'})"
