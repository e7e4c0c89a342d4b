"""Where a result comes from: a changed source file is another digest, and nothing else is."""

import importlib
import importlib.metadata
import json
import sys

import pytest
import torch

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.load import load_study
from coablate_platform.train.provenance import PACKAGES, code_of, context, origin_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that holds a model, and the model."""
    folder = tmp_path / "digested_package"
    (folder / "parts").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "model.py").write_text("class Model:\n    pass\n")
    (folder / "parts" / "layer.py").write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder, importlib.import_module("digested_package.model").Model()
    for name in [name for name in sys.modules if name.startswith("digested_package")]:
        del sys.modules[name]


def test_a_changed_file_anywhere_in_the_package_is_another_digest(package):
    folder, model = package
    before = code_of(model)
    assert before == code_of(model)
    assert len(before) == 8
    (folder / "parts" / "layer.py").write_text("WIDTH = 2\n")
    changed = code_of(model)
    assert changed != before
    (folder / "parts" / "layer.py").write_text("WIDTH = 1\n")
    assert code_of(model) == before


def test_an_added_or_renamed_file_is_another_digest(package):
    folder, model = package
    digests = [code_of(model)]
    (folder / "more.py").write_text("")
    digests.append(code_of(model))
    (folder / "more.py").rename(folder / "other.py")
    digests.append(code_of(model))
    assert len(set(digests)) == 3


def test_what_is_no_source_does_not_count(package):
    folder, model = package
    before = code_of(model)
    (folder / "notes.txt").write_text("nothing\n")
    assert code_of(model) == before


def test_a_lone_file_counts_alone(tmp_path):
    text = (
        "from dataclasses import dataclass\n"
        "from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig\n"
        "from coablate_platform.study.study import Arm, Study\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Model:\n    width: int = 1\n"
        "BASE = RunConfig(model=Model(), data=DataConfig(), training=TrainingConfig())\n"
        "STUDY = Study(name='s', title='s', base=BASE, arms=(Arm(name='a', changes={}),), reference='a')\n"
    )
    (tmp_path / "lone.py").write_text(text)
    before = code_of(load_study(str(tmp_path / "lone.py")).base.model)
    (tmp_path / "beside.py").write_text("")
    assert code_of(load_study(str(tmp_path / "lone.py")).base.model) == before
    (tmp_path / "lone.py").write_text(text + "# changed\n")
    assert code_of(load_study(str(tmp_path / "lone.py")).base.model) != before


def test_the_context_says_what_explains_a_result():
    config = RunConfig(model=CCDFARM(), data=DataConfig(), training=TrainingConfig())
    said = context(origin_of(config), "f" * 64, (0, 3), torch.device("cpu"))
    assert json.loads(json.dumps(said)) == said
    assert said["config"]["model"]["kind"] == "coablate_model.cc_dfarm.CCDFARM"
    assert (said["data"], said["seed"], said["threads"]) == ("f" * 64, [0, 3], torch.get_num_threads())
    assert said["packages"] == {name: importlib.metadata.version(name) for name in ("coablate", *PACKAGES)}
    assert said["code"].startswith(code_of(config.model))
    assert len(said["code"]) == 8 + 1 + 8
