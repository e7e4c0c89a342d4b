"""Makes a command of this machine one of a cluster: its words, and the folder of the user's own files that travels."""

import os
from pathlib import Path

import typer

from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import file_of

_ELSEWHERE = ("cluster", "address")  # say where the command runs, and are not for the command that runs there


def typed_options(context: typer.Context) -> list[str]:
    """Return the options that the user has typed, with absolute paths; what the environment has is not among them.

    Raises:
        InputError: ``--address`` is given, or ``--out`` is not.
    """
    if context.params.get("address") is not None:
        raise InputError("--address: leave it out with --cluster, whose address the run finds by itself")
    if _source(context, "out") == "DEFAULT":
        raise InputError(
            "--out: say where the results go, a folder or storage that all hosts see; a job's own folder goes with it"
        )
    words: list[str] = []
    for parameter in context.command.params:
        typed = _source(context, parameter.name or "") == "COMMANDLINE"
        option = max(parameter.opts, key=len)
        if not typed or not option.startswith("--") or parameter.name in _ELSEWHERE:
            continue
        value = context.params[parameter.name]
        if parameter.name == "out" and "://" not in value:
            value = str(Path(value).absolute())
        for one in value if isinstance(value, list) else [value]:
            words += [option] if one is True else [option, str(one)]
    return words


def with_folder(words: list[str]) -> tuple[list[str], Path | None]:
    """Return words in which the user's own files are relative to one folder, and that folder; None if there are none.

    Args:
        words: words of a command, among them ``FILE.py:NAME`` and ``field=FILE.py:NAME``.

    Raises:
        InputError: there is no such file.
    """
    split = [word.rpartition("=") for word in words]
    files = {last: file.resolve() for _, _, last in split if (file := file_of(last)) is not None}
    for file in files.values():
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    if not files:
        return words, None
    folder = Path(os.path.commonpath([file.parent for file in files.values()]))
    moved = {last: f"{file.relative_to(folder)}{last[last.rindex('.py') + 3 :]}" for last, file in files.items()}
    return [f"{before}{equals}{moved.get(last, last)}" for before, equals, last in split], folder


def _source(context: typer.Context, parameter: str) -> str:
    """Return where a parameter's value is from, by click's name: ``COMMANDLINE``, ``ENVIRONMENT`` or ``DEFAULT``."""
    source = context.get_parameter_source(parameter)
    return source.name if source else ""
