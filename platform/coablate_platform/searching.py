"""Runs a search: trains its trials, writes its report, and declares the confirmation of its best trials."""

from dataclasses import replace

from coablate_platform.data.clips import clips_of
from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog, TrialRecord, trial_name
from coablate_platform.planning.costs import cost_of, latency_of
from coablate_platform.planning.resolve import PreparedSearch, trial_task
from coablate_platform.results.ranking import best
from coablate_platform.results.report import read_findings, write_report
from coablate_platform.results.versions import code_changes
from coablate_platform.screen.search_progress import SearchProgress
from coablate_platform.search.optuna_storage import storage_url
from coablate_platform.search.rules import scheduler_of
from coablate_platform.search.scheduler import SearchScheduler, SearchSetup
from coablate_platform.session import Session
from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import SearchPlan
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study
from coablate_platform.train.provenance import code_at_hand


def search(prepared: PreparedSearch, session: Session) -> Study:
    """Train the trials of a search, write its report, and return its confirmation.

    Args:
        prepared: the search, resolved against its store.
        session: an entered session.

    Raises:
        InputError: there can be no such storage for Optuna's study, or the trials of an earlier search cannot be used.
        KeyboardInterrupt, LaneLostError, RepeatedFailureError: it was interrupted or gave up; running it again
            continues it.
    """
    plan, declared = prepared.plan, prepared.search
    locations = session.locations(plan, prepared.store)
    log = JournalTrialLog(session.journal, plan.key, locations.checkpoints)
    earlier = [trial for key in session.command.warm for trial in _trials_of(key, plan, session.journal)]
    changed = _outdated(declared, [*log.trials(), *earlier], session.journal)
    session.accept_recorded(f"search {plan.key}", changed)
    plan = replace(plan, as_recorded=changed)
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
                session.train(plan, declared, scheduler, locations, progress)
        if fault := scheduler.finish():
            again = session.resuming(plan)
            where = storage_url(session.journal.folder.state, session.command.storage)
            session.say(f"Optuna's study in {where} is not up to date ({fault}); to update it: {again}")
        write_report(read_findings(plan, log), log)
    return _confirmation(declared, scheduler)


def _outdated(declared: Search, trials: list[TrialRecord], journal: Journal) -> str:
    """Name the trials that other code trained than the code at hand, in words; empty if there are none."""

    def at_hand(trial: TrialRecord) -> dict[str, dict[str, str]]:
        try:
            config = declared.config(declared.space.decode(trial.params))
        except InputError:  # of another search or an earlier space: what it has in common with the base is compared
            config = declared.base
        return {"code": code_at_hand(config.model)}

    trained = [trial for trial in trials if trial.run_id]
    return code_changes((trial_name(trial.number), journal.record(trial.run_id), at_hand(trial)) for trial in trained)


def _scheduler(
    prepared: PreparedSearch, session: Session, log: JournalTrialLog, earlier: list[TrialRecord]
) -> SearchScheduler:
    """Return the scheduler of a search; it continues from the trials in the log."""
    declared, store = prepared.search, prepared.store
    setup = SearchSetup(
        search=declared,
        name=prepared.plan.key,
        log=log,
        task_of=lambda config, lineage: trial_task(declared, config, store, lineage),
        cost=lambda config: _cost(declared, store, config),
        storage=storage_url(session.journal.folder.state, session.command.storage),
        earlier=earlier,
        say=session.say,
    )
    return scheduler_of(setup)


def _cost(declared: Search, store: Store, config: RunConfig) -> dict[str, int]:
    """Return the costs of a configuration. Latency is measured only if the search minimises it."""
    described = cost_of(config, store, declared.seed)
    cost = {"parameters": described.parameters, "flops": described.flops}
    if "latency" in declared.costs:
        cost["latency"] = latency_of(config, clips_of(config, store, (declared.seed, 0)).shape)
    return cost


def _confirmation(declared: Search, scheduler: SearchScheduler) -> Study:
    """Return the confirmation of the best trials, without the base and trials that are no longer in the space."""
    configs = {record.number: scheduler.config(record) for record in scheduler.records}
    candidates = [record for record in scheduler.records if configs[record.number] not in (None, declared.base)]
    chosen = {r.number: configs[r.number] for r in best(declared.costs, candidates, declared.confirm)}
    return declared.confirmation({trial_name(n): config for n, config in chosen.items() if config is not None})


def _trials_of(key: str, plan: SearchPlan, journal: Journal) -> list[TrialRecord]:
    """Return the trials of another search, named by ``--warm``.

    Raises:
        InputError: there is no such search, or it has other costs, another protocol or other data.
    """
    other = journal.plan(key)
    if not isinstance(other, SearchPlan) or other.key == plan.key:
        raise InputError(f"--warm {key}: expected another search than this one, found {other.key}")
    if other.costs != plan.costs:
        raise InputError(f"--warm {key}: {other.key} minimises other costs ({', '.join(other.costs)})")
    if _data_of(other) != _data_of(plan):
        raise InputError(f"--warm {key}: {other.key} ran on other data ({other.data['uri']}, {other.protocol})")
    return JournalTrialLog(journal, other.key).trials()


def _data_of(plan: SearchPlan) -> tuple[str, str, str | None]:
    """Return what is equal in two searches on the same data: the fingerprint, the protocol and the clips."""
    return plan.data["fingerprint"], plan.protocol, plan.data.get("clips")
