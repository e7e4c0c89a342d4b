"""Runs of two phases on real Ray: shown, tracked, killed in the second phase, resumed to the same digits."""

import os
import signal
import time
from pathlib import Path

import mlflow
import pytest
from processes import coablate, finished, tracked

from coablate_platform.journal.journal import Journal

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]
STUDY = str(Path(__file__).parents[1] / "helpers" / "two_phase_study.py")


def scores(out: Path) -> list:
    journal = Journal(str(out))
    return [journal.predictions(run.run_id).scores.tolist() for run in journal.plan().runs]


def test_a_run_that_is_killed_in_its_second_phase_resumes_to_the_same_digits(store, tmp_path):
    options = ("run", STUDY, "--data", store.uri)
    whole = finished(coablate(*options, "--out", tmp_path / "whole"))
    assert "test accuracy" in whole
    process = coablate(*options, "--out", tmp_path / "parts", start_new_session=True)
    journal = Journal(str(tmp_path / "parts"))
    deadline = time.monotonic() + 150
    while not (journal.plans() and len(journal.record(journal.plan().runs[0].run_id).epochs) >= 4):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finished(coablate("resume", tmp_path / "parts"))
    assert scores(tmp_path / "parts") == scores(tmp_path / "whole")

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/parts/mlflow.db")
    [first, _] = [run for run in tracked(tmp_path / "parts") if "pretraining/train/loss" in run.data.metrics]
    steps = {
        name: [metric.step for metric in client.get_metric_history(first.info.run_id, name)]
        for name in ("pretraining/train/loss", "train/loss")
    }
    assert steps == {"pretraining/train/loss": [1, 2], "train/loss": list(range(3, 33))}
    assert 0 <= first.data.metrics["test/retrieval"] <= 1
