"""The command line in processes of its own, which a test can signal or kill, and what results and MLflow then hold."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import mlflow
import psutil

from coablate_platform.journal.journal import Journal
from coablate_platform.results.table import build_table


def coablate(*arguments: object, faults: str | None = None, **options) -> subprocess.Popen:
    environment = os.environ | ({"FAULTS": faults} if faults else {})
    command = [sys.executable, "-m", "coablate_platform", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def finished(process: subprocess.Popen, code: int = 0, seconds: float = 300) -> str:
    said = process.communicate(timeout=seconds)[0]
    assert process.returncode == code, said
    return said


def children(parent: subprocess.Popen, title: str) -> list[psutil.Process]:
    """Return what runs under a name below a process."""
    return [
        child for child in psutil.Process(parent.pid).children(recursive=True) if title in " ".join(child.cmdline())
    ]


def await_epoch(
    process: subprocess.Popen, out: Path, of: Callable[[Iterable[object]], bool] = any, seconds: float = 150
) -> None:
    """Wait until any run of a study, or with ``all`` every run, has recorded an epoch."""
    journal, deadline = Journal(str(out)), time.monotonic() + seconds
    while not ((plans := journal.plans()) and of(journal.record(run.run_id).epochs for run in plans[0].runs)):
        assert time.monotonic() < deadline, "no epoch was recorded in time"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def outcome(out: Path) -> dict:
    """Return what a study's table says and what every test sample got, without times."""
    journal = Journal(str(out))
    plan = journal.plan()
    rows = {row.arm: row.values for row in build_table(plan, journal, allow_mixed=True).rows}
    scores = {cell.arm: journal.predictions(cell.run_id).scores.tolist() for cell in plan.runs}
    return {"rows": rows, "scores": scores}


def tracked(out) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    return [run for experiment in client.search_experiments() for run in client.search_runs([experiment.experiment_id])]
