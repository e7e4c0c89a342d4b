"""Lets a results folder that was moved or copied find its own artifacts in MLflow's database.

MLflow writes absolute addresses of artifacts into its database, and offers no way to change those of runs.
"""

import contextlib
import sqlite3
from pathlib import Path

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"


def relocate_artifacts(folder: Path) -> None:
    """Let the folder's own database name the artifacts in this folder.

    Args:
        folder: a local results folder; nothing is done where it has no database.
    """
    database, here = folder / DATABASE, (folder / ARTIFACTS).as_uri()
    if not database.exists():
        return
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        places = connection.execute(
            "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?",
            (f"file://%/{ARTIFACTS}",),
        ).fetchall()
        for (there,) in places:
            if there != here:
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (here, there)
                )
                connection.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE artifact_uri LIKE ? || '/%'",
                    (here, len(there) + 1, there),
                )
