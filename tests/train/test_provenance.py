"""Where a result comes from: a changed source file is another digest, and nothing else is."""

import importlib
import importlib.metadata
import json
import subprocess
import sys

import pytest
import torch

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study import source
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.load import load_study
from coablate_platform.train import provenance
from coablate_platform.train.provenance import EXCLUDED_CODE, PACKAGES, context, model_code, origin_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that holds a model, and the model."""
    folder = tmp_path / "digested_package"
    (folder / "parts").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "model.py").write_text("class Model:\n    def objective(self):\n        return self\n")
    (folder / "parts" / "layer.py").write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder, importlib.import_module("digested_package.model").Model()
    for name in [name for name in sys.modules if name.startswith("digested_package")]:
        del sys.modules[name]


def digested(model):
    """Return the model's code as a process that starts now would see it."""
    provenance._code_of.cache_clear()
    return model_code(model)


def test_a_changed_file_anywhere_in_the_package_is_another_digest(package):
    folder, model = package
    before = digested(model)
    assert [(name, len(digest)) for name, digest in before.items()] == [("digested_package", 8)]
    (folder / "parts" / "layer.py").write_text("WIDTH = 2\n")
    assert digested(model) != before
    (folder / "parts" / "layer.py").write_text("WIDTH = 1\n")
    assert digested(model) == before


def test_the_code_of_a_process_is_what_it_has_imported(package):
    folder, model = package
    before = model_code(model)
    (folder / "parts" / "layer.py").write_text("WIDTH = 2\n")
    assert model_code(model) == before


def test_an_added_or_renamed_file_is_another_digest(package):
    folder, model = package
    digests = [digested(model)["digested_package"]]
    (folder / "more.py").write_text("")
    digests.append(digested(model)["digested_package"])
    (folder / "more.py").rename(folder / "other.py")
    digests.append(digested(model)["digested_package"])
    assert len(set(digests)) == 3


def test_what_does_nothing_does_not_count(package):
    folder, model = package
    before = digested(model)
    (folder / "notes.txt").write_text("nothing\n")
    (folder / "parts" / "layer.py").write_text('"""Layers."""\n\n# wide\nWIDTH   =  1  # narrow\n"""The width."""\n')
    assert digested(model) == before


def test_what_a_package_imports_from_elsewhere_counts(package, tmp_path):
    folder, model = package
    (tmp_path / "network_elsewhere.py").write_text("WIDTH = 1\n")
    (folder / "parts" / "layer.py").write_text("def build():\n    import network_elsewhere, pydantic\n")
    before = digested(model)
    assert set(before) == {"digested_package", "network_elsewhere", "pydantic"}
    assert before["pydantic"] == f"version {importlib.metadata.version('pydantic')}"
    (tmp_path / "network_elsewhere.py").write_text("WIDTH = 2\n")
    changed = digested(model)
    assert {name for name in before if before[name] != changed[name]} == {"network_elsewhere"}


STUDY = """
from dataclasses import dataclass
from coablate_model.objective import CrossEntropy
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.study import Arm, Study

@dataclass(frozen=True, kw_only=True)
class Model:
    width: int = 1

    @property
    def modalities(self):
        return ("skeleton",)

    def objective(self):
        return CrossEntropy(heads=("fused",))

    def build(self, shape):
        raise NotImplementedError

    describe = build

BASE = RunConfig(model=Model(), data=DataConfig(), training=TrainingConfig())
STUDY = Study(name="s", title="s", base=BASE, arms=(Arm(name="a", changes={}),), reference="a")
"""


