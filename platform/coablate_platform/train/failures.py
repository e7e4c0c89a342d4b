"""Decisions on failures, as pure functions: what kind of failure an error is, and whether to try again."""

import re
import traceback

import torch

from coablate_platform.train.events import Failure, RunState

MAX_LOSSES = 3  # times a run may take its lane down with it before it is given up
RETRIED = (RunState.CRASHED, RunState.LOST, RunState.OUT_OF_MEMORY)  # a change outside may have cured it


_PEER_GONE = re.compile(r"(closed|reset) by peer|remote process exited", re.IGNORECASE)


class DivergedError(Exception):
    """The training loss is no longer finite."""


def failure_of(error: BaseException) -> Failure:
    """Classify an error that ended an attempt."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, DivergedError):
        return Failure(state=RunState.DIVERGED, reason=str(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error):
        return Failure(state=RunState.OUT_OF_MEMORY, reason=str(error), traceback=text)
    return Failure(state=RunState.CRASHED, reason=f"{type(error).__name__}: {error}", traceback=text)


def lost_peer(error: BaseException) -> bool:
    """Say whether a collective failed because the process at its other end is gone; gloo and NCCL have no type for it.

    A worker that merely fails keeps its process, and so its connections, until the lane is stopped.
    """
    return isinstance(error, RuntimeError) and _PEER_GONE.search(str(error)) is not None


def must_restart_lane(error: BaseException, workers: int) -> bool:
    """Say whether a lane can go on after ``error``: not when other workers wait in a collective, nor on a sick GPU."""
    return workers > 1 or isinstance(error, torch.AcceleratorError)


def to_run(state: RunState) -> bool:
    """Say whether a (re)started study has to run this: not what is completed, nor what would only diverge again."""
    return not state.ended or state in (*RETRIED, RunState.STOPPED)
