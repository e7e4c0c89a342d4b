"""The command line in processes of its own, which a test can signal or kill, and what MLflow then holds."""

import os
import subprocess
import sys

import mlflow


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


def tracked(out) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    return [run for experiment in client.search_experiments() for run in client.search_runs([experiment.experiment_id])]
