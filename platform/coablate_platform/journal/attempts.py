"""The Arrow files of a run's attempts: ``journal/<run>/<attempt>/<name>.arrow``."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from coablate_platform.journal.storage import Folder, arrow_table, to_arrow
from coablate_platform.study.errors import InputError
from coablate_platform.train.events import Predictions

_METRICS = pa.map_(pa.string(), pa.float64())
_SCHEMAS = {
    "begin": pa.schema([("time", pa.float64()), ("context", pa.string())]),
    "epochs": pa.schema(
        [("epoch", pa.int64()), ("time", pa.float64()), ("seconds", pa.float64()), ("metrics", _METRICS)]
    ),
    "conclusion": pa.schema([("epoch", pa.int64()), ("time", pa.float64()), ("metrics", _METRICS)]),
    "failure": pa.schema(
        [("state", pa.string()), ("reason", pa.string()), ("traceback", pa.string()), ("time", pa.float64())]
    ),
    "stopped": pa.schema([("time", pa.float64())]),
}
"""Name of a file -> its columns; times in Unix seconds."""
_PREDICTIONS = {"name", "label", "scores"}
_FILE = re.compile(r"(\d+)/(\w+)\.arrow")


@dataclass(frozen=True)
class AttemptFiles:
    """Reads and writes the files of all attempts in a results folder.

    Attempts are numbered from 0. Names are without the ending ``.arrow``.

    Args:
        folder: the results folder.
    """

    folder: Folder

    def names(self, run_id: str) -> dict[int, set[str]]:
        """Return attempt -> names of its files, by one listing of the run's folder; files of others do not count."""
        names: dict[int, set[str]] = {}
        for path in self.folder.stamps(f"journal/{run_id}"):
            if match := _FILE.fullmatch(path):
                names.setdefault(int(match[1]), set()).add(match[2])
        return names

    def rows(self, run_id: str, attempt: int, name: str) -> list[dict[str, Any]] | None:
        """Return a file's rows, or None if there is no such file.

        Raises:
            InputError: the file is damaged.
        """
        table = self._read(run_id, attempt, name)
        return None if table is None else list(table.to_pylist())

    def row(self, run_id: str, attempt: int, name: str) -> dict[str, Any]:
        """Return the first row of a file, or an empty one if there is no such file.

        Raises:
            InputError: the file is damaged.
        """
        return next(iter(self.rows(run_id, attempt, name) or []), {})

    def write(self, run_id: str, attempt: int, name: str, rows: list[dict[str, Any]]) -> None:
        """Write a file atomically."""
        self._write(run_id, attempt, name, pa.Table.from_pylist(rows, schema=_SCHEMAS[name]))

    def predictions(self, run_id: str, attempt: int) -> Predictions | None:
        """Return the predictions of an attempt, or None if it has none.

        Raises:
            InputError: the file is damaged.
        """
        table = self._read(run_id, attempt, "predictions")
        if table is None:
            return None
        scores = table["scores"].combine_chunks()
        flat = scores.flatten().to_numpy(zero_copy_only=False)
        return Predictions(
            names=table["name"].to_pylist(),
            labels=table["label"].to_numpy(),
            scores=flat.reshape(len(scores), scores.type.list_size),
        )

    def write_predictions(self, run_id: str, attempt: int, predictions: Predictions) -> None:
        """Write the predictions of an attempt atomically."""
        scores = np.ascontiguousarray(predictions.scores, dtype=np.float32)
        columns = {
            "name": pa.array(predictions.names, pa.string()),
            "label": pa.array(predictions.labels, pa.int64()),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1)), scores.shape[1]),
        }
        self._write(run_id, attempt, "predictions", pa.table(columns))

    def _read(self, run_id: str, attempt: int, name: str) -> pa.Table | None:
        path = _path(run_id, attempt, name)
        try:
            table = self.folder.read_as(arrow_table, path)
            if table is None:
                return None
            columns = _SCHEMAS[name].names if name in _SCHEMAS else _PREDICTIONS
            if missing := set(columns).difference(table.column_names):
                raise KeyError(f"it has no column {', '.join(sorted(missing))}")
            return table
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(
                f"{self.folder.uri}/{path} is damaged ({error.args[0]}); delete the run's folder and run the study "
                "again"
            ) from None

    def _write(self, run_id: str, attempt: int, name: str, table: pa.Table) -> None:
        self.folder.write(_path(run_id, attempt, name), to_arrow(table))


def _path(run_id: str, attempt: int, name: str) -> str:
    return f"journal/{run_id}/{attempt:03d}/{name}.arrow"
