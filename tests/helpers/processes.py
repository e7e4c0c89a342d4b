"""The command line in processes of its own, which a test can signal or kill, and what results and MLflow then hold."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow

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
