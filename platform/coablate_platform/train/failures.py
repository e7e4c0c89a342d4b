"""The failure policy, as pure functions: classifies errors and decides what is retried."""

import re
import traceback

import torch

from coablate_platform.train.events import Failure, RunState

MAX_LOSSES = 3
"""How often a worker may die with a run, or a lane may be lost, before it is not retried."""
RETRIED = (RunState.CRASHED, RunState.LOST, RunState.OUT_OF_MEMORY)
"""Failures that a resumed study retries: their cause may be gone."""

_PEER_GONE = re.compile(r"(closed|reset) by peer|remote process exited", re.IGNORECASE)


class DivergedError(Exception):
    """The training loss is NaN or infinite, or no epoch could be selected for the test."""


def failure_of(error: BaseException) -> Failure:
    """Classify an error that ended an attempt."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, DivergedError):
        return Failure(state=RunState.DIVERGED, reason=str(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error):
        return Failure(state=RunState.OUT_OF_MEMORY, reason=str(error), traceback=text)
    return Failure(state=RunState.CRASHED, reason=f"{type(error).__name__}: {error}", traceback=text)


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
    """Return whether a started or resumed study runs a run in this state.

    A completed run is not run again; nor is one that diverged, since it would diverge again.
    """
    return not state.ended or state in (*RETRIED, RunState.STOPPED)
