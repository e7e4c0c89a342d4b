"""Lets a results folder that was moved or copied find its own artifacts in MLflow's database.

MLflow writes absolute addresses of artifacts into its database, and offers no way to change those of runs.
"""

import contextlib
import sqlite3
from pathlib import Path

from coablate_platform.study.errors import InputError

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"


def relocate_artifacts(folder: Path) -> None:
    """Let the folder's own database name the artifacts in this folder.

    Args:
        folder: a local results folder; nothing is done where it has no database, or one without tables yet.

    Raises:
        InputError: the file is no database.
    """
    database, here = folder / DATABASE, (folder / ARTIFACTS).as_uri()
    if not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            _relocate(connection, here)
    except sqlite3.OperationalError:
        raise  # another process holds it
    except sqlite3.DatabaseError as error:
        raise InputError(f"{database}: this is no database of MLflow ({error})") from None


def _relocate(connection: sqlite3.Connection, here: str) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not {"experiments", "runs"} <= tables:
        return
    places = connection.execute(
        "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?", (f"file://%/{ARTIFACTS}",)
    ).fetchall()
    for (there,) in places:
        if there != here:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (here, there)
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
                (here, len(there) + 1, len(there) + 1, f"{there}/"),
            )
