"""The commands of the command line that reach a cluster: ``coablate cluster …``, ``attach``, ``logs``, ``stop``."""

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coablate_platform import process
from coablate_platform.options import ClusterArgument, ClusterFileArgument, ClusterOption, ClusterRunArgument
from coablate_platform.study.errors import InputError

if TYPE_CHECKING:
    from coablate_platform.cluster.jobs import JobServer

cluster_app = typer.Typer(help="Start, watch and end a Ray cluster.", no_args_is_help=True)
console = Console(markup=False)
MLFLOW_PORT = 5000
"""Port of MLflow on the head's loopback, as the cluster files start it."""


@cluster_app.command("up")
def up(file: ClusterFileArgument) -> None:
    """Start the cluster, or bring it up to date: checks, then the token, this version's wheel, and ray up."""
    from coablate_platform.cluster.file import ClusterFile
    from coablate_platform.cluster.findings import print_checks
    from coablate_platform.cluster.launcher import start
    from coablate_platform.cluster.local_checks import local_checks

    cluster = ClusterFile.read(file)
    process.keep_token()
    if not print_checks(local_checks(cluster), say):
        raise InputError(f"cluster {cluster.name}: not started, since checks failed; every line has its cure")
    start(cluster)
    say(f"Up. To run a study there: coablate run STUDY --cluster {file} --data … --out …")


@cluster_app.command("down")
def down(
    file: ClusterFileArgument,
    after: Annotated[str | None, typer.Option("--after", help="Wait until this run has ended.")] = None,
) -> None:
    """End all hosts of the cluster; what is on storage stays."""
    from coablate_platform.cluster.file import ClusterFile
    from coablate_platform.cluster.jobs import connected
    from coablate_platform.cluster.launcher import end

    cluster = ClusterFile.read(file)
    if after is not None:
        with connected(str(file)) as server:
            name = server.job(after).name
            say(f"Waiting until {name} has ended")
            server.wait(name)
    end(cluster)


@cluster_app.command("status")
def status(cluster: ClusterArgument) -> None:
    """Show runs, lanes, hosts, GPUs, and the money spent so far."""
    from coablate_platform.cluster.file import ClusterFile
    from coablate_platform.cluster.jobs import connected
    from coablate_platform.cluster.status import status_of, status_view

    prices = {} if "://" in cluster else ClusterFile.read(Path(cluster)).hourly_prices
    with connected(cluster) as server:
        console.print(status_view(status_of(server, prices)), soft_wrap=True)


@cluster_app.command("doctor")
def doctor(
    cluster: ClusterArgument,
    data: Annotated[str | None, typer.Option("--data", help="A store that all hosts must see.")] = None,
    out: Annotated[str | None, typer.Option("--out", help="A results folder that all hosts must write.")] = None,
) -> None:
    """Check the cluster file, this machine and, where the cluster is up, its hosts; print one line for each check."""
    from coablate_platform.cluster.findings import print_checks
    from coablate_platform.cluster.jobs import connected
    from coablate_platform.cluster.live_checks import ask, live_checks

    passed, is_up = _check_locally(cluster) if "://" not in cluster else (True, True)
    if is_up:
        with connected(cluster) as server:
            passed &= print_checks(live_checks(ask(server, data, out)), say)
    if not passed:
        raise typer.Exit(1)


def attach(cluster: ClusterOption, run: ClusterRunArgument = None) -> None:
    """Follow a run on a cluster until it ends; Ctrl-C lets go of it."""
    from coablate_platform.cluster.jobs import connected

    with connected(cluster) as server:
        _follow(server, server.job(run).name, cluster)


def logs(cluster: ClusterOption, run: ClusterRunArgument = None) -> None:
    """Print what a run on a cluster has printed so far."""
    from coablate_platform.cluster.jobs import connected

    with connected(cluster) as server:
        print(server.log(server.job(run).name), end="")


def stop(cluster: ClusterOption, run: ClusterRunArgument = None) -> None:
    """Stop a run on a cluster; its hosts stay until they have been idle."""
    from coablate_platform.cluster.jobs import connected

    with connected(cluster) as server:
        name = server.job(run).name
        say(f"Stopping {name}" if server.stop(name) else f"{name} has ended already")


def run_on_cluster(cluster: str, study: str, context: typer.Context) -> None:
    """Submit ``coablate run`` to a cluster as a Ray job, and follow it; the exit code is the job's.

    Args:
        cluster: cluster file, or address of a job server.
        study: reference to the study.
        context: the command as the user has typed it.
    """
    from coablate_platform.cluster.jobs import connected
    from coablate_platform.cluster.travel import typed_options, with_folder

    words, folder = with_folder([study, *typed_options(context)])
    name = Path(words[0].partition(":")[0]).name.removesuffix(".py").rpartition(".")[2]
    with connected(cluster) as server:
        submitted = server.submit(["coablate", "run", *words], name, folder)
        say(f"Submitted as {submitted}")
        _follow(server, submitted, cluster)


def open_tracking(cluster: str, port: int) -> None:
    """Forward MLflow of a cluster's head to a port of this machine until Ctrl-C.

    Args:
        cluster: cluster file.
        port: port on this machine's loopback.
    """
    from coablate_platform.cluster.file import ClusterFile
    from coablate_platform.cluster.launcher import tunnel

    with tunnel(ClusterFile.read(Path(cluster)), MLFLOW_PORT, port):
        say(f"MLflow of the cluster: http://127.0.0.1:{port} (Ctrl-C ends the tunnel)")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(cluster_app, name="cluster")
    for command in (attach, logs, stop):
        app.command()(command)


def say(line: str) -> None:
    """Print a line as it is."""
    console.print(line, soft_wrap=True, highlight=False)


def _check_locally(cluster: str) -> tuple[bool, bool]:
    """Print the local checks, and return whether they pass and whether the cluster is up."""
    from coablate_platform.cluster.file import ClusterFile
    from coablate_platform.cluster.findings import print_checks
    from coablate_platform.cluster.launcher import check_up
    from coablate_platform.cluster.local_checks import local_checks

    file = ClusterFile.read(Path(cluster))
    if not print_checks(local_checks(file), say):
        return False, False
    try:
        check_up(file)
    except InputError as error:
        say(f"Its hosts are not checked: {error}")
        return True, False
    return True, True


def _follow(server: "JobServer", name: str, cluster: str) -> None:
    try:
        job = server.follow(name, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        again = f"coablate attach --cluster {cluster} {name}"
        say(f"Let go; the run goes on. To follow it again: {again}; to stop it: {again.replace('attach', 'stop')}")
        raise
    if job.status != "SUCCEEDED":
        say(f"{name}: {job.status.lower()}")
        raise typer.Exit(job.exit_code or 1)
