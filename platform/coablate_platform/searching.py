"""Carries a search from its first trial to what is confirmed of it."""

from pathlib import Path

from coablate_platform.data.clips import clips_of
from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import TrialBook, TrialRecord, trial_name
from coablate_platform.lanes.cluster import joined, package_folders
from coablate_platform.lanes.tuner import Places, Trials, run_all
from coablate_platform.planning.costs import cost_of, latency_of
from coablate_platform.planning.resolve import trial_run_id, trial_task
from coablate_platform.results.ranking import best
from coablate_platform.results.report import findings, write_report
from coablate_platform.screen.search_progress import SearchProgress
from coablate_platform.search.scheduler import Draw, Sweep
from coablate_platform.session import Session
from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import StudyPlan
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study
from coablate_platform.train.loop import Task

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
        cost = {"parameters": described.parameters, "flops": described.flops}
        if "latency" in declared.costs:
            cost["latency"] = latency_of(config, clips_of(config, store, (declared.seed, 0)).shape)
        return cost

    places = Places.below(session.out, store, session.journal)
    book = TrialBook(session.journal, plan.key, places.checkpoints)
    earlier = [trial for key in session.command.warm for trial in _earlier(key, plan, session.journal)]
    with session.on(plan):
        sweep = Sweep(
            declared,
            plan.key,
            book,
            identify=lambda config, lineage: trial_run_id(declared, config, store, lineage),
            cost=cost,
            storage=session.command.storage or embedded_storage(session.out),
            earlier=earlier,
        )
        if earlier:
            session.console.print(f"Learning from {sweep.learnt} of {len(earlier)} earlier trials.", highlight=False)
        if sweep.exhausted:
            session.console.print(f"All {declared.size} trials are in the journal already.", highlight=False)
        else:
            _run_trials(declared, sweep, places, plan, session)
        write_report(findings(plan, book), book)
    configs = {record.number: sweep.config(record) for record in sweep.records}
    known = [record for record in sweep.records if configs[record.number] not in (None, declared.base)]
    chosen = {trial_name(record.number): configs[record.number] for record in best(plan, known, declared.confirm)}
    return declared.confirmation({name: config for name, config in chosen.items() if config is not None})


def embedded_storage(out: Path) -> str:
    """Return the URL of Optuna's storage in a results folder."""
    return f"sqlite:///{out.resolve() / STORAGE}"


def _earlier(key: str, plan: StudyPlan, journal: Journal) -> list[TrialRecord]:
    """Return another search's trials.

    Raises:
        InputError: there is no such search, or it ran on other data.
    """
    other = journal.plan(key)
    if other.search is None or other.key == plan.key:
        raise InputError(f"--warm {key}: expected another search, {other.key} is none")
    if plan.search is not None and other.search.costs != plan.search.costs:
        raise InputError(f"--warm {key}: {other.key} was judged by other costs ({', '.join(other.search.costs)})")
    if (other.data["fingerprint"], other.protocol) != (plan.data["fingerprint"], plan.protocol):
        raise InputError(f"--warm {key}: {other.key} ran on other data ({other.data['uri']}, {other.protocol})")
    return TrialBook(journal, other.key).trials()


def _run_trials(declared: Search, sweep: Sweep, places: Places, plan: StudyPlan, session: Session) -> None:
    def task_of(draw: Draw) -> Task:
        return trial_task(declared, draw.config, draw.run_id)

    with (
        joined(session.command.address, package_folders()),
        SearchProgress(plan, sweep, session.console) as progress,
    ):
        run_all(declared, Trials(sweep, task_of, declared.size, progress.update), places)
