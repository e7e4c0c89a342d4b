"""Carries a search from its first trial to what is confirmed of it."""

from pathlib import Path

from coablate_platform.data.store import Store
from coablate_platform.results.report import findings, write_report
from coablate_platform.results.trials import TrialBook, best, trial_name
from coablate_platform.run.cluster import joined, package_folders
from coablate_platform.run.loop import Task
from coablate_platform.run.planning import cost_of, trial_task
from coablate_platform.run.search_progress import SearchProgress
from coablate_platform.run.sweep import Sweep
from coablate_platform.run.tuner import Places, Trials, run_all
from coablate_platform.session import Session
from coablate_platform.study.config import RunConfig
from coablate_platform.study.plan import StudyPlan
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

STORAGE = "optuna.db"


def search(declared: Search, store: Store, plan: StudyPlan, session: Session) -> Study:
    """Work a search off, report on it, and return the study that confirms its best trials.

    Args:
        declared: the resolved search.
        store: what it runs on.
        plan: its plan.
        session: where results go.

    Raises:
        InputError: Optuna's storage cannot be opened, or another process works on this search.
        KeyboardInterrupt, LaneLostError: it was interrupted; running it again goes on from there.
    """

    def cost(config: RunConfig) -> dict[str, int]:
        described = cost_of(config, store, declared.seed)
        return {"parameters": described.parameters, "flops": described.flops}

    book = TrialBook(session.journal, plan.key)
    with session.on(plan):
        sweep = Sweep(
            declared,
            plan.key,
            book,
            identify=lambda config: trial_task(declared, config, store).run_id,
            cost=cost,
            storage=session.command.storage or embedded_storage(session.out),
        )
        if not sweep.exhausted:
            _run_trials(declared, sweep, store, plan, session)
        write_report(findings(plan, book), book)
    chosen = best(plan, sweep.records, declared.confirm)
    configs = {trial_name(record.number): declared.config(sweep.changes(record)) for record in chosen}
    return declared.confirmation(configs)


def embedded_storage(out: Path) -> str:
    """Return the URL of Optuna's storage in a results folder."""
    return f"sqlite:///{out.resolve() / STORAGE}"


def _run_trials(declared: Search, sweep: Sweep, store: Store, plan: StudyPlan, session: Session) -> None:
    def task_of(config: RunConfig) -> Task:
        return trial_task(declared, config, store)

    with (
        joined(session.command.address, package_folders()),
        SearchProgress(plan, sweep, session.console) as progress,
    ):
        places = Places.below(session.out, store, session.journal)
        run_all(declared, Trials(sweep, task_of, declared.size, progress.update), places)
