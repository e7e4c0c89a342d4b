"""Carries out a study: plans it, trains its open runs, and writes its table; of a search, carries out its confirmation.

This is where study, data, lanes and results are connected. The command line only parses options and calls it.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from coablate_platform.command import Accepts, Command
from coablate_platform.data.store import Store
from coablate_platform.files import local_copy
from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.planning.resolve import PreparedSearch, PreparedStudy, prepare_search, prepare_study, resolve
from coablate_platform.results.table import Table, build_table
from coablate_platform.results.versions import mixture_of, outdated
from coablate_platform.screen.progress import Progress
from coablate_platform.session import Session, source_copies
from coablate_platform.study.errors import InputError
from coablate_platform.study.load import load_study
from coablate_platform.study.overrides import parse_changes
from coablate_platform.study.plan import StudyPlan
from coablate_platform.study.search import Search
from coablate_platform.study.source import forget
from coablate_platform.study.study import Resources
from coablate_platform.tracking.follower import tracking_uri
from coablate_platform.train.events import RunState
from coablate_platform.train.failures import should_run
from coablate_platform.train.provenance import versions

_ONLY_THIS_CODE = Accepts()
Show = Callable[[Table], object]
"""Shows a table. It is called before the last wait for MLflow."""


def _show_nothing(table: Table) -> None:
    """Leave a table to the caller."""


def prepare(command: Command) -> PreparedStudy | PreparedSearch:
    """Load the study or search of a command, apply its options, and resolve it against the store.

    Raises:
        InputError: the study, an option or the store is invalid.
    """
    forget()
    changes = parse_changes(command.overrides)
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
        return prepare_search(resolve(study, store), store, command.to_resume())
    if invalid := [name for name in ("trials", "sampler", "grace", "storage", "warm") if getattr(command, name)]:
        raise InputError(f"--{invalid[0]}: this option is for searches, and {study.name} is a study with declared arms")
    store = Store.open(command.data)
    return prepare_study(resolve(study, store), store, command.to_resume())


def _with_options(search: Search, command: Command) -> Search:
    """Return the search with the command's options applied."""
    search = search.with_options(trials=command.trials, sampler=command.sampler, grace=command.grace)
    if command.warm and search.stopping.rule == "hyperband":
        raise InputError(
            f"--warm: search {search.name} stops trials by hyperband, which assigns them to brackets by number, "
            "and earlier trials would change these numbers. Use asha to learn from earlier trials"
        )
    return search


def run(
    command: Command, out: str | Path, console: Console, accepts: Accepts = _ONLY_THIS_CODE, show: Show = _show_nothing
) -> Table:
    """Run a study or search and return its table; a search has the table of its confirmation.

    Runs that are in the journal already are not repeated.

    Args:
        command: the user's command.
        out: path or URI of the results folder.
        console: where messages are printed.
        accepts: what the user accepts of recorded results.
        show: shows the table.

    Raises:
        InputError: the input is invalid, the folder cannot be written, the cluster does not answer, or another process
            uses the folder.
        KeyboardInterrupt, LaneLostError, RepeatedFailureError: the user interrupted it, workers were lost too often, or
            a search's runs failed one after another; :func:`resume` continues it.
    """
    return _execute(prepare(command), Session(command, out, console, accepts), show)


def resume(
    out: str | Path, key: str | None, console: Console, accepts: Accepts = _ONLY_THIS_CODE, show: Show = _show_nothing
) -> Table:
    """Continue an interrupted study or search with the options it was started with, and return its table.

    If one of the user's own files no longer exists, all of them are imported from the copies in the results folder.

    Raises:
        InputError: there is no such study, or its declaration has changed since it was started.
    """
    journal = Journal(str(out))
    plan = journal.plan(key)
    command = Command(**plan.command)
    command = replace(command, overrides=tuple(command.overrides), warm=tuple(command.warm))
    command = command.with_passwords(os.environ)
    copies = source_copies(journal, plan.key, command.source)
    if command.source and (missing := [file for file in command.user_files if not file.is_file()]):
        console.print(f"{missing[0]} no longer exists; continuing with its copy in {copies}", soft_wrap=True)
        command = command.with_copies_in(local_copy(copies))
    prepared = prepare(command)
    started = (isinstance(plan, StudyPlan) and plan.confirms) or plan.key
    if prepared.plan.key != started:
        hint = f" (to finish it unchanged, restore your files from {copies})" if command.source else ""
        raise InputError(
            f"study {plan.key}: its declaration has changed since it was started (it would now be "
            f"{prepared.plan.key}); start it again with: coablate run {command.study} --data {command.data}{hint}"
        )
    if command.source not in ("", prepared.plan.command["source"]):
        console.print(
            "The study's files have changed since it was started; continuing with the changed files. The original ones "
            f"are in {copies}",
            soft_wrap=True,
        )
    return _execute(prepared, Session(command, out, console, accepts), show)


