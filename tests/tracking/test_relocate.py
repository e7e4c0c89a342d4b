"""A results folder that was moved or copied shows its own artifacts."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from coablate_platform.study.errors import InputError
from coablate_platform.tracking.follower import track, tracking_uri
from coablate_platform.tracking.relocate import relocate_artifacts

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]


def test_a_copy_shows_its_own_artifacts(directory, plan, journal, train, empty_database, tmp_path):
    shutil.copy(empty_database, directory / "mlflow.db")
    for run in plan.runs:
        train(run, 0.9)
    assert track(str(directory), None, None) == 0
    copy = tmp_path / "a copy 100%_"
    shutil.copytree(directory, copy)
    shutil.rmtree(directory)
    relocate_artifacts(copy)
    client = MlflowClient(tracking_uri=tracking_uri(str(copy)))
    experiment = client.get_experiment_by_name("coablate")
    assert experiment.artifact_location == (copy / "mlartifacts").as_uri()
    runs = client.search_runs([experiment.experiment_id])
    assert all(run.info.artifact_uri.startswith((copy / "mlartifacts").as_uri()) for run in runs)
    study = next(run for run in runs if run.data.tags["coablate.level"] == "study")
    local = client.download_artifacts(study.info.run_id, "table/table.md", str(tmp_path))
    assert plan.title in Path(local).read_text()
    assert track(str(copy), None, None) == 0
    assert not directory.exists(), "nothing is written where the folder was"


def test_other_experiments_keep_their_artifacts(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_experiment("mine", artifact_location="s3://bucket/mlartifacts")
    relocate_artifacts(tmp_path)
    assert client.get_experiment_by_name("mine").artifact_location == "s3://bucket/mlartifacts"
    relocate_artifacts(tmp_path / "none")


def test_a_file_that_is_no_database_is_a_clear_error_and_one_without_tables_is_none_yet(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"")
    relocate_artifacts(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to look like one" * 40)
    with pytest.raises(InputError, match=r"mlflow\.db: this is no database of MLflow \(file is not a database\)"):
        relocate_artifacts(tmp_path)
