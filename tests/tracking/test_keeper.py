"""A follower that dies is started again, and what it missed reaches MLflow."""

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from coablate_platform.journal.journal import Journal
from coablate_platform.tracking.follower import tracking_uri
from coablate_platform.tracking.keeper import FollowerKeeper

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]


def runs(directory: Path) -> int:
    client = MlflowClient(tracking_uri=tracking_uri(str(directory)))
    experiment = client.get_experiment_by_name("coablate")
    return 0 if experiment is None else len(client.search_runs([experiment.experiment_id]))


def test_a_follower_that_dies_is_started_again_at_once(directory, plan, journal, train, empty_database):
    shutil.copy(empty_database, directory / "mlflow.db")
    said: list[str] = []
    keeper = FollowerKeeper(str(directory), plan.key, None, said.append)
    first = keeper.pid
    os.kill(first, signal.SIGKILL)
    for _ in range(100):
        if keeper.pid != first:
            break
        time.sleep(0.1)
    assert psutil.pid_exists(keeper.pid)
    assert said == ["MLflow's follower has died (signal 9); it is started again in 1 s, training goes on"]
    train(plan.runs[0], 0.9)
    assert keeper.finish() == 0
    assert runs(directory) == 3  # the study, the arm and the run


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_what_happened_since_a_follower_died_is_caught_up_at_the_end(
    directory, plan, journal, train, empty_database, pause
):
    """Its end may be noticed before the last catch-up is asked for, or only then."""
    shutil.copy(empty_database, directory / "mlflow.db")
    keeper = FollowerKeeper(str(directory), plan.key, None, [].append)
    train(plan.runs[0], 0.9)
    os.kill(keeper.pid, signal.SIGKILL)
    time.sleep(pause)
    assert keeper.finish() == 0
    assert runs(directory) == 3


def test_a_password_stands_in_the_environment_and_not_among_the_options(directory, plan, journal, free_port):
    keeper = FollowerKeeper(str(directory), plan.key, f"http://me:secret@127.0.0.1:{free_port}", [].append)
    try:
        process = psutil.Process(keeper.pid)
        assert not any("secret" in word for word in process.cmdline())
        assert "secret" in process.environ()["COABLATE_TRACKING"]
    finally:
        os.kill(keeper.pid, signal.SIGTERM)
        keeper.finish(timeout=1)
    log = (directory / "studies" / plan.key / "tracking.log").read_text()
    assert "secret" not in log
    assert Journal(str(directory)).plan(plan.key).key == plan.key
