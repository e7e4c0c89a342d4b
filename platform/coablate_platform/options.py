"""The arguments and options of the command line, and how they are read."""

from pathlib import Path
from typing import Annotated

import typer

from coablate_platform.passwords import STORAGE, TRACKING, masked
from coablate_platform.study.errors import InputError


def results_address(folder: str) -> str:
    """Read the results folder's path or URI."""
    return _without_password("results folder", folder)


def path_on_disk(path: str | Path) -> Path:
    """Read the path of raw data or of a store to write."""
    if "://" in str(path):
        raise InputError(f"{path}: expected a path; data sets are read from, and stores written to, a local folder")
    return Path(path)


def store_address(store: str) -> str:
    """Read the address of a store: a URI, or a path that is made absolute."""
    store = _without_password("store", store)
    return store if "://" in store else str(Path(store).resolve())


def _without_password(what: str, address: str) -> str:
    if masked(address) != address:
        raise InputError(
            f"{what} {masked(address)}: results would keep this password; give it by the storage's own environment "
            "variables, for example AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return address


def override(text: str) -> str:
    """Read a ``field=value`` text."""
    if masked(text) != text:
        raise InputError(
            f"--set {masked(text)}: results would keep this secret; let the program that needs it read the environment"
        )
    return text


DEFAULT_OUT = "coablate-out"
StudyArgument = Annotated[str, typer.Argument(help="A shipped name, package.module, or a path to a .py file.")]
ReferenceArgument = Annotated[
    str,
    typer.Argument(help="FILE.py:NAME, FILE.py if one object in it fits, package.module:NAME, or a known name."),
]
DataOption = Annotated[
    str, typer.Option("--data", help="The prepared store (see: coablate data prepare).", parser=store_address)
]
OutOption = Annotated[
    str,
    typer.Option(
        "--out", help="Results folder, a path or URI; studies in it share runs and MLflow.", parser=results_address
    ),
]
OutArgument = Annotated[str, typer.Argument(help="Results folder, a path or URI.", parser=results_address)]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", help="Which rows train and test: a name, or FILE.py:NAME.")
]
SeedsOption = Annotated[int | None, typer.Option("--seeds", help="Number of seeds.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a.b=c of every arm (model=FILE.py:NAME too).", parser=override),
]
KeyOption = Annotated[str | None, typer.Option("--study", help="Which study, where the folder holds several.")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster: host:port, auto or local; default: RAY_ADDRESS, else local."),
]
TrackingOption = Annotated[
    str | None, typer.Option("--tracking", help="MLflow tracking URI; default: embedded.", envvar=TRACKING)
]
GpusOption = Annotated[str | None, typer.Option("--gpus", help="GPUs a worker holds: a number, a share, or fit.")]
TrialsOption = Annotated[int | None, typer.Option("--trials", help="Number of trials of a search.", min=1)]
SamplerOption = Annotated[
    str | None, typer.Option("--sampler", help="What suggests a search's trials: tpe … or FILE.py:NAME.")
]
GraceOption = Annotated[int | None, typer.Option("--grace", help="Epochs before a trial may be stopped.", min=1)]
StorageOption = Annotated[
    str | None, typer.Option("--storage", help="URL of Optuna's storage; default: embedded.", envvar=STORAGE)
]
WarmOption = Annotated[list[str] | None, typer.Option("--warm", help="Learn from an earlier search in the folder.")]
MixedOption = Annotated[bool, typer.Option("--mixed", help="Allow runs of different code or package versions.")]
RecordedOption = Annotated[
    bool, typer.Option("--as-recorded", help="Take completed runs and trials though the code has changed since.")
]
ClusterFileArgument = Annotated[Path, typer.Argument(help="Cluster file, such as cluster.yaml.")]
ClusterArgument = Annotated[str, typer.Argument(help="Cluster file, or its job server: http://HOST:PORT.")]
ClusterOption = Annotated[str, typer.Option("--cluster", help="Cluster file, or its job server: http://HOST:PORT.")]
ClusterRunArgument = Annotated[str | None, typer.Argument(help="A run's name or study; default: the one that runs.")]
AtClusterOption = Annotated[str | None, typer.Option("--cluster", help="Cluster file, or its job server's address.")]
