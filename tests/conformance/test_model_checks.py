"""Each check of a model fails for a model with the fault that it is for, with a message in one line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from suites import failures
from torch import nn

from coablate_model.objective import CrossEntropy
from coablate_platform.conformance.model import MODEL, ModelSubject
from coablate_platform.conformance.suite import CheckError, Suite, expect


def test_a_suite_ends_at_the_first_prerequisite_that_fails() -> None:
    def fails(subject: int) -> None:
        expect(subject > 1, "it is too small")

    def raises(subject: int) -> None:
        raise KeyError("no such\nthing")

    def passes(subject: int) -> None:
        pass

    suite = Suite(prerequisites=(passes, fails), independent=(raises, passes))
    assert [(o.check, o.failure) for o in suite.run(1)] == [("passes", ""), ("fails", "it is too small")]
    assert [o.check for o in suite.run(2)] == ["passes", "fails", "raises", "passes"]
    [(name, failure)] = failures(suite, 2).items()
    assert name == "raises"
    assert failure.startswith("KeyError: 'no such\\nthing' (")
    assert f"{Path(__file__).name}:" in failure  # the line that raised
    with pytest.raises(CheckError):
        expect(False, "it is wrong")


class Net(nn.Module):
    """Two layers on the skeleton, and the fault that the configuration asks for."""

    def __init__(self, config: "Model", shape: Any) -> None:
        super().__init__()
        features = 3 * shape.skeleton_frames * shape.joints * shape.persons
        self.first = (Uninitialised if config.fault == "uninitialised" else nn.Linear)(features, 8)
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.last = nn.Linear(8, 5 if config.fault == "fixed" else shape.classes)
        self.spare = nn.Linear(1, 1) if config.fault == "spare" else None
        self.register_buffer(
            "noise", torch.from_numpy(np.random.default_rng().random(3)) if config.fault == "noise" else torch.zeros(3)
        )
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


class Uninitialised(nn.Linear):
    """A layer whose ``reset_parameters`` does nothing."""

    def reset_parameters(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Cost:
    parameters: int
    flops: int = 1
    activation_bytes: int = 1


class FaultyObjective(CrossEntropy):
    def metrics(self, scores: Any, labels: Any) -> Any:
        return {"accuracy": torch.tensor(1.0)}

    def loss(self, outputs: Any, batch: Any, step: int) -> Any:
        return {"loss": torch.stack([super().loss(outputs, batch, step)["loss"]] * 2)}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model configuration that passes all checks, except for the named fault."""

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
        kind = FaultyObjective if self.fault in ("metrics", "vector") else CrossEntropy
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
    ("fault", "check", "message"),
    [
        ("names", "modalities are known", "('skeleton', 'sound')"),
        ("list", "modalities are known", "['skeleton']"),
        ("raises", "build returns a network", f"KeyError: 'conv9' ({__file__}:"),
        ("no module", "build returns a network", "returned a str, expected a torch.nn.Module"),
        ("outputs", "the loss is a scalar", "KeyError: 'fused'"),
        ("vector", "the loss is a scalar", "{'loss': (2,)}"),
        ("spare", "every parameter gets a finite gradient", "no gradient for spare.weight, spare.bias"),
        ("nan", "every parameter gets a finite gradient", "the loss is nan"),
        ("one", "the loss is a scalar", "ValueError"),
        ("metrics", "metrics are floats", "expected floats"),
        ("uninitialised", "every parameter has an initial value", "parameter first.weight"),
        ("noise", "the seed determines the initial state", "the initial values of noise differ"),
        ("state", "the state dict determines the scores", "gives other scores"),
        ("reads", "only declared modalities are read", "reads 'video', but its modalities are (skeleton)"),
        ("costs", "describe agrees with the network", "are trainable"),
        ("flops", "describe agrees with the network", "flops=0"),
        ("batch", "a single clip can be evaluated", ""),
        ("random", "evaluation is deterministic", "gives other scores"),
        ("fixed", "other clip shapes work or are refused", "expected (4, 3)"),
    ],
)
def test_a_faulty_model_fails_the_check_for_its_fault(fault: str, check: str, message: str) -> None:
    found = failures(MODEL, ModelSubject(config=Model(fault=fault)))
    assert check in found or (fault == "batch" and found), found
    if message:
        assert message in found[check]
    assert "\n" not in "".join(found.values())


def test_a_configuration_that_is_mutable_or_local_or_not_plain_fails_its_check() -> None:
    @dataclass
    class Mutable:
        pass

    found = failures(MODEL, ModelSubject(config=Mutable()))
    assert "is mutable, expected @dataclass(frozen=True" in found["the configuration is a frozen dataclass"]
    found = failures(MODEL, ModelSubject(config=Model(extra=frozenset({1}))))
    assert "no canonical form" in found["the configuration can be written as json"]

    @dataclass(frozen=True, kw_only=True)
    class Local(Model):
        pass

    assert "Local" in failures(MODEL, ModelSubject(config=Local()))["the configuration can be pickled"]
