"""Carries a study from its declaration to its table: plan, follow in MLflow, run what is open, conclude.

The one place where study, data, run and results meet; the command line is a thin shell around it.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from coablate_platform.data.store import Store
from coablate_platform.results.journal import Journal
from coablate_platform.results.render import save
from coablate_platform.results.table import Table, tabulate
from coablate_platform.results.tracking import finish_follower, start_follower, tracking_uri
from coablate_platform.run.cluster import check_reachable, joined, package_folders
from coablate_platform.run.planning import plan_of, resolve, tasks
from coablate_platform.run.policy import to_run
from coablate_platform.run.progress import Progress
from coablate_platform.run.records import RunState
from coablate_platform.study.errors import InputError, LaneLostError
from coablate_platform.study.load import load_study
from coablate_platform.study.overrides import parse
from coablate_platform.study.plan import StudyPlan
from coablate_platform.study.study import Study


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the user asked for; kept with the study, so that ``resume`` can ask for the same.

    Args:
        study: a shipped name, ``package.module`` or a path to a ``.py`` file.
        data: the prepared store.
        protocol: which rows train and test; None: the study's, else the store's default.
        seeds: number of seeds; None: the study's.
        overrides: ``field=value`` texts.
        address: ``host:port`` of a running Ray cluster; None starts a local one.
        tracking: MLflow tracking URI; None: the embedded one in the results folder.
    """

    study: str
    data: str
    protocol: str | None = None
    seeds: int | None = None
    overrides: tuple[str, ...] = ()
    address: str | None = None
    tracking: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study resolved against its store, before anything is started."""

    study: Study
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
    store = Store.open(command.data)
    study = resolve(study, store)
    return Prepared(study=study, store=store, plan=plan_of(study, store, asdict(command)))


def run(command: Command, out: Path, console: Console, allow_mixed: bool = False) -> Table:
    """Run what is open of a study and conclude it with its table.

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
    plan, journal = prepared.plan, Journal(str(out.resolve()))
    with _only_one(out, plan.key):
        journal.write_plan(plan)
        follower = start_follower(str(out.resolve()), plan.key, command.tracking)
        try:
            _run_open(prepared, journal, out, command.address, console)
            table = conclude(plan, journal, allow_mixed)
        except (KeyboardInterrupt, LaneLostError):
            console.print(f"Go on with: coablate resume {out} --study {plan.key}", soft_wrap=True, highlight=False)
            raise
        finally:
            if finish_follower(follower):
                console.print(f"MLflow is not up to date; catch up with: coablate track {out}", soft_wrap=True)
    return table


def resume(out: Path, key: str | None, console: Console, allow_mixed: bool = False) -> Table:
    """Go on with a study that was interrupted, as it was first asked for.

    Raises:
        InputError: there is no such study, or what it declares has changed since.
    """
    plan = Journal(str(out.resolve())).plan(key)
    command = Command(**(plan.command | {"overrides": tuple(plan.command["overrides"])}))
    now = prepare(command).plan
    if now.key != plan.key:
        raise InputError(
            f"study {plan.key}: its declaration has changed since it was started (it would now be "
            f"{now.key}); run it anew with: coablate run {command.study} --data {command.data}"
        )
    return run(command, out, console, allow_mixed)


def conclude(plan: StudyPlan, journal: Journal, allow_mixed: bool) -> Table:
    """Build the table from the journal, and write it and the figures beside the study in every format."""
    from coablate_platform.results.figures import draw  # matplotlib: only now

    records = journal.records(plan)
    table = tabulate(plan, records, allow_mixed)
    save(table, journal)
    for name, content in draw(table, records).items():
        journal.write_study_file(plan.key, f"figures/{name}", content)
    return table


def _run_open(prepared: Prepared, journal: Journal, out: Path, address: str | None, console: Console) -> None:
    everything = tasks(prepared.study, prepared.store)
    states = {task.run_id: journal.state(task.run_id) for _, task in everything}
    metric = prepared.plan.metric
    done = {
        run_id: journal.record(run_id).metrics[metric]
        for run_id, state in states.items()
        if state is RunState.COMPLETED
    }
    open_runs = [(arm, task) for arm, task in everything if to_run(states[task.run_id])]
    if not open_runs:
        console.print(f"All {len(everything)} runs are in the journal already.")
        return
    from coablate_platform.run.tuner import Places, Work, run_all  # Ray Tune, Train and torch: only now

    places = Places(store=prepared.store.uri, checkpoints=str(out.resolve() / "checkpoints"), recorder=journal)
    work = [Work(task=task, arm=arm.name) for arm, task in open_runs]
    with (
        joined(address, package_folders()),
        Progress(prepared.plan, prepared.study.base.training.epochs, done, console) as progress,
    ):
        run_all(prepared.study, work, places, progress.update)


@contextlib.contextmanager
def _only_one(out: Path, key: str) -> Iterator[None]:
    """Hold the study's lock, so that two processes never write the same runs."""
    lock = FileLock(out / f".{key}.lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"study {key} in {out} is being run by another process") from None
    except OSError as error:
        raise InputError(f"results folder {out}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()
