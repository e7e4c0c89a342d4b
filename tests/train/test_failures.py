"""The failure policy: how errors are classified, when a lane restarts, and what is run again."""

import errno

import pytest
import torch

from coablate_platform.train.events import RunState, RunUpdate
from coablate_platform.train.failures import (
    MAX_ALIKE,
    DivergedError,
    failure_of,
    is_peer_loss,
    lane_must_restart,
    repeated_failure,
    should_run,
)


def raised(error: Exception) -> Exception:
    """Return the error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (DivergedError("the loss became nan"), RunState.DIVERGED, "the loss became nan"),
        (torch.OutOfMemoryError("CUDA out of memory"), RunState.OUT_OF_MEMORY, "CUDA out of memory"),
        (MemoryError("no room"), RunState.OUT_OF_MEMORY, "no room"),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
            RunState.OUT_OF_MEMORY,
            "not enough memory",
        ),
        *(
            (RuntimeError(text), RunState.OUT_OF_MEMORY, text)
            for text in (
                "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory",
                "CUDA error: out of memory",
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
                "NCCL Error 1: unhandled cuda error: Failed to CUDA calloc, out of memory",
                "std::bad_alloc",
            )
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), RunState.OUT_OF_MEMORY, "Cannot allocate memory"),
        (ValueError("the optimiser ran out of memory slots"), RunState.CRASHED, "slots"),
        (RuntimeError("shapes differ"), RunState.CRASHED, "RuntimeError: shapes differ"),
        (KeyError("video"), RunState.CRASHED, "KeyError: 'video'"),
        (OSError(28, "No space left on device"), RunState.CRASHED, "No space left on device"),
    ],
)
def test_an_error_is_classified(error, state, reason):
    failure = failure_of(raised(error))
    assert failure.state is state
    assert reason in failure.reason
    assert ("in raised" in failure.traceback) == (state is not RunState.DIVERGED)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:2817"), True),
        (RuntimeError("Read error [127.0.0.1]:41153: Connection reset by peer"), True),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("shapes differ"), False),
        (ConnectionResetError(104, "Connection reset by peer"), False),  # a server's, not a collective's
    ],
)
def test_a_lost_peer_is_told_by_what_the_collective_says(error, lost):
    assert is_peer_loss(error) is lost


@pytest.mark.parametrize(
    ("error", "workers", "restart"),
    [
        (RuntimeError("a bug"), 1, False),
        (DivergedError("nan"), 1, False),
        (torch.OutOfMemoryError("full"), 1, False),
        (torch.AcceleratorError("device-side assert"), 1, True),
        (RuntimeError("a bug"), 2, True),  # the other worker waits in a collective operation
        (DivergedError("nan"), 2, True),
    ],
)
def test_a_lane_restarts_only_where_it_must(error, workers, restart):
    assert lane_must_restart(error, workers) is restart


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (RunState.WAITING, True),
        (RunState.RUNNING, True),  # its process died before it recorded an end
        (RunState.CRASHED, True),
        (RunState.LOST, True),
        (RunState.OUT_OF_MEMORY, True),
        (RunState.STOPPED, True),  # it resumes from its checkpoint
        (RunState.COMPLETED, False),
        (RunState.DIVERGED, False),  # it would diverge again
    ],
)
def test_a_resumed_study_runs_what_may_still_complete(state, again):
    assert should_run(state) is again


def ended(state: RunState = RunState.CRASHED, reason: str = "OSError: no space", times: int = 1) -> list[RunUpdate]:
    return [RunUpdate(state=state, reason=reason)] * times


PARTIAL = "OSError: no space: '/out/checkpoints/{0}/.state.pt.{0}{0}.tmp'"


@pytest.mark.parametrize(
    ("ends", "failure"),
    [
        (ended(times=MAX_ALIKE), "crashed: OSError: no space"),
        (ended(times=MAX_ALIKE - 1), ""),
        (ended(times=1) + ended(RunState.COMPLETED, "") + ended(times=MAX_ALIKE), "crashed: OSError: no space"),
        (ended(times=MAX_ALIKE) + ended(RunState.COMPLETED, ""), ""),
        (ended(times=2) + ended(RunState.DIVERGED) + ended(times=MAX_ALIKE - 1), ""),
        (ended(times=2) + ended(RunState.RUNNING, "") + ended(times=MAX_ALIKE - 1), ""),  # it was stopped
        (ended(times=2) + ended(RunState.LOST) + ended(times=MAX_ALIKE - 1), ""),
        (ended(times=2) + ended(reason="ValueError: 1") + ended(times=MAX_ALIKE - 1), ""),
        (ended(RunState.LOST, times=MAX_ALIKE), "lost: OSError: no space"),
        (ended(RunState.OUT_OF_MEMORY, "full", times=MAX_ALIKE), "out_of_memory: full"),
        (ended(RunState.DIVERGED, times=MAX_ALIKE), ""),
        (ended(RunState.COMPLETED, "", times=MAX_ALIKE), ""),
        ([end for n in range(MAX_ALIKE) for end in ended(reason=f"KeyError: 1\n{n}")], "crashed: KeyError: 1"),
        (
            [end for n in range(MAX_ALIKE) for end in ended(reason=PARTIAL.format(f"{n:08x}"))],
            "crashed: OSError: no space: '/out/checkpoints/*/.state.pt.*.tmp'",
        ),
        ([end for n in range(MAX_ALIKE) for end in ended(reason=f"KeyError: 123456{n}")], ""),
    ],
)
def test_failures_in_a_row_are_told_from_those_of_single_configurations(ends, failure):
    assert repeated_failure(ends) == failure
