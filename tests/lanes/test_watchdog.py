"""Workers that hang: when one counts as hanging, and what is left of it. No Ray."""

import subprocess
import sys

import pytest

from coablate_platform.lanes.watchdog import LEAST_S, LONGER, START, Watchdog, patience, take_hangs
from coablate_platform.train.events import RunState

HANGS = """
import sys, threading, time
from pathlib import Path
from coablate_platform.lanes.watchdog import Watchdog

def hangs_here():
    {hang}

with Watchdog(Path(sys.argv[1]), 3, 1, 0.3) as watchdog:
    def events():
        for batch in watchdog.batches(iter(range(3))):
            pass
        hangs_here()
        yield
    next(watchdog.events(events()))
"""


@pytest.mark.parametrize(
    ("setting", "longest", "starting", "expected"),
    [
        (None, 0.0, False, LEAST_S),
        (None, LEAST_S / LONGER, False, LEAST_S),
        (None, LEAST_S / LONGER + 1, False, LEAST_S + LONGER),
        (None, 0.0, True, LEAST_S * START),
        (5.0, 100.0, False, 5.0),
        (5.0, 0.0, True, 5.0 * START),
    ],
)
def test_a_worker_may_be_silent_for(setting, longest, starting, expected):
    assert patience(setting, longest, starting) == expected


@pytest.mark.parametrize("hang", ["threading.Event().wait()", "time.sleep(60)", "sum(iter(int, 1))"])
def test_a_worker_that_hangs_is_ended_and_its_stack_kept(tmp_path, hang):
    program = HANGS.format(hang=hang)
    ended = subprocess.run([sys.executable, "-c", program, tmp_path / "run"], timeout=30, capture_output=True)
    assert ended.returncode == 1, ended.stderr
    [(attempt, failure)] = take_hangs(tmp_path / "run").items()
    assert attempt == 3
    assert failure.state is RunState.LOST
    assert failure.reason == "its worker made no step for 0:00:00 and was ended"
    assert "hangs_here" in failure.traceback
    assert "worker 1" in failure.traceback
    assert take_hangs(tmp_path / "run") == {}  # said once


def test_a_run_that_waits_for_its_command_or_has_ended_is_not_watched(tmp_path):
    program = """
import sys, time
from pathlib import Path
from coablate_platform.lanes.watchdog import Watchdog
with Watchdog(Path(sys.argv[1]), 0, 0, 0.3) as watchdog:
    for _ in watchdog.events(watchdog.batches(iter(range(4)))):
        time.sleep(0.5)
time.sleep(0.5)
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], timeout=30, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_step_sets_the_limit_and_the_start_does_not(tmp_path, monkeypatch):
    clock, limits = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda limit, **_: limits.append(limit))
    with Watchdog(tmp_path, 0, 0, None) as watchdog:
        batches = watchdog.batches(iter(range(9)))
        for seconds in (500.0, 300.0, 20.0, 90.0):  # opening, first step, two others
            clock[0] += seconds
            next(batches)
    assert limits == [LEAST_S * START, LEAST_S * START, LEAST_S, LEAST_S, 900.0]
