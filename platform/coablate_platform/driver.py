"""Carries a study from its declaration to its table: plan, train what is open, conclude; of a search, confirm its best.

The one place where study, data, lanes and results meet. The command line is a thin shell around it.
"""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.lanes.cluster import check_reachable
from coablate_platform.planning.resolve import PreparedSearch, PreparedStudy, prepare_search, prepare_study, resolve
from coablate_platform.results.render import save
from coablate_platform.results.table import Table, mixture_of, tabulate
from coablate_platform.screen.progress import Progress
from coablate_platform.session import Command, Session, kept_source
from coablate_platform.study.errors import InputError
from coablate_platform.study.load import load_study
from coablate_platform.study.overrides import parse_change
from coablate_platform.study.plan import StudyPlan
from coablate_platform.study.search import Search
from coablate_platform.study.source import forget
from coablate_platform.study.study import Resources
from coablate_platform.tracking.follower import tracking_uri
from coablate_platform.train.events import RunState
from coablate_platform.train.failures import should_run
from coablate_platform.train.provenance import versions


def prepare(command: Command) -> PreparedStudy | PreparedSearch:
    """Resolve everything that can be wrong in a user's input.

    Raises:
        InputError: something is; the message says what, where and what was expected.
    """
    forget()
    changes = dict(parse_change(text) for text in command.overrides)
    if command.protocol is not None:
        changes["data.protocol"] = command.protocol
    if command.seeds is not None and command.seeds < 1:
        raise InputError(f"--seeds {command.seeds}: expected at least 1")
    study = load_study(command.study).override(changes, seeds=command.seeds)
    if command.gpus is not None:
        study = replace(study, resources=replace(study.resources, gpus=Resources.parse_gpus(command.gpus)))
    if isinstance(study, Search):
        study = _with_options(study, command)
        store = Store.open(command.data)
        return prepare_search(resolve(study, store), store, command.to_repeat())
    if given := [name for name in ("trials", "sampler", "grace", "storage", "warm") if getattr(command, name)]:
        raise InputError(f"--{given[0]}: only a search has trials; study {study.name} declares its arms")
    store = Store.open(command.data)
    return prepare_study(resolve(study, store), store, command.to_repeat())


def _with_options(search: Search, command: Command) -> Search:
    """Return the search with what the command line says of it."""
    search = search.with_options(trials=command.trials, sampler=command.sampler, grace=command.grace)
    if command.warm and search.stopping.rule == "hyperband":
        raise InputError(
            f"--warm: search {search.name} stops trials by hyperband, which assigns them to brackets by their number, "
            "learnt trials included; more trials would change the brackets. Use asha to learn from earlier trials"
        )
    return search


def run(command: Command, out: Path, console: Console, allow_mixed: bool = False) -> Table:
    """Train what is open of a study and conclude it with its table; of a search, with that of its confirmation.

    Raises:
        InputError: the input is wrong, the folder cannot be written, the cluster does not answer, or another process
            works in the folder.
        KeyboardInterrupt, LaneLostError: the user stopped it, or workers could not be kept; ``resume`` goes on from
            there.
    """
    return _carry_out(prepare(command), Session(command, out, console, allow_mixed))


