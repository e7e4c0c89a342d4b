"""What the tests of tracking share: an empty MLflow database, and a results folder with a plan."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from coablate_platform.journal.journal import Journal
from coablate_platform.study.plan import StudyPlan


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database, made once: its forty or so migrations take almost ten seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def directory(journal: Journal, plan: StudyPlan) -> Path:
    """A results folder that holds the study's plan."""
    journal.write_plan(plan)
    assert journal.folder.local is not None
    return journal.folder.local
