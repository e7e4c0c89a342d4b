"""A study in a user's own files on real Ray: models in it and beside it, and what is left of them when it moves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog, TrialOutcome
from coablate_platform.results.table import build_table
from coablate_platform.study.plan import SearchPlan
from coablate_platform.train.events import RunState

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]

NET = '''
"""Beside the study: a model, and what models share."""

from dataclasses import dataclass

from torch import nn

from coablate_model.objective import CrossEntropy


@dataclass(frozen=True, kw_only=True)
class Cost:
    parameters: int
    flops: int = 1
    activation_bytes: int = 1


@dataclass(frozen=True, kw_only=True)
class Base:
    @property
    def modalities(self):
        return ("skeleton",)

    def objective(self):
        return CrossEntropy(heads=("fused",))

    def describe(self, shape):
        return Cost(parameters=sum(p.numel() for p in self.build(shape).parameters()))


@dataclass(frozen=True, kw_only=True)
class Linear(Base):
    broken: bool = False

    def build(self, shape):
        return Net(self, shape)


class Net(nn.Module):
    def __init__(self, config, shape):
        super().__init__()
        self.config = config
        self.layer = nn.Linear(3 * shape.skeleton_frames * shape.joints * shape.persons, shape.classes)

    def forward(self, batch):
        if self.config.broken and self.training:
            raise RuntimeError("broken beside the study")
        return {"fused": self.layer(batch["skeleton"].flatten(1))}
'''

STUDY = """
from dataclasses import dataclass

import torch

from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.study import Arm, Study
from own_net import Base, Linear


class Scores(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, batch):
        return {"fused": self.layers(torch.nn.functional.relu(batch["skeleton"].flatten(1)))}


@dataclass(frozen=True, kw_only=True)
class Deep(Base):
    hidden: int = 4

    def build(self, shape):
        inputs = 3 * shape.skeleton_frames * shape.joints * shape.persons
        first, last = torch.nn.Linear(inputs, self.hidden), torch.nn.Linear(self.hidden, shape.classes)
        return Scores(torch.nn.Sequential(first, last))


@dataclass(frozen=True, kw_only=True)
class Wide(Deep):
    hidden: int = 16


STUDY = Study(
    name="own",
    title="Models of one's own",
    base=RunConfig(
        model=Linear(), data=DataConfig(skeleton_frames=8), training=TrainingConfig(epochs=2, batch_size=7)
    ),
    arms=(
        Arm(name="linear", changes={}),
        Arm(name="deep", changes={"model": Deep()}),
        Arm(name="wide", changes={"model": Wide()}),
        Arm(name="broken", changes={"model": Linear(broken=True)}),
    ),
    reference="linear",
    seeds=1,
)
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own_net.py").write_text(NET)
    (folder / "own_study.py").write_text(STUDY)
    return folder / "own_study.py"


def coablate(*words: object, code: int, folder: Path) -> str:
    """Type a command in a folder; return what it says."""
    command = [sys.executable, "-m", "coablate_platform", *map(str, words)]
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_study_of_one_s_own_models_runs_and_goes_on_without_its_files(store, study, tmp_path):
    out = tmp_path / "out"
    coablate("run", study.name, "--data", store.uri, "--out", out, code=1, folder=study.parent)  # one arm is broken
    journal = Journal(str(out))
    plan = journal.plan()
    rows = build_table(plan, journal).rows
    assert {row.arm: len(row.values) for row in rows} == {"linear": 1, "deep": 1, "wide": 1, "broken": 0}
    parts = {run.arm: set(journal.record(run.run_id).context["code"]) for run in plan.runs}
    assert parts["linear"] == {"platform", "coablate_model", "own_net"}
    assert parts["wide"] == {"platform", "coablate_model", "own_net", "coablate_study_own_study"}
    assert plan.arms[1].config["model"]["kind"] == "coablate_study_own_study.Deep"

    broken = next(run.run_id for run in plan.runs if run.arm == "broken")
    failure = journal.record(broken).failure
    assert failure is not None
    kept = out / "studies" / plan.key / "source" / plan.command["source"]
    assert f'File "{kept / "own_net.py"}", line' in failure.traceback
    assert 'raise RuntimeError("broken beside the study")' in failure.traceback
    assert sorted(path.name for path in kept.glob("*.py")) == ["coablate_study_own_study.py", "own_net.py"]

    study.parent.rename(tmp_path / "elsewhere")
    said = coablate("resume", out, code=1, folder=tmp_path)
    assert f"{study} no longer exists; continuing with its copy in {kept}" in " ".join(said.split())
    assert journal.attempts(broken) == 2  # the others are not repeated
    assert {run.arm: journal.attempts(run.run_id) for run in plan.runs if run.arm != "broken"} == {
        "linear": 1,
        "deep": 1,
        "wide": 1,
    }
    record = journal.record(broken)
    assert record.state is RunState.CRASHED
    assert "broken beside the study" in record.failure.reason


SEARCH = (
    STUDY.replace("STUDY = Study(", "ARMS = Study(")
    + """
from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space

MODELS = {"linear": Linear(), "deep": Deep(), "wide": Wide()}
RATES = Float(low=1e-3, high=1e-1, log=True, when={"model": (MODELS["deep"], MODELS["wide"])})
STUDY = Search(
    name="own_search",
    title="Which model of one's own?",
    base=ARMS.base,
    space=Space({"model": Choice(options=MODELS), "training.learning_rate": RATES}),
    trials=4,
    sampler="random",
    stopping=Stopping(rule="none"),
    confirm=1,
    seeds=1,
)
"""
)


@pytest.mark.slow
def test_a_search_chooses_among_models_of_one_s_own(store, study, tmp_path):
    study.write_text(SEARCH)
    out = tmp_path / "out"
    coablate("run", study, "--data", store.uri, "--out", out, code=0, folder=tmp_path)
    journal = Journal(str(out))
    search = next(plan for plan in journal.plans() if isinstance(plan, SearchPlan))
    trials = JournalTrialLog(journal, search.key).trials()
    assert {trial.outcome for trial in trials} == {TrialOutcome.COMPLETE}
    assert len({trial.config["model"]["kind"] for trial in trials}) > 1
    plan = journal.concluding_plan()
    assert [len(row.values) for row in build_table(plan, journal).rows] == [1, 1]
    for key in (search.key, plan.key):
        assert list((out / "studies" / key / "source").iterdir())
