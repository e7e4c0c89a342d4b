"""Kills processes of a running study at moments that a seed decides, resumes what has ended, and says what it cost."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from processes import children, coablate, finished, outcome

from coablate_platform.journal.journal import Journal

STUDY = Path(__file__).with_name("faulty_study.py")
ARMS = "none,none again"
VICTIMS = {
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "trainers": "ray::_Trainers",
    "dispatcher": "ray::Dispatcher",
    "proxy": "ray::ResourceTrainable",
    "follower": "coablate_platform.tracking.follower",
    "raylet": "raylet/raylet",
    "gcs": "gcs_server",
}
"""What may be killed beside the ``driver`` -> what its command line contains."""
PATIENCE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a study went.

    Args:
        outcome: its table and every score.
        steps: training steps that were made, including those that were lost and made again.
        resumed: how often the command ended, and ``coablate resume`` continued the study.
        seconds: from the first command to the end of the last.
    """

    outcome: dict
    steps: int
    resumed: int
    seconds: float


def course(store: str, folder: Path, kills: Sequence[str] = (), seed: int = 0, pause: float = 0.3) -> Course:
    """Run a study of two arms to its end, and kill one process after the other meanwhile.

    Before each kill another epoch must be recorded; then a random time of up to three steps passes. Kills for which the
    study is too short are left out.

    Args:
        store: address of the store.
        folder: an empty folder, for the results (``out``) and what the model notes (``marks``).
        kills: ``driver`` or names in :data:`VICTIMS`.
        seed: decides the moments, and which of several processes is killed.
        pause: seconds that a training step takes.
    """
    marks, out = folder / "marks", folder / "out"
    marks.mkdir()
    options = ("--set", f"model.pause={pause}", "--set", f"model.folder={marks}")
    chance, began, resumed = random.Random(seed), time.monotonic(), 0
    process = _started("run", STUDY, "--data", store, "--out", out, *options)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: _end(process))
        for victim in kills:
            seen = _epochs(out)
            while _epochs(out) <= seen and process.returncode != 0:
                process, resumed = _kept_going(process, out, resumed)
                time.sleep(0.1)
            time.sleep(chance.uniform(0, 3 * pause))
            if found := _processes(process, victim):
                os.kill(chance.choice(found), signal.SIGKILL)
        while process.returncode != 0:
            process, resumed = _kept_going(process, out, resumed)
            time.sleep(0.1)
            assert time.monotonic() - began < PATIENCE_S * (len(kills) + 1)
    steps = (marks / "steps").read_text().count("\n")
    return Course(outcome=outcome(out), steps=steps, resumed=resumed, seconds=time.monotonic() - began)


def check_agreement(out: Path) -> None:
    """Check that journal, Tune's account, files and MLflow say the same of a study that has ended."""
    said = finished(coablate("reconcile", out, "--check"))
    assert "nothing differs" in said, said


def _started(*words: object) -> subprocess.Popen:
    return coablate(*words, faults=ARMS, start_new_session=True)


def _kept_going(process: subprocess.Popen, out: Path, resumed: int) -> tuple[subprocess.Popen, int]:
    """Resume the study if its command has failed; return the command that is at work, and how often it was resumed."""
    if not process.poll():  # at work, or done
        return process, resumed
    _end(process)
    return _started("resume", out), resumed + 1


def _end(process: subprocess.Popen) -> None:
    """End a command, if it has not ended."""
    with process:
        process.kill()


def _epochs(out: Path) -> int:
    journal = Journal(str(out))
    return sum(len(journal.record(run.run_id).epochs) for plan in journal.plans() for run in plan.runs)


def _processes(process: subprocess.Popen, victim: str) -> list[int]:
    """Return the ids of the processes of a kind that belong to a command; empty where there is none now."""
    if process.poll() is not None:
        return []
    if victim == "driver":
        return [process.pid]
    with contextlib.suppress(psutil.NoSuchProcess):
        return sorted(child.pid for child in children(process, VICTIMS[victim]))
    return []