def test_a_study_s_file_counts_with_the_modules_beside_it_that_it_imports(tmp_path):
    def parts():
        return model_code(load_study(str(tmp_path / "lone.py")).base.model)

    (tmp_path / "lone.py").write_text(STUDY)
    before = parts()
    assert set(before) == {"coablate_study_lone", "coablate_model"}  # the latter has the objective
    (tmp_path / "layers_beside.py").write_text("import deeper_beside")
    (tmp_path / "deeper_beside.py").write_text("")
    assert parts() == before
    (tmp_path / "lone.py").write_text(STUDY + "def build():\n    import layers_beside\n")
    with_siblings = parts()
    assert set(with_siblings) == {*before, "layers_beside", "deeper_beside"}
    (tmp_path / "deeper_beside.py").write_text("CHANGED = 1")
    assert {name for name, digest in parts().items() if digest != with_siblings[name]} == {"deeper_beside"}


def test_a_module_that_is_imported_under_a_computed_name_counts(tmp_path):
    def parts():
        return model_code(load_study(str(tmp_path / "lone.py")).base.model)

    (tmp_path / "net_a.py").write_text("WIDTH = 1\n")
    (tmp_path / "lone.py").write_text("import importlib\nNET = importlib.import_module('net_' + 'a')\n" + STUDY)
    before = parts()
    assert set(before) == {"coablate_study_lone", "coablate_model", "net_a"}
    (tmp_path / "net_a.py").write_text("WIDTH = 2\n")
    assert {name for name, digest in parts().items() if digest != before[name]} == {"net_a"}


def test_a_worker_finds_the_code_that_the_driver_found(tmp_path):
    """It imports copies of the files, from a folder that lies elsewhere."""
    (tmp_path / "net_beside.py").write_text("WIDTH = 1\n")
    (tmp_path / "lone.py").write_text("import net_beside\n" + STUDY)
    expected = model_code(load_study(str(tmp_path / "lone.py")).base.model)
    copies = tmp_path / "copies"
    for name, content in source.Sources.imported().files.items():
        (copies / name).parent.mkdir(parents=True, exist_ok=True)
        (copies / name).write_bytes(content)
    code = (
        "import json, sys; from coablate_platform.study import source; source.attach(sys.argv[1]);"
        "import coablate_study_lone as s; from coablate_platform.train.provenance import model_code;"
        "print(json.dumps(model_code(s.BASE.model)))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(copies)], capture_output=True, check=True, text=True)
    assert json.loads(found.stdout) == expected


def test_a_study_s_digest_is_the_same_wherever_its_file_lies(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "lone.py").write_text(STUDY)
    before = model_code(load_study(str(tmp_path / "a" / "lone.py")).base.model)
    (tmp_path / "a").rename(tmp_path / "b")
    assert model_code(load_study(str(tmp_path / "b" / "lone.py")).base.model) == before


def test_what_no_run_executes_is_no_part_of_the_platform_s(monkeypatch):
    """A run imports none of the excluded packages but those that record what happens."""
    digest = provenance.platform_code.__wrapped__
    before = digest()
    monkeypatch.setattr(provenance, "EXCLUDED_CODE", ())
    assert digest() != before
    code = "import sys, coablate_platform.train.loop, coablate_platform.data.clips; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    for name in EXCLUDED_CODE:
        computes = any(module.startswith(name) for module in loaded) and not name.startswith("coablate_platform.train")
        assert not computes or name == "coablate_platform.data.formats", name  # only the types of what readers return


def test_the_context_says_what_explains_a_result():
    config = RunConfig(model=CCDFARM(), data=DataConfig(), training=TrainingConfig())
    said = context(origin_of(config), config.model, "f" * 64, (0, 3), torch.device("cpu"))
    assert json.loads(json.dumps(said)) == said
    assert said["config"]["model"]["kind"] == "coablate_model.cc_dfarm.CCDFARM"
    assert (said["data"], said["seed"], said["threads"]) == ("f" * 64, [0, 3], torch.get_num_threads())
    assert said["packages"] == {name: importlib.metadata.version(name) for name in ("coablate", *PACKAGES)}
    assert said["code"] == {"platform": provenance.platform_code(), **model_code(config.model)}
    assert set(said["code"]) == {"platform", "coablate_model"}
