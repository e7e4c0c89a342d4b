"""Compares the files that conclude a study, or report on a search, with the journal."""

from collections.abc import Sequence

from coablate_platform.journal.difference import Difference, Remedy
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog
from coablate_platform.results.conclusion import conclusion_files
from coablate_platform.results.report import read_findings, report_files
from coablate_platform.results.table import build_table
from coablate_platform.study.plan import AnyPlan, StudyPlan

PLACE = "files"


class FileCheck:
    """Compares ``studies/<key>/table.*`` and ``figures/``, or ``report/``, with what the journal gives.

    They are expected once a study or search has ended, or if any of them is there. Other files are left alone.
    Implements :class:`~coablate_platform.journal.difference.Check`.

    Args:
        journal: the journal of the results folder.
        plan: the plan of the study or the search.
    """

    place = PLACE

    def __init__(self, journal: Journal, plan: AnyPlan) -> None:
        self._journal, self._plan = journal, plan
        self._expected: dict[str, bytes] | None = None

    def find(self) -> Sequence[Difference]:
        differences = []
        for name, content in self._files().items():
            held = self._journal.folder.read(f"studies/{self._plan.key}/{name}")
            if held != content:
                found = "is missing" if held is None else "has another content"
                differences.append(
                    Difference(place=PLACE, what=name, found=found, expected="that of the journal", remedy=Remedy.WRITE)
                )
        return differences

    def mend(self, found: Sequence[Difference]) -> None:
        for difference in found:
            content = self._files()[difference.what]
            self._journal.write_study_file(self._plan.key, difference.what, content)

    def _files(self) -> dict[str, bytes]:
        """Return name -> content of the files that must be there. They are computed once."""
        if self._expected is None:
            self._expected = self._compute()
        return self._expected

    def _compute(self) -> dict[str, bytes]:
        there = {name.partition("/")[0] for name in self._journal.folder.stamps(f"studies/{self._plan.key}")}
        if isinstance(self._plan, StudyPlan):
            records = self._journal.records(self._plan)
            if "table.md" in there or all(record.state.ended for record in records.values()):
                table = build_table(self._plan, self._journal, True, records)
                return conclusion_files(table, records, self._journal)
            return {}
        log = JournalTrialLog(self._journal, self._plan.key)
        trials = log.trials()
        over = len(trials) >= self._plan.trials and all(trial.outcome is not None for trial in trials)
        return report_files(read_findings(self._plan, log)) if "report" in there or over else {}
