"""Carries a search from its first trial to the study that confirms its best trials."""

from pathlib import Path

from coablate_platform.data.clips import clips_of
from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog, TrialRecord, trial_name
from coablate_platform.lanes.tuner import Locations, run_all
from coablate_platform.planning.costs import cost_of, latency_of
from coablate_platform.planning.resolve import PreparedSearch, trial_task
from coablate_platform.results.ranking import best
from coablate_platform.results.report import read_findings, write_report
from coablate_platform.screen.search_progress import SearchProgress
from coablate_platform.search.population import PopulationScheduler
from coablate_platform.search.scheduler import EarlyStoppingScheduler, SearchScheduler, SearchSetup
from coablate_platform.session import Session
from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import SearchPlan
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

STORAGE = "optuna.db"


def search(prepared: PreparedSearch, session: Session) -> Study:
    """Train a search's trials, report on them, and return the study that confirms the best.

    Args:
        prepared: the search on its store.
        session: where it works; entered.

    Raises:
        InputError: Optuna's storage cannot be opened, or an earlier search to learn from does not fit.
        KeyboardInterrupt, LaneLostError: it was interrupted; running it again goes on from there.
    """
    plan, declared = prepared.plan, prepared.search
    locations = Locations.below(session.out, prepared.store, session.journal, session.source_folder(plan))
    log = JournalTrialLog(session.journal, plan.key, locations.checkpoints)
    earlier = [trial for key in session.command.warm for trial in _earlier(key, plan, session.journal)]
    with session.following(plan):
        scheduler = _scheduler(prepared, session, log, earlier)
        if earlier:
            learnt = f"Learning from {scheduler.learnt} of {len(earlier)} earlier trials."
            session.console.print(learnt, highlight=False)
        if scheduler.exhausted:
            session.console.print(f"All {declared.trial_count} trials are in the journal already.", highlight=False)
        else:
            session.join_cluster()
            with SearchProgress(plan, scheduler, session.console) as progress:
                run_all(declared, scheduler, locations, progress.update)
        write_report(read_findings(plan, log), log)
    return _confirmation(declared, scheduler)


def embedded_storage(out: Path) -> str:
    """Return the URL of Optuna's storage in a results folder."""
    return f"sqlite:///{out.resolve() / STORAGE}"


def _scheduler(
    prepared: PreparedSearch, session: Session, log: JournalTrialLog, earlier: list[TrialRecord]
) -> SearchScheduler:
    """Return the scheduler of a search, with what its log holds."""
    declared, store = prepared.search, prepared.store
    setup = SearchSetup(
        search=declared,
        name=prepared.plan.key,
        log=log,
        task_of=lambda config, lineage: trial_task(declared, config, store, lineage),
        cost=lambda config: _cost(declared, store, config),
        storage=session.command.storage or embedded_storage(session.out),
        earlier=earlier,
    )
    return PopulationScheduler(setup) if declared.stopping.rule == "pbt" else EarlyStoppingScheduler(setup)


def _cost(declared: Search, store: Store, config: RunConfig) -> dict[str, int]:
    """Return what a trial's configuration costs; latency is measured only where the search asks for it."""
    described = cost_of(config, store, declared.seed)
    cost = {"parameters": described.parameters, "flops": described.flops}
    if "latency" in declared.costs:
        cost["latency"] = latency_of(config, clips_of(config, store, (declared.seed, 0)).shape)
    return cost


def _confirmation(declared: Search, scheduler: SearchScheduler) -> Study:
    """Return the study of the best trials that depart from the base and can still be suggested."""
    configs = {record.number: scheduler.config(record) for record in scheduler.records}
    known = [record for record in scheduler.records if configs[record.number] not in (None, declared.base)]
    chosen = {r.number: configs[r.number] for r in best(declared.costs, known, declared.confirm)}
    return declared.confirmation({trial_name(n): config for n, config in chosen.items() if config is not None})


def _earlier(key: str, plan: SearchPlan, journal: Journal) -> list[TrialRecord]:
    """Return another search's trials.

    Raises:
        InputError: there is no such search, or it ran on other data.
    """
    other = journal.plan(key)
    if not isinstance(other, SearchPlan) or other.key == plan.key:
        raise InputError(f"--warm {key}: expected another search, {other.key} is none")
    if other.costs != plan.costs:
        raise InputError(f"--warm {key}: {other.key} was judged by other costs ({', '.join(other.costs)})")
    if _clips(other) != _clips(plan):
        raise InputError(f"--warm {key}: {other.key} ran on other data ({other.data['uri']}, {other.protocol})")
    return JournalTrialLog(journal, other.key).trials()


def _clips(plan: SearchPlan) -> tuple[str, str, str | None]:
    """Return what two searches on the same clips have in common."""
    return plan.data["fingerprint"], plan.protocol, plan.data.get("clips")
