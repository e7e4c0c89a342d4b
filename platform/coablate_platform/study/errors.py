"""Errors that a user can act on. Their messages say what is wrong, where, and what was expected."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A user's mistake, described in one line. The command line prints it without a traceback and exits with code 2."""


class UnfitNodesError(Exception):
    """Nodes of a lane cannot train runs.

    Args:
        nodes: id of a node -> its host's name and what is wrong there, in a line.
    """

    def __init__(self, nodes: dict[str, str]) -> None:
        super().__init__("; ".join(nodes.values()))
        self.nodes = nodes


class NodeLeavesError(Exception):
    """The node of a lane's worker will be taken away, for example a spot instance. Its run goes on elsewhere."""


class NoRoomLeftError(Exception):
    """The nodes of a lane are gone, or in use by others: its workers found no room within Ray Train's time for it."""


class LaneLostError(Exception):
    """The lanes or the dispatcher died too often. Recorded results are kept; the command line exits with code 1."""


class LeaseLostError(Exception):
    """The process lost the lease of its results folder, and must not write there. Recorded results are kept; exit 1."""


class RepeatedFailureError(Exception):
    """A search's runs fail one after another in the same way. Recorded results are kept; exit code 1, as above."""


class ClusterError(Exception):
    """A cluster, or the way to it, fails. What runs there goes on; the command line exits with code 1."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; it may be empty."""
    return str(error).partition("\n")[0]


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option that is most like an unknown name, whatever its case; None if none is near."""
    by_lower = {option.lower(): option for option in sorted(options)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[near[0]] if near else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a hint for an unknown name: `` (did you mean 'x'?)`` with the nearest option, else all options, sorted."""
    known = sorted(options)
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else f" (known: {', '.join(known) or 'none'})"
