"""The command line.

Exit codes: 0 done, 1 something that ran failed, 2 the input was wrong, 130 interrupted, 143 ended by SIGTERM, 129 by
SIGHUP. Heavy modules are imported only by the commands that need them, so ``coablate --help`` answers at once.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from coablate_platform import process
from coablate_platform.cluster.commands import open_tracking, register, run_on_cluster
from coablate_platform.data_commands import data_app
from coablate_platform.options import (
    DEFAULT_OUT,
    AddressOption,
    AtClusterOption,
    DataOption,
    GpusOption,
    GraceOption,
    KeyOption,
    MixedOption,
    OutArgument,
    OutOption,
    ProtocolOption,
    RecordedOption,
    ReferenceArgument,
    SamplerOption,
    SeedsOption,
    SetOption,
    StorageOption,
    StudyArgument,
    TrackingOption,
    TrialsOption,
    WarmOption,
    path_on_disk,
)
from coablate_platform.passwords import masked
from coablate_platform.study.errors import (
    ClusterError,
    InputError,
    LaneLostError,
    LeaseLostError,
    RepeatedFailureError,
    first_line,
)

if TYPE_CHECKING:
    from coablate_platform.command import Command
    from coablate_platform.results.report import SearchFindings
    from coablate_platform.results.table import Table

app = typer.Typer(
    help="Ablation studies for video + skeleton action recognition that can be believed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app, name="data")
console = Console(markup=False)  # folders and reasons may hold brackets
_STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM, None)
"""Error numbers of storage; errors of object storage have none."""


@app.command()
def run(
    context: typer.Context,
    study: StudyArgument,
    data: DataOption,
    out: OutOption = DEFAULT_OUT,
    protocol: ProtocolOption = None,
    seeds: SeedsOption = None,
    set_: SetOption = None,
    address: AddressOption = None,
    tracking: TrackingOption = None,
    mixed: MixedOption = False,
    as_recorded: RecordedOption = False,
    gpus: GpusOption = None,
    trials: TrialsOption = None,
    sampler: SamplerOption = None,
    grace: GraceOption = None,
    storage: StorageOption = None,
    warm: WarmOption = None,
    cluster: AtClusterOption = None,
) -> None:
    """Run a study or a search; completed runs are not repeated."""
    if cluster is not None:
        run_on_cluster(cluster, study, context)
        return
    from coablate_platform import driver
    from coablate_platform.command import Accepts

    command = _command(
        study,
        data,
        protocol=protocol,
        seeds=seeds,
        overrides=tuple(set_ or ()),
        address=address,
        tracking=tracking,
        gpus=gpus,
        trials=trials,
        sampler=sampler,
        grace=grace,
        storage=storage,
        warm=tuple(warm or ()),
    )
    _finish(driver.run(command, out, console, Accepts(mixed=mixed, as_recorded=as_recorded), _printer(out)))


@app.command()
def resume(
    out: OutArgument = DEFAULT_OUT,
    study: KeyOption = None,
    mixed: MixedOption = False,
    as_recorded: RecordedOption = False,
) -> None:
    """Continue an interrupted study with the options it was started with."""
    from coablate_platform import driver
    from coablate_platform.command import Accepts

    _finish(driver.resume(out, study, console, Accepts(mixed=mixed, as_recorded=as_recorded), _printer(out)))


@app.command()
def plan(
    study: StudyArgument,
    data: DataOption,
    protocol: ProtocolOption = None,
    seeds: SeedsOption = None,
    set_: SetOption = None,
    trials: TrialsOption = None,
    sampler: SamplerOption = None,
    grace: GraceOption = None,
) -> None:
    """Show a study's arms and seeds, or what a search varies, with sizes and estimated time; start nothing."""
    from coablate_platform import driver
    from coablate_platform.screen.views import plan_view

    command = _command(
        study,
        data,
        protocol=protocol,
        seeds=seeds,
        overrides=tuple(set_ or ()),
        trials=trials,
        sampler=sampler,
        grace=grace,
    )
    console.print(
        plan_view(driver.prepare(command), lambda line: Console(stderr=True, markup=False).print(line, soft_wrap=True))
    )


@app.command()
def table(
    out: OutArgument = DEFAULT_OUT,
    study: KeyOption = None,
    form: Annotated[str, typer.Option("--format", help="md, csv, tex, json or html.")] = "md",
    mixed: MixedOption = False,
) -> None:
    """Print a study's table from the journal."""
    from coablate_platform.journal.journal import Journal
    from coablate_platform.results.render import render
    from coablate_platform.results.table import build_table

    journal = Journal(out)
    print(render(build_table(journal.concluding_plan(study), journal, allow_mixed=mixed), form))


@app.command()
def best(out: OutArgument = DEFAULT_OUT, study: KeyOption = None) -> None:
    """Print a search's best trials; its confirmation tests them."""
    from coablate_platform.screen.views import best_view

    console.print(best_view(_findings(out, study)))


@app.command()
def importance(out: OutArgument = DEFAULT_OUT, study: KeyOption = None) -> None:
    """Print which of a search's parameters matter."""
    from coablate_platform.screen.views import importance_view

    console.print(importance_view(_findings(out, study)))


@app.command()
def report(out: OutArgument = DEFAULT_OUT, study: KeyOption = None) -> None:
    """Write a search's report (HTML, figures, CSV) from the journal, finished or not."""
    from coablate_platform.journal.journal import Journal
    from coablate_platform.journal.trials import JournalTrialLog
    from coablate_platform.results.report import write_report

    found = _findings(out, study)
    write_report(found, JournalTrialLog(Journal(out), found.plan.key))
    where = f"{out}/studies/{found.plan.key}/report/report.html"
    console.print(f"Report: {where}", highlight=False, soft_wrap=True)


