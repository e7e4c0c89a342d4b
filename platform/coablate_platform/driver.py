"""Carries a study from its declaration to its table: plan, run what is open, conclude; of a search, confirm its best.

The one place where study, data, run and results meet; the command line is a thin shell around it.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.lanes.cluster import check_reachable, joined, package_folders
from coablate_platform.planning.resolve import plan_of, resolve, search_plan_of, tasks
from coablate_platform.results.render import save
from coablate_platform.results.table import Table, mixture_of, tabulate
from coablate_platform.screen.progress import Progress
from coablate_platform.session import Command, Session
from coablate_platform.study.errors import InputError
from coablate_platform.study.load import load_study
from coablate_platform.study.overrides import parse
from coablate_platform.study.plan import StudyPlan
from coablate_platform.study.search import Search
from coablate_platform.study.study import Resources, Study
from coablate_platform.tracking.follower import tracking_uri
from coablate_platform.train.events import RunState
from coablate_platform.train.failures import to_run
from coablate_platform.train.provenance import versions


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study or a search resolved against its store, before anything is started."""

    study: Study | Search
    store: Store
    plan: StudyPlan


def prepare(command: Command) -> Prepared:
    """Resolve everything that can be wrong in a user's input.

    Raises:
        InputError: something is; the message says what, where and what was expected.
    """
    changes = dict(parse(text) for text in command.overrides)
    if command.protocol is not None:
        changes["data.protocol"] = command.protocol
    if command.seeds is not None and command.seeds < 1:
        raise InputError(f"--seeds {command.seeds}: expected at least 1")
    study = load_study(command.study).override(changes, seeds=command.seeds)
    if command.gpus is not None:
        study = replace(study, resources=replace(study.resources, gpus=Resources.parse_gpus(command.gpus)))
    if isinstance(study, Search):
        study = study.with_options(trials=command.trials, sampler=command.sampler, grace=command.grace)
        if command.warm and study.stopping.rule == "hyperband":
            raise InputError(
                f"--warm: search {study.name} gives trials up by hyperband, which parts them by their place among all "
                "trials, learnt ones too: it would part them anew when there are more; asha can be warm"
            )
    elif given := [name for name in ("trials", "sampler", "grace", "storage", "warm") if getattr(command, name)]:
        raise InputError(f"--{given[0]}: only a search draws trials; study {study.name} declares its arms")
    store = Store.open(command.data)
    study = resolve(study, store)
    plan = search_plan_of if isinstance(study, Search) else plan_of
    return Prepared(study=study, store=store, plan=plan(study, store, asdict(command)))  # type: ignore[arg-type]


def run(command: Command, out: Path, console: Console, allow_mixed: bool = False) -> Table:
    """Run what is open of a study and conclude it with its table; of a search, with that of its confirmation.

    Raises:
        InputError: the input is wrong, the folder cannot be written, the cluster does not answer, or another process
            runs this study.
        KeyboardInterrupt, LaneLostError: the user stopped it, or workers could not be kept; ``resume`` goes on from
            there.
    """
    prepared = prepare(command)
    tracking_uri(str(out.resolve()), command.tracking)
    if command.address is not None:
        check_reachable(command.address)
    session = Session(command=command, out=out, console=console, mixed=allow_mixed)
    if isinstance(prepared.study, Search):
        from coablate_platform.searching import search  # Optuna: only now

        study = search(prepared.study, prepared.store, prepared.plan, session)
        plan = replace(plan_of(study, prepared.store, asdict(command)), concludes=prepared.plan.key)
        prepared = Prepared(study=study, store=prepared.store, plan=plan)
    with session.on(prepared.plan, lambda: _refuse_mixture(prepared, session)):
        _run_open(prepared, session)
        return conclude(prepared.plan, session.journal, allow_mixed)


def resume(out: Path, key: str | None, console: Console, allow_mixed: bool = False) -> Table:
    """Go on with a study that was interrupted, as it was first asked for.

    Raises:
        InputError: there is no such study, or what it declares has changed since.
    """
    plan = Journal(str(out.resolve())).plan(key)
    command = Command(**plan.command)
    command = replace(command, overrides=tuple(command.overrides), warm=tuple(command.warm))
    now = prepare(command).plan
    if now.key != (plan.concludes or plan.key):
        raise InputError(
            f"study {plan.key}: its declaration has changed since it was started (it would now be "
            f"{now.key}); run it anew with: coablate run {command.study} --data {command.data}"
        )
    return run(command, out, console, allow_mixed)


def conclude(plan: StudyPlan, journal: Journal, allow_mixed: bool) -> Table:
    """Build the table from the journal, and write it and the figures beside the study in every format."""
    from coablate_platform.results.figures import study_figures  # matplotlib: only now

    records = journal.records(plan)
    table = tabulate(plan, records, allow_mixed)
    save(table, journal)
    for name, content in study_figures(table, records).items():
        journal.write_study_file(plan.key, f"figures/{name}", content)
    return table


def _run_open(prepared: Prepared, session: Session) -> None:
    assert isinstance(prepared.study, Study)
    journal, everything = session.journal, tasks(prepared.study, prepared.store)
    states = {task.run_id: journal.state(task.run_id) for _, task in everything}
    metric = prepared.plan.metric
    done = {
        run_id: journal.record(run_id).metrics[metric]
        for run_id, state in states.items()
        if state is RunState.COMPLETED
    }
    open_runs = [(arm, task) for arm, task in everything if to_run(states[task.run_id])]
    if not open_runs:
        session.console.print(f"All {len(everything)} runs are in the journal already.")
        return
    from coablate_platform.lanes.tuner import InOrder, Places, Work, run_all  # Ray Tune, Train and torch: only now

    places = Places.below(session.out, prepared.store, journal)
    work = [Work(task=task, arm=arm.name) for arm, task in open_runs]
    with (
        joined(session.command.address, package_folders()),
        Progress(prepared.plan, prepared.study.base.training.epochs, done, session.console) as progress,
    ):
        run_all(prepared.study, InOrder(work, progress.update), places)


def _refuse_mixture(prepared: Prepared, session: Session) -> None:
    """Say before anything is trained, or written, that the table would be refused.

    What a cluster's nodes have installed is seen when they have trained; this process may have another build of torch.

    Raises:
        InputError: what is completed, or begun, was trained by another version than what is still open would be.
    """
    assert isinstance(prepared.study, Study)
    if session.mixed:
        return
    plan, journal = prepared.plan, session.journal
    planned = {}
    for _, task in tasks(prepared.study, prepared.store):
        if to_run(journal.state(task.run_id)):
            assert task.origin is not None
            planned[task.run_id] = versions(task.origin) | ({"packages": {}} if session.command.address else {})
    if planned and (mixture := mixture_of(plan, journal.records(plan), planned)):
        raise InputError(
            f"study {plan.key} would mix versions: {mixture}; --mixed takes them into one table and says so in its "
            "caption, another --out begins anew"
        )
