"""The files that conclude a study: its table in every format, and its figures."""

from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.results.figures import study_figures
from coablate_platform.results.render import table_files
from coablate_platform.results.table import Table


def conclusion_files(table: Table, records: dict[str, RunRecord], journal: Journal) -> dict[str, bytes]:
    """Return file name in the study's folder -> content: ``table.md`` …, ``figures/effects.svg`` …

    Args:
        table: the study's table.
        records: run id -> record, of all runs of the study.
        journal: the journal, from which predictions are read.

    Raises:
        InputError: the predictions of a run are damaged.
    """
    figures = study_figures(table, records, journal.predictions)
    return table_files(table) | {f"figures/{name}": content for name, content in figures.items()}
