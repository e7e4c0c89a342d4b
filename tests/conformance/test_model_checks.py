"""Each check of a model fails where a model does not do what it is about, in one line that says so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from suites import failures
from torch import nn

from coablate_model.objective import CrossEntropy
from coablate_platform.conformance.model import MODEL, ModelSubject
from coablate_platform.conformance.suite import CheckError, Suite, expect


def test_a_suite_ends_where_a_check_fails_that_others_need() -> None:
    def fails(subject: int) -> None:
        expect(subject > 1, "it is too small")

    def raises(subject: int) -> None:
        raise KeyError("no such\nthing")

    def passes(subject: int) -> None:
        pass

    suite = Suite(first=(passes, fails), then=(raises, passes))
    assert [(o.check, o.failure) for o in suite.run(1)] == [("passes", ""), ("fails", "it is too small")]
    assert [o.check for o in suite.run(2)] == ["passes", "fails", "raises", "passes"]
    [(name, failure)] = failures(suite, 2).items()
    assert name == "raises"
    assert failure.startswith("KeyError: 'no such\\nthing' (")
    assert f"{Path(__file__).name}:" in failure  # the line that raised
    with pytest.raises(CheckError):
        expect(False, "said")


class Net(nn.Module):
    """Two layers on the skeleton, with something between them that a check may break."""

    def __init__(self, config: "Model", shape: Any) -> None:
        super().__init__()
        features = 3 * shape.skeleton_frames * shape.joints * shape.persons
        self.first = (Undrawn if config.fault == "undrawn" else nn.Linear)(features, 8)
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.last = nn.Linear(8, 5 if config.fault == "fixed" else shape.classes)
        self.spare = nn.Linear(1, 1) if config.fault == "spare" else None
        self.register_buffer("noise", torch.randn(3) if config.fault == "noise" else torch.zeros(3))
        self.calls, self.config = 0, config

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        fault = self.config.fault
        skeleton = batch["skeleton"].flatten(1)
        if fault == "reads":
            skeleton = skeleton + batch["video"].mean()
        if fault == "nan":
            skeleton = skeleton * float("nan")
        hidden = self.first(skeleton)
        hidden = nn.functional.dropout(hidden) if fault == "random" else self.drop(hidden)
        hidden = (hidden - hidden.mean(0)) / hidden.std(0) if fault == "batch" else self.norm(hidden)
        self.calls += self.training
        scores = self.last(hidden) + (self.calls if fault == "state" else 0)
        return {"other" if fault == "outputs" else "fused": scores[:1] if fault == "one" else scores}


class Undrawn(nn.Linear):
    """Leaves its parameters as they are."""

    def reset_parameters(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Cost:
    parameters: int
    flops: int = 1
    activation_bytes: int = 1


class Judge(CrossEntropy):
    def metrics(self, scores: Any, labels: Any) -> Any:
        return {"accuracy": torch.tensor(1.0)}

    def loss(self, outputs: Any, batch: Any, step: int) -> Any:
        return {"loss": torch.stack([super().loss(outputs, batch, step)["loss"]] * 2)}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that does all it must; ``fault`` says what it does not."""

    fault: str = ""
    extra: Any = None

    @property
    def modalities(self) -> Any:
        return {"names": ("skeleton", "sound"), "list": ["skeleton"]}.get(self.fault, ("skeleton",))

    def build(self, shape: Any) -> Any:
        if self.fault == "raises":
            return {}["conv9"]
        return "a network" if self.fault == "no module" else Net(self, shape)

    def objective(self) -> CrossEntropy:
        kind = Judge if self.fault in ("metrics", "vector") else CrossEntropy
        objective = kind(heads=("fused",))
        if self.fault == "metrics":
            object.__setattr__(objective, "loss", CrossEntropy(heads=("fused",)).loss)
        return objective

    def describe(self, shape: Any) -> Cost:
        parameters = sum(p.numel() for p in self.build(shape).parameters())
        return Cost(parameters=parameters + (self.fault == "costs"), flops=0 if self.fault == "flops" else 1)


def test_a_model_without_a_fault_passes() -> None:
    assert failures(MODEL, ModelSubject(config=Model())) == {}


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        ("names", "names the modalities it reads", "('skeleton', 'sound')"),
        ("list", "names the modalities it reads", "['skeleton']"),
        ("raises", "builds a network", f"KeyError: 'conv9' ({__file__}:"),
        ("no module", "builds a network", "returned a str, expected a torch.nn.Module"),
        ("outputs", "takes a batch as the objective expects", "KeyError: 'fused'"),
        ("vector", "takes a batch as the objective expects", "{'loss': (2,)}"),
        ("spare", "trains every parameter", "no gradient reaches spare.weight, spare.bias"),
        ("nan", "trains every parameter", "the loss is nan"),
        ("one", "takes a batch as the objective expects", "ValueError"),
        ("metrics", "judges scores by numbers", "metrics are to be floats"),
        ("undrawn", "draws every parameter in its module", "does not draw first.weight, first.bias"),
        ("noise", "begins alike from one seed", "noise begins otherwise"),
        ("state", "comes back from its state", "gives other scores"),
        ("reads", "reads only what it names", "reads 'video' though its modalities are (skeleton)"),
        ("costs", "tells its costs", "the network has"),
        ("flops", "tells its costs", "flops=0"),
        ("batch", "takes a single clip", ""),
        ("random", "evaluates alike every time", "other scores the second time"),
        ("fixed", "fits the clips of another set", "expected (4, 3)"),
    ],
)
def test_what_a_model_does_not_do_is_said(fault: str, check: str, said: str) -> None:
    found = failures(MODEL, ModelSubject(config=Model(fault=fault)))
    assert check in found or (fault == "batch" and found), found
    if said:
        assert said in found[check]
    assert "\n" not in "".join(found.values())


def test_what_a_configuration_is_not_is_said() -> None:
    @dataclass
    class Changeable:
        pass

    found = failures(MODEL, ModelSubject(config=Changeable()))
    assert "can be changed; expected @dataclass(frozen=True" in found["is a frozen dataclass"]
    assert "no canonical form" in failures(MODEL, ModelSubject(config=Model(extra=frozenset({1}))))["has plain fields"]

    @dataclass(frozen=True, kw_only=True)
    class Local(Model):
        pass

    assert "Local" in failures(MODEL, ModelSubject(config=Local()))["travels by reference"]
