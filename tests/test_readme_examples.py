"""The files that the README shows are run as they stand there: checked, planned and trained."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coablate_platform import driver
from coablate_platform.command import Command
from coablate_platform.data.clips import clips_of
from coablate_platform.data.formats import get_reader
from coablate_platform.data.prepare import finish, metadata_of, read_shards
from coablate_platform.data.schema import SHARDS
from coablate_platform.data.shard import PrepareOptions, write_shard
from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.planning.resolve import PreparedSearch, PreparedStudy
from coablate_platform.results.table import build_table
from coablate_platform.study import source
from coablate_platform.study.plan import StudyPlan
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.loop import train

README = (Path(__file__).parents[1] / "README.md").read_text()
SECTION = README[README.index("## Adding something") : README.index("## Searching")]
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL))
COMMANDS = [line.partition("#")[0].strip() for line in re.findall(r"^coablate (.*)$", SECTION, re.MULTILINE)]
MOST_LINES = 40


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """A folder with all the files, which is the working directory."""
    place = tmp_path_factory.mktemp("examples")
    for name, text in FILES.items():
        (place / name).write_text(text)
    monkeypatch.chdir(place)
    source.forget()  # what tests before this one may have imported
    yield place
    source.forget()


@pytest.fixture
def clips(folder: Path) -> Path:
    """Clips in the format of the example's data set: eight subjects who do two things twice."""
    place = folder / "clips"
    place.mkdir()
    draw = np.random.default_rng(0)
    for label in (0, 1):
        for subject in range(1, 9):
            for take in (1, 2):
                xyz = draw.normal([0, 0, 2.5], 0.2, (20, 20, 3)).astype(np.float32)
                xyz[..., 1] -= label * np.linspace(0, 2, 20, dtype=np.float32)[:, None]
                np.save(place / f"{label}_{subject}_{take}.npy", xyz)
    return place


@pytest.fixture
def own_store(folder: Path, clips: Path) -> Store:
    """A store that the example's reader has made, without Ray."""
    reader, options = get_reader("myset.py:MySet").at(str(clips)), PrepareOptions()
    (folder / "store" / SHARDS).mkdir(parents=True)
    metadata = metadata_of(reader, options, folder / "store")
    write_shard(reader, reader.list_clips(str(clips)), folder / "store" / SHARDS, options)
    finish(folder / "store", metadata, read_shards(folder / "store"), {})
    source.forget()
    return Store.open(str(folder / "store"))


def test_every_kind_has_a_short_file():
    assert len(FILES) == 7
    assert {name: text for name, text in FILES.items() if len(text.splitlines()) + 1 > MOST_LINES} == {}


def test_every_file_is_used_by_a_command():
    assert {name for name in FILES if any(name in command for command in COMMANDS)} == set(FILES)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("check ")])
def test_every_file_passes_its_checks(coablate: Callable, clips: Path, command: str):
    answer = coablate(*shlex.split(command.replace("FOLDER", str(clips))))
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert len(lines) > 3
    assert [line for line in lines if not line.startswith("ok ")] == []


def test_the_store_remembers_what_its_reader_brought(own_store: Store):
    assert (own_store.source, own_store.default_protocol) == ("myset", "myset/odd")
    assert own_store.own_protocol is not None
    sizes = {name: len(rows) for name, rows in own_store.own_protocol.split(own_store.index).items()}
    assert sizes == {"train": 12, "validation": 4, "test": 16}


def prepared(command: str, store: Store) -> PreparedStudy | PreparedSearch:
    """Resolve a command of the README as the command line does."""
    words = [word for word in shlex.split(command) if word not in ("run", "--out", "DIR", "--data", "STORE")]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    return driver.prepare(
        Command(
            study=words[0],
            data=store.uri,
            protocol=options.get("--protocol"),
            overrides=(options["--set"],) if "--set" in options else (),
            sampler=options.get("--sampler"),
        )
    )


RUNS = [command for command in COMMANDS if command.startswith("run ") and "OTHER" not in command]


@pytest.mark.parametrize("command", [command for command in RUNS if command[4] != "f"])
def test_what_is_run_can_be_planned_on_the_example_s_data(own_store: Store, command: str):
    plan = prepared(command, own_store).plan
    assert plan.protocol == "myset/odd"
    assert plan.data["clips"]
    if "LONG" in command:
        assert [arm.config["training"]["epochs"] for arm in plan.arms] == [100] * 3
    if "MyNet" in command:
        assert plan.command["source"]


@pytest.mark.parametrize("command", [command for command in RUNS if command[4] == "f"])
def test_what_compares_fusions_can_be_planned_on_video(store: Store, command: str):
    found = prepared(command, store)
    if "patient" in command:
        assert isinstance(found, PreparedSearch)
        assert found.search.sampler == found.plan.sampler == "mysampler:patient"


def test_the_example_s_network_trains(own_store: Store, tmp_path: Path):
    found = prepared("run mystudy.py --data STORE --out DIR", own_store)
    assert isinstance(found, PreparedStudy)
    task = found.tasks[1]
    assert type(task.config.model).__name__ == "MyNet"
    training = replace(task.config.training, epochs=12, batch_size=4, learning_rate=1e-2)
    task = replace(task, config=replace(task.config, training=training))
    clips = clips_of(task.config, own_store, task.seed)
    *epochs, conclusion = train(task, clips, Checkpoints(str(tmp_path)), lambda report: None, torch.device("cpu"))
    assert len(epochs) == 12
    assert conclusion.metrics["accuracy"] > 0.7  # in one of the two classes everybody goes down


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("own_store")
def test_the_example_s_study_ends_with_a_table(folder: Path):
    words = shlex.split("run mystudy.py --data store --out out --set training.epochs=1 --set training.batch_size=4")
    done = subprocess.run(
        [sys.executable, "-m", "coablate_platform", *words], cwd=folder, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    journal = Journal(str(folder / "out"))
    plan = journal.plan()
    assert isinstance(plan, StudyPlan)
    rows = build_table(plan, journal).rows
    assert {row.arm: len(row.values) for row in rows} == {"HCN": 1, "mine": 1, "mine, wide": 1}