@app.command()
def studies() -> None:
    """List the studies that ship with Coablate."""
    from coablate_platform.screen.views import studies_view

    console.print(studies_view())


@app.command()
def models() -> None:
    """List the models that the shipped studies use, with their settings."""
    from coablate_platform.screen.views import models_view

    console.print(models_view())


@app.command()
def pull(
    out: OutArgument,
    folder: Annotated[Path, typer.Argument(help="Local folder: new, or pulled before.", parser=path_on_disk)],
    study: KeyOption = None,
) -> None:
    """Copy studies from object storage into a local results folder; continues where it stopped, and verifies."""
    from coablate_platform.journal.pull import pull as run_pull
    from coablate_platform.screen.views import pulled_view

    pulled = run_pull(out, folder, study, lambda line: console.print(line, highlight=False))
    console.print(pulled_view(pulled, folder), soft_wrap=True)


@app.command()
def track(out: OutArgument = DEFAULT_OUT, study: KeyOption = None, tracking: TrackingOption = None) -> None:
    """Bring MLflow up to date with the journal, for example after its server was down."""
    from coablate_platform.tracking.follower import track as catch_up

    raise typer.Exit(catch_up(out, study, tracking))


@app.command()
def reconcile(
    out: OutArgument = DEFAULT_OUT,
    study: KeyOption = None,
    check: Annotated[bool, typer.Option("--check", help="Report what differs; mend nothing.")] = False,
) -> None:
    """Compare Tune's account, Optuna's copy, tables and MLflow with the journal, and mend what differs."""
    from coablate_platform.reconciling import reconcile as compare

    def say(line: str) -> None:
        console.print(masked(line), soft_wrap=True, highlight=False)

    if not compare(out, study, not check, say):
        raise typer.Exit(1)


@app.command()
def ui(
    out: OutArgument = DEFAULT_OUT,
    tracking: TrackingOption = None,
    host: Annotated[str, typer.Option(help="Interface to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to serve on.", min=1, max=65535)] = 5000,
    cluster: AtClusterOption = None,
) -> None:
    """Open MLflow on a results folder, or that of a cluster; on loopback unless told otherwise."""
    if cluster is not None:
        open_tracking(cluster, port)
        return
    from coablate_platform.tracking.follower import run_ui

    run_ui(out, tracking, host, port)


@app.command()
def check(
    kind: Annotated[
        Literal["model", "data", "protocol", "sampler", "study"], typer.Argument(help="Kind of the object.")
    ],
    reference: ReferenceArgument,
    folder: Annotated[Path | None, typer.Argument(help="For data: the folder of a data set to read.")] = None,
) -> None:
    """Check a model, reader, protocol, sampler or study of your own; print one line for each check."""
    from coablate_platform.conformance.run import run_checks

    failed = False
    for outcome in run_checks(kind, reference, folder):
        failed = failed or bool(outcome.failure)
        line = f"FAILS  {outcome.check}: {outcome.failure}" if outcome.failure else f"ok     {outcome.check}"
        console.print(line, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


register(app)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    process.prepare()
    process.end_on_signals()
    try:
        code = app(standalone_mode=False) or 0  # an Exit comes back as its code
        sys.stdout.flush()
        sys.exit(process.exit_code() if code == process.INTERRUPTED else code)
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at exit
        sys.exit(128 + signal.SIGPIPE)
    except InputError as error:
        _stop(str(error), 2)
    except (ClusterError, LaneLostError, LeaseLostError, RepeatedFailureError) as error:
        _stop(str(error), 1)
    except OSError as error:
        if error.errno not in _STORAGE_FAULTS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"{where}cannot be written or read ({error.strerror or first_line(error)}); what is recorded is kept", 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own errors: unknown option, missing argument
            _stop(error.format_message(), 2)  # empty where the help was shown already, for want of a command
        raise


def _stop(message: str, code: int) -> None:
    if message:
        line = masked(" ".join(message.splitlines()))
        Console(stderr=True).print(f"coablate: {line}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _findings(out: str, key: str | None) -> "SearchFindings":
    from coablate_platform.journal.journal import Journal
    from coablate_platform.journal.trials import JournalTrialLog
    from coablate_platform.results.report import read_findings

    journal = Journal(out)
    plan = journal.search_plan(key)
    return read_findings(plan, JournalTrialLog(journal, plan.key))


def _command(study: str, data: str, **rest: Any) -> "Command":
    from coablate_platform.command import Command
    from coablate_platform.study.extensions import absolute_reference

    for name in ("protocol", "sampler"):
        if rest.get(name):
            rest[name] = absolute_reference(rest[name])
    fields = [text.partition("=") for text in rest["overrides"]]
    rest["overrides"] = tuple(f"{field}{equals}{absolute_reference(value)}" for field, equals, value in fields)
    return Command(study=absolute_reference(study), data=data, **rest)


def _printer(out: str) -> "Callable[[Table], None]":
    """Return what prints a table, and where the results are."""
    from coablate_platform.results.render import render

    def show(table: "Table") -> None:
        print(render(table, "md"), flush=True)
        console.print(f"Journal, tables and MLflow: {out} (coablate ui {out})", highlight=False, soft_wrap=True)

    return show


def _finish(table: "Table") -> None:
    if any(row.not_completed for row in table.rows):
        raise typer.Exit(1)
