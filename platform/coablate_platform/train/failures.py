"""The failure policy, as pure functions: classifies errors and decides what is retried."""

import errno
import re
import traceback
from collections.abc import Sequence

import torch

from coablate_platform.passwords import masked
from coablate_platform.train.events import Failure, RunState, RunUpdate

MAX_LOSSES = 3
"""How often a worker may die with a run, or a lane may be lost, before it is not retried."""
MAX_NODE_LOSSES = 20
"""How often the node of a run's worker may be lost: a spot instance is nobody's fault, but a run may end its hosts."""
RETRIED = (RunState.CRASHED, RunState.LOST, RunState.OUT_OF_MEMORY)
"""Failures that a resumed study or search retries: their cause may be gone."""
MAX_ALIKE = 5
"""After how many runs in a row that failed alike a search stops."""

_PEER_GONE = re.compile(r"(closed|reset) by peer|remote process exited", re.IGNORECASE)
_NO_MEMORY = re.compile(
    "not enough memory|(can't|cannot|could not|unable to) allocate memory|out of memory|std::bad_alloc|_ALLOC_FAILED",
    re.IGNORECASE,
)
"""Messages of torch's CPU allocator, the system, CUDA, NCCL, cuBLAS and cuDNN."""
_IDENTIFIER = re.compile(r"[0-9a-f]{8,}|\(host \S+\)$")
"""Run ids, the random part of a temporary file's name, and the host on which a run failed."""


class DivergedError(Exception):
    """A loss, a score or a metric is not finite."""


def failure_of(error: BaseException) -> Failure:
    """Classify an error that ended an attempt. Its texts are recorded and shown, so they are masked."""
    text, reason = masked("".join(traceback.format_exception(error))), masked(str(error))
    if isinstance(error, DivergedError):
        return Failure(state=RunState.DIVERGED, reason=reason)
    if _is_out_of_memory(error):
        return Failure(state=RunState.OUT_OF_MEMORY, reason=reason, traceback=text)
    return Failure(state=RunState.CRASHED, reason=f"{type(error).__name__}: {reason}", traceback=text)


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, on a GPU or a CPU. Few of torch's errors have a type of their own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return getattr(error, "errno", None) == errno.ENOMEM or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def is_peer_loss(error: BaseException) -> bool:
    """Return whether a collective operation failed because another worker's process died.

    gloo and NCCL have no exception type for it, so this reads the message. A worker that raises an exception keeps its
    process and its connections until the lane is stopped, so it does not cause such an error.
    """
    return isinstance(error, RuntimeError) and _PEER_GONE.search(str(error)) is not None


def lane_must_restart(error: BaseException, workers: int) -> bool:
    """Return whether a lane must be restarted after ``error``.

    It must where other workers may wait for this one in a collective operation, and where the GPU reported an error.

    Args:
        error: what ended the run.
        workers: number of workers of the lane.
    """
    return workers > 1 or isinstance(error, torch.AcceleratorError)


def should_run(state: RunState) -> bool:
    """Return whether a started or resumed study or search runs a run in this state.

    A completed run is not run again; nor is one that diverged, since it would diverge again.
    """
    return not state.ended or state in (*RETRIED, RunState.STOPPED)


def repeated_failure(ends: Sequence[RunUpdate]) -> str:
    """Return how the last :data:`MAX_ALIKE` runs failed, in a line, where they failed alike; else an empty text.

    Failures are alike if they have the same state and the same first line of the reason, whatever identifiers it names.
    Only those count whose cause may pass. A run that completed, diverged or was stopped ends the row: it shows that
    runs can train.

    Args:
        ends: the last update of each run, in the order in which the runs ended or were stopped.
    """
    alike = {(end.state, _IDENTIFIER.sub("*", end.reason.partition("\n")[0])) for end in ends[-MAX_ALIKE:]}
    if len(ends) < MAX_ALIKE or len(alike) > 1 or ends[-1].state not in RETRIED:
        return ""
    state, reason = alike.pop()
    return f"{state.value}: {reason}"