def _execute(prepared: PreparedStudy | PreparedSearch, session: Session, show: Show) -> Table:
    """Run the search, if it is one, then train the open runs of the study and conclude it."""
    tracking_uri(session.journal.folder.uri, session.command.tracking)
    session.find_cluster()
    with session:
        if isinstance(prepared, PreparedSearch):
            from coablate_platform.searching import search  # imports Optuna, which a study does not need

            confirmation = search(prepared, session)
            store, key = prepared.store, prepared.plan.key
            prepared = prepare_study(confirmation, store, session.command.to_resume(), confirms=key)
        records = session.journal.records(prepared.plan)
        accepted = _check_versions(prepared, session, records)
        prepared = replace(prepared, plan=replace(prepared.plan, as_recorded=accepted))
        with session.following(prepared.plan):
            _train_open_runs(prepared, session, records)
            table = conclude(prepared.plan, session.journal, session.accepts.mixed)
        show(table)
        return table


def conclude(plan: StudyPlan, journal: Journal, allow_mixed: bool) -> Table:
    """Build a study's table from the journal, and write the table in every format, and the figures."""
    from coablate_platform.results.conclusion import conclusion_files  # imports matplotlib

    records = journal.records(plan)
    table = build_table(plan, journal, allow_mixed, records)
    for name, content in conclusion_files(table, records, journal).items():
        journal.write_study_file(plan.key, name, content)
    return table


def _train_open_runs(prepared: PreparedStudy, session: Session, records: Mapping[str, RunRecord]) -> None:
    plan = prepared.plan
    open_tasks = [task for task in prepared.tasks if should_run(records[task.run_id].state)]
    if not open_tasks:
        session.console.print(f"All {len(prepared.tasks)} runs are in the journal already.")
        return
    from coablate_platform.lanes.tuner import FixedOrder  # imports Ray Tune and Train

    completed = {run_id: record for run_id, record in records.items() if record.state is RunState.COMPLETED}
    done = {run_id: record.metrics[plan.metric] for run_id, record in completed.items()}
    session.join_cluster()
    with Progress(plan, prepared.study.base.epochs, done, session.console) as progress:
        locations = session.locations(plan, prepared.store)
        session.train(plan, prepared.study, FixedOrder(open_tasks), locations, progress)


def _check_versions(prepared: PreparedStudy, session: Session, records: dict[str, RunRecord]) -> str:
    """Check that completed runs have the code at hand, and open runs would have the versions of the study's others.

    Package versions are not compared if the command names a cluster. Its nodes report them only when they train, and
    this process may have another build of torch.

    Returns:
        Which completed runs have other code than the code at hand, in words; empty unless the user accepts that.

    Raises:
        InputError: completed runs have other code, or the table would hold runs of different versions.
    """
    plan = prepared.plan
    at_hand = {task.run_id: versions(task.origin) for task in prepared.tasks if task.origin}  # all of them have one
    changed = outdated(plan, records, at_hand)
    session.accept_recorded(f"study {plan.key}", changed)
    if session.accepts.mixed:
        return changed
    open_runs = {run_id: found for run_id, found in at_hand.items() if should_run(records[run_id].state)}
    if session.address:
        open_runs = {run_id: found | {"packages": {}} for run_id, found in open_runs.items()}
    if open_runs and (mixture := mixture_of(plan, records, open_runs)):
        raise InputError(
            f"study {plan.key} would mix versions: {mixture}; --mixed allows it and notes it in the table's caption, "
            "another --out starts from the beginning"
        )
    return changed