def resume(out: Path, key: str | None, console: Console, allow_mixed: bool = False) -> Table:
    """Go on with a study that was interrupted, as it was first asked for.

    Where one of the user's own files is not in its place any more, all are read from the copies in the results folder.

    Raises:
        InputError: there is no such study, or what it declares has changed since.
    """
    plan = Journal(str(out.resolve())).plan(key)
    command = Command(**plan.command)
    command = replace(command, overrides=tuple(command.overrides), warm=tuple(command.warm))
    kept = kept_source(out, plan.key, command.source)
    if command.source and (gone := [file for file in command.files if not file.is_file()]):
        console.print(f"{gone[0]} is not there any more; going on with its copy in {kept}", soft_wrap=True)
        command = command.with_files_in(kept)
    prepared = prepare(command)
    asked = (isinstance(plan, StudyPlan) and plan.confirms) or plan.key
    if prepared.plan.key != asked:
        copies = f" (to finish it as it was, put back the files that are kept in {kept})" if command.source else ""
        raise InputError(
            f"study {plan.key}: its declaration has changed since it was started (it would now be "
            f"{prepared.plan.key}); run it anew with: coablate run {command.study} --data {command.data}{copies}"
        )
    if command.source not in ("", prepared.plan.command["source"]):
        console.print(
            f"The study's files have changed since it was started: going on with them as they are now; as they were, "
            f"they are kept in {kept}",
            soft_wrap=True,
        )
    return _carry_out(prepared, Session(command, out, console, allow_mixed))


def _carry_out(prepared: PreparedStudy | PreparedSearch, session: Session) -> Table:
    """Train and conclude what is prepared, under one lock and on one cluster."""
    tracking_uri(session.journal.folder.uri, session.command.tracking)
    if session.command.address is not None:
        check_reachable(session.command.address)
    with session:
        if isinstance(prepared, PreparedSearch):
            from coablate_platform.searching import search  # Optuna: only now

            confirmation = search(prepared, session)
            store, key = prepared.store, prepared.plan.key
            prepared = prepare_study(confirmation, store, session.command.to_repeat(), confirms=key)
        _refuse_mixture(prepared, session)
        with session.following(prepared.plan):
            _train_open_runs(prepared, session)
            return conclude(prepared.plan, session.journal, session.mixed)


def conclude(plan: StudyPlan, journal: Journal, allow_mixed: bool) -> Table:
    """Build the table from the journal, and write it and the figures beside the study in every format."""
    from coablate_platform.results.figures import study_figures  # matplotlib: only now

    records = journal.records(plan)
    table = tabulate(plan, records, allow_mixed)
    save(table, journal)
    for name, content in study_figures(table, records).items():
        journal.write_study_file(plan.key, f"figures/{name}", content)
    return table


def _train_open_runs(prepared: PreparedStudy, session: Session) -> None:
    journal, plan, training = session.journal, prepared.plan, prepared.study.base.training
    states = {task.run_id: journal.state(task.run_id) for task in prepared.tasks}
    open_tasks = [task for task in prepared.tasks if should_run(states[task.run_id])]
    if not open_tasks:
        session.console.print(f"All {len(prepared.tasks)} runs are in the journal already.")
        return
    from coablate_platform.lanes.tuner import InOrder, Locations, run_all  # Ray Tune, Train and torch: only now

    completed = [run_id for run_id, state in states.items() if state is RunState.COMPLETED]
    done = {run_id: journal.test_metrics(run_id)[plan.metric] for run_id in completed}
    session.join_cluster()
    with Progress(plan, training.epochs, done, session.console) as progress:
        locations = Locations.below(session.out, prepared.store, journal, session.source_folder(plan))
        run_all(prepared.study, InOrder(open_tasks), locations, progress.update)


def _refuse_mixture(prepared: PreparedStudy, session: Session) -> None:
    """Say before anything is trained, or written, that the table would be refused.

    What a cluster's nodes have installed is known only after they have trained; this process may have another build of
    torch.

    Raises:
        InputError: what is completed, or begun, was trained by another version than what is still open would be.
    """
    if session.mixed:
        return
    plan, journal = prepared.plan, session.journal
    planned = {}
    for task in prepared.tasks:
        if should_run(journal.state(task.run_id)):
            assert task.origin is not None  # what is prepared says where it comes from
            planned[task.run_id] = versions(task.origin) | ({"packages": {}} if session.command.address else {})
    if planned and (mixture := mixture_of(plan, journal.records(plan), planned)):
        raise InputError(
            f"study {plan.key} would mix versions: {mixture}; --mixed takes them into one table and says so in its "
            "caption, another --out begins anew"
        )
