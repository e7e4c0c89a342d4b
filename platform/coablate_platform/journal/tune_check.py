"""Tune's account of a study's runs, in ``studies/<key>/tune.json``, and its comparison with the journal.

Tune keeps its trials in memory. The driver writes down what it holds when it ends, by whatever reason; a driver that
is killed leaves no account. Nothing is read from it but by the check.
"""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from coablate_platform.journal.difference import Difference, Remedy
from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.study.errors import InputError
from coablate_platform.train.events import RunState, RunUpdate

PLACE = "Tune"
FILE = "tune.json"


@dataclass(frozen=True, kw_only=True)
class TuneTrial:
    """What Tune holds of a run.

    Args:
        status: status of its trial, in Tune's words.
        state: state of the run, as its last result has it.
        epoch: the epoch of that result; 0 where the run has ended.
        attempts: number of the run's attempts when this was written.
    """

    status: str
    state: RunState
    epoch: int
    attempts: int


def read_account(journal: Journal, key: str) -> dict[str, TuneTrial]:
    """Return run id -> what Tune held of it; empty if there is no account.

    Raises:
        InputError: the file is damaged.
    """
    content = journal.folder.read(f"studies/{key}/{FILE}")
    if content is None:
        return {}
    try:
        rows = json.loads(content)
        return {run_id: TuneTrial(**row | {"state": RunState(row["state"])}) for run_id, row in rows.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{journal.folder.uri}/studies/{key}/{FILE} is damaged ({error}); delete it") from None


def account_keeper(journal: Journal, key: str) -> Callable[[Mapping[str, tuple[str, RunUpdate]]], None]:
    """Return what adds to the account of a study: run id -> status of its trial in Tune, and that trial's last result.

    It does nothing where the account cannot be written: the error that ended the study is more important.
    """

    def keep(trials: Mapping[str, tuple[str, RunUpdate]]) -> None:
        new = {
            run_id: TuneTrial(status=status, state=last.state, epoch=last.epoch, attempts=journal.attempts(run_id))
            for run_id, (status, last) in trials.items()
        }
        with contextlib.suppress(OSError, InputError):
            _write(journal, key, read_account(journal, key) | new)

    return keep


class TuneCheck:
    """Compares Tune's account with the journal. Implements
    :class:`~coablate_platform.journal.difference.Check`.

    The journal may be ahead, since another study may have continued a run. It must hold all that Tune was told.

    Args:
        journal: the journal of the results folder.
        key: the key of the study or the search.
    """

    place = PLACE

    def __init__(self, journal: Journal, key: str) -> None:
        self._journal, self._key = journal, key

    def find(self) -> Sequence[Difference]:
        account = read_account(self._journal, self._key)
        pairs = ((run_id, trial, self._journal.record(run_id)) for run_id, trial in account.items())
        return [
            Difference(
                place=PLACE,
                what=f"run {run_id[:12]}",
                found=_words(trial.state, trial.epoch),
                expected=_words(record.state, record.epochs[-1].epoch if record.epochs else 0),
                remedy=Remedy.DELETE,
                target=run_id,
            )
            for run_id, trial, record in pairs
            if not _agree(trial, record)
        ]

    def mend(self, found: Sequence[Difference]) -> None:
        wrong = {difference.target for difference in found}
        account = read_account(self._journal, self._key)
        _write(self._journal, self._key, {run: trial for run, trial in account.items() if run not in wrong})


def _agree(trial: TuneTrial, record: RunRecord) -> bool:
    """Return whether the journal holds what Tune was told of a run."""
    if not trial.state.ended:
        return trial.epoch == 0 or any(report.epoch >= trial.epoch for report in record.epochs)
    return record.state is trial.state or record.attempts > trial.attempts


def _words(state: RunState, epoch: int) -> str:
    return f"{state.value} after epoch {epoch}" if epoch else state.value


def _write(journal: Journal, key: str, account: Mapping[str, TuneTrial]) -> None:
    rows = {run_id: asdict(trial) for run_id, trial in sorted(account.items())}
    journal.write_study_file(key, FILE, (json.dumps(rows, indent=1) + "\n").encode())
