"""Proves that Tune's account, Optuna's copy, the result files and MLflow agree with the journal, and mends them.

The journal is the truth. Nothing of the user's code is loaded, and no data is read.
"""

import os
import sys
from collections.abc import Callable, Iterator

from coablate_platform.command import whole_address
from coablate_platform.journal.difference import Check
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog
from coablate_platform.journal.tune_check import TuneCheck
from coablate_platform.session import only_user
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import AnyPlan, SearchPlan
from coablate_platform.tracking.follower import prepare_mlflow, tracking_uri

Say = Callable[[str], None]
"""Shows a line to the user."""


def reconcile(out: str, study: str | None, mend: bool, say: Say) -> bool:
    """Compare everything that follows from a results folder's journal with it, and mend what differs.

    A line is said for each difference, and one for each study and search in which nothing differs.

    Args:
        out: path or URI of the results folder.
        study: name or key of the only study or search to compare; None compares all.
        mend: whether to mend; otherwise nothing is written.
        say: shows a line.

    Returns:
        Whether everything agrees at the end.

    Raises:
        InputError: there is no such study, a file of the journal is damaged, or another process works in the folder.
    """
    prepare_mlflow()
    journal = Journal(out)
    plans = journal.plans() if study is None else [journal.plan(study)]
    if not plans:
        raise InputError(f"results folder {out} holds no study")
    with only_user(journal.folder, _end, say):
        agree = [_reconcile_study(plan, journal, mend, say) for plan in plans]
    return all(agree)


def _end(reason: str) -> None:
    """End this process at once: another one has taken the results folder over."""
    print(f"coablate: {reason}", file=sys.stderr, flush=True)
    os._exit(1)


def _reconcile_study(plan: AnyPlan, journal: Journal, mend: bool, say: Say) -> bool:
    """Compare one study or search, and return whether everything agrees at the end."""
    agree, places, differ = True, [], False
    for place, check_of in _checks(plan, journal, say):
        try:
            check = check_of()
            found = check.find()
            for difference in found:
                say(f"{plan.key}: {difference}; {difference.remedy if mend else 'not mended'}")
            if found and mend:
                check.mend(found)
                for difference in (left := check.find()):
                    say(f"{plan.key}: {difference}; it could not be mended")
                agree = agree and not left
            differ, agree = differ or bool(found), agree and (mend or not found)
        except InputError as error:
            say(f"{plan.key}: {place}: not compared: {error}")
            agree = False
        places.append(place)
    if agree and not differ:
        say(f"{plan.key}: nothing differs (journal, {', '.join(places)})")
    return agree


def _checks(plan: AnyPlan, journal: Journal, say: Say) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Yield the name of each place to compare and what makes its check; files before MLflow, which has some of them."""
    from coablate_platform.results.file_check import FileCheck  # imports matplotlib

    yield "Tune", lambda: TuneCheck(journal, plan.key)
    if isinstance(plan, SearchPlan):
        yield "Optuna", lambda: _optuna_check(plan, journal, say)
    yield "files", lambda: FileCheck(journal, plan)
    yield "MLflow", lambda: _mlflow_check(plan, journal)


def _optuna_check(plan: SearchPlan, journal: Journal, say: Say) -> Check:
    from coablate_platform.search.optuna_check import OptunaCheck
    from coablate_platform.search.optuna_storage import storage_url

    url = storage_url(journal.folder.state, whole_address("storage", plan.command.get("storage"), os.environ))
    earlier = [
        trial
        for key in plan.command.get("warm", ())
        for trial in JournalTrialLog(journal, journal.plan(key).key).trials()
    ]
    return OptunaCheck(plan, JournalTrialLog(journal, plan.key), earlier, url, say)


def _mlflow_check(plan: AnyPlan, journal: Journal) -> Check:
    from coablate_platform.tracking.mlflow_check import MlflowCheck

    given = whole_address("tracking", plan.command.get("tracking"), os.environ)
    return MlflowCheck(journal, plan, tracking_uri(journal.folder.uri, given))
