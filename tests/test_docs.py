"""What the documents name exists: paths, links, commands with their options, targets of make."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from coablate_platform.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [file for file in (*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
                               *sorted(ROOT.glob("docs/**/*.md"))) if file.is_file()]  # fmt: skip
FENCE = re.compile(r"^ *```.*?\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TOP = {path.name for path in ROOT.iterdir()}
SOURCE_ROOTS = ("platform", "model", "search_spaces")
MADE = {"coablate-demo", "coablate-out", ".venv", "dist"}  # by commands, not part of the project


def fenced(text: str) -> Iterator[str]:
    """The lines of all fenced blocks, continued ones joined."""
    for block in FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()


def commands(lines: Iterator[str]) -> Iterator[list[str]]:
    """The words of every ``coablate`` command, wherever it is installed."""
    for line in lines:
        found = re.match(r"\s*(?:\$ )?(?:\S+/)?coablate (.*)", line)
        if found:
            yield shlex.split(re.split(r"[|>;&]", found[1])[0], comments=True)


def check(words: list[str]) -> None:
    """Parse a command as the command line does, and run nothing."""
    command = typer.main.get_command(app)
    words, asked = [word for word in words if word != "--help"], "--help" in words
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    if not asked:
        command.make_context("coablate", words)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_parses(file):
    wrong = []
    for words in commands(fenced(file.read_text())):
        try:
            check(list(words))
        except Exception as error:
            wrong.append(f"coablate {shlex.join(words)}: {getattr(error, 'message', error)}")
    assert wrong == []


def test_the_readme_shows_every_command():
    """But for options: those of a command are in its ``--help``."""
    shown = {" ".join(words[:2] if words[0] == "data" else words[:1])
             for words in commands(fenced((ROOT / "README.md").read_text()))}  # fmt: skip
    top = typer.main.get_command(app).commands
    named = {*top, *(f"data {name}" for name in top["data"].commands)} - {"data"}
    assert sorted(named - shown) == []


def test_the_makefile_s_commands_parse():
    found = list(commands(iter((ROOT / "Makefile").read_text().splitlines())))
    assert len(found) >= 4
    for words in found:
        check(words)


@pytest.mark.parametrize(
    "command", ["plna smoke --data x", "plan smoke", "plan smoke --data x --sedes 1", "run a --data b --seeds two"]
)
def test_a_command_that_is_wrong_would_be_found(command):
    with pytest.raises(Exception, match=r"(?i)no command|missing|no such option|valid"):
        check(command.split())


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(file):
    targets = [target.partition("#")[0] for target in LINK.findall(FENCE.sub("", file.read_text()))]
    relative = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if not (file.parent / target).exists()] == []


def looks_like_a_path(text: str) -> bool:
    """Whether a code span names something in the project: a slash, or a file at the top."""
    if not re.fullmatch(r"[\w.*/-]+", text):
        return False
    first = text.split("/")[0]
    known = first in TOP or first in {f"coablate_{root}" for root in SOURCE_ROOTS}
    return first not in MADE and ("/" in text and known)


def exists(text: str) -> bool:
    places = [ROOT, *(ROOT / root for root in SOURCE_ROOTS)]
    return any(list(place.glob(text.rstrip("/"))) for place in places)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_path_exists(file):
    named = {span for span in SPAN.findall(FENCE.sub("", file.read_text())) if looks_like_a_path(span)}
    assert sorted(path for path in named if not exists(path)) == []


def test_a_path_that_is_wrong_would_be_found():
    for right in (
        "tests/helpers/clips.py",
        "platform/coablate_platform/lanes/",
        "coablate_model/hcn.py",
        "tests/*/test_*.py",
    ):
        assert looks_like_a_path(right)
        assert exists(right)
    assert looks_like_a_path("tests/lanes/gone.py")
    assert not exists("tests/lanes/gone.py")
    assert not looks_like_a_path("utd/cs")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_make_target_exists(file):
    text = file.read_text()
    code = [*fenced(text), *SPAN.findall(FENCE.sub("", text))]
    named = {name for line in code if (found := re.match(r"\s*(?:\$ )?make((?: [a-z][a-z-]*)+)", line))
             for name in found[1].split()}  # fmt: skip
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named - targets == set()
