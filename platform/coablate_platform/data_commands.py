"""The commands ``coablate data``. Heavy modules are imported only by the commands that need them."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from coablate_platform.options import path_on_disk, store_address
from coablate_platform.study.errors import InputError

data_app = typer.Typer(help="Prepare and inspect data sets.", no_args_is_help=True)
console = Console(markup=False)  # folders and reasons may hold brackets


@data_app.command("generate")
def generate(
    folder: Annotated[Path, typer.Argument(help="Where to write the synthetic set.", parser=path_on_disk)],
    seed: Annotated[int, typer.Option(help="Seed of everything in the set.", min=0)] = 0,
    replications: Annotated[int, typer.Option(help="Times that a performer does an action for a camera.")] = 2,
    size: Annotated[int, typer.Option(help="Side of the square video in pixels.")] = 96,
    frames: Annotated[tuple[int, int], typer.Option(help="Fewest and most frames a clip.")] = (32, 44),
    difficulty: Annotated[float, typer.Option(help="Noise, occlusions and clutter; 0 is a clean set.")] = 1.0,
) -> None:
    """Write the synthetic set in NTU's own file formats; needs no download and no licence."""
    from coablate_platform.data.progress import clip_progress
    from coablate_platform.data.synthetic import SyntheticConfig
    from coablate_platform.data.synthetic import generate as write

    config = SyntheticConfig(seed=seed, replications=replications, size=size, frames=frames, difficulty=difficulty)
    try:
        with clip_progress(console) as progress:
            write(folder, config, progress=progress)
    except OSError as error:
        raise InputError(f"{folder}: the set cannot be written here ({error.strerror})") from None
    console.print(f"Wrote the synthetic set to {folder}", highlight=False)


@data_app.command("prepare")
def prepare(
    source: Annotated[
        str,
        typer.Argument(
            help="ntu (the synthetic set too), utd_mhad, nw_ucla, jhmdb, pku_mmd, or a reader FILE.py:NAME."
        ),
    ],
    raw: Annotated[Path, typer.Argument(help="Folder or zip file of the set as published.", parser=path_on_disk)],
    store: Annotated[Path, typer.Argument(help="Where to write the store.", parser=path_on_disk)],
    short_side: Annotated[int, typer.Option(help="Shorter side of the stored video, in pixels.", min=16)] = 256,
    resize: Annotated[
        Literal["crop", "squash", "pad"],
        typer.Option(help="crop keeps the whole frame, squash scales it to a square, pad adds black to one."),
    ] = "crop",
    skeleton_only: Annotated[
        bool, typer.Option("--skeleton-only", help="Store no video, and keep the clips that have none.")
    ] = False,
) -> None:
    """Read a data set into a store; continues where it stopped, and does nothing when the store is complete."""
    from coablate_platform.data.prepare import prepare as run_prepare
    from coablate_platform.data.progress import clip_progress
    from coablate_platform.data.shard import PrepareOptions
    from coablate_platform.screen.views import prepare_view

    with clip_progress(console) as progress:
        options = PrepareOptions(short_side=short_side, resize=resize, skeleton_only=skeleton_only)
        report = run_prepare(source, raw, store, options, progress=progress)
    console.print(prepare_view(report, store), soft_wrap=True)
    if not report.complete:
        raise typer.Exit(1)


@data_app.command("info")
def info(store: Annotated[str, typer.Argument(help="A prepared store.", parser=store_address)]) -> None:
    """Show a store's counts per protocol, shapes, recipe and fingerprint."""
    from coablate_platform.data.info import describe_store
    from coablate_platform.data.store import Store
    from coablate_platform.screen.views import store_view

    console.print(store_view(describe_store(Store.open(store))))
