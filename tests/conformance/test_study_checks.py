"""Each check of a protocol, a sampler and a study fails where one does not do what it is about."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pytest
from made_protocol import HALVES, of
from suites import failures

from coablate_model.objective import CrossEntropy
from coablate_platform.conformance.protocol import PROTOCOL, ProtocolSubject
from coablate_platform.conformance.sampler import SAMPLER, SamplerSubject
from coablate_platform.conformance.study import STUDY, StudySubject
from coablate_platform.data.protocols import Protocol, Rule
from coablate_platform.study.domains import Choice
from coablate_platform.study.search import Search
from coablate_platform.study.space import Space
from coablate_platform.study.study import Arm
from coablate_search_spaces.smoke import STUDY as SMOKE


class Overlapping(Protocol):
    def split(self, rows: Any, *, hold_out: bool = True) -> dict[str, Any]:
        every = np.arange(len(rows["subject"]))
        return {"train": every, "validation": every[:0], "test": every}


class Descending(Protocol):
    def split(self, rows: Any, *, hold_out: bool = True) -> dict[str, Any]:
        return {name: part[::-1] for name, part in super().split(rows, hold_out=hold_out).items()}


class Renamed(Protocol):
    def split(self, rows: Any, *, hold_out: bool = True) -> dict[str, Any]:
        return {"training": np.arange(2), "test": np.arange(2, 4)}


class Holding(Protocol):
    def split(self, rows: Any, *, hold_out: bool = True) -> dict[str, Any]:
        parts = super().split(rows)
        return parts if hold_out else parts | {"test": parts["test"][:1]}


@pytest.mark.parametrize(
    ("protocol", "check"),
    [
        (of(Protocol, description=""), "says what it is"),
        (of(Renamed), "has three splits"),
        (of(Overlapping), "splits do not overlap"),
        (of(Descending), "rows ascend"),
        (of(Protocol, train=Rule(subjects=frozenset({900}))), "leaves clips to train and to test"),
        (of(Holding), "validation is held out on request only"),
        (of(Holding), "holding out takes nothing from the test"),
        (of(Protocol, train=Rule(subjects=[1, 2])), "can be written down"),
    ],
)
def test_what_a_protocol_does_not_do_is_said(protocol: Protocol, check: str) -> None:
    assert failures(PROTOCOL, ProtocolSubject(protocol=HALVES)) == {}
    assert check in failures(PROTOCOL, ProtocolSubject(protocol=protocol))


def random(search: Any, number: int) -> Any:
    return optuna.samplers.RandomSampler(seed=number)


class Outside(optuna.samplers.RandomSampler):
    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return distribution.high + 1


@pytest.mark.filterwarnings("ignore:.*out of the range")
@pytest.mark.parametrize(
    ("factory", "check"),
    [
        (lambda search, number: "tpe", "makes samplers"),
        (lambda search, number: Outside(), "draws what the space allows"),
        (lambda search, number: optuna.samplers.RandomSampler(), "draws the same again"),
        (lambda search, number: optuna.samplers.RandomSampler(seed=0), "draws otherwise for other trials"),
    ],
)
def test_what_a_sampler_does_not_do_is_said(factory: Callable[[Search, int], Any], check: str) -> None:
    assert failures(SAMPLER, SamplerSubject(factory=random)) == {}
    assert check in failures(SAMPLER, SamplerSubject(factory=factory))


@dataclass(frozen=True, kw_only=True)
class Unbuilt:
    """Has all that a model has, and cannot be built."""

    modalities: tuple[str, ...] = ("skeleton",)
    wide: Any = 1

    def build(self, shape: Any) -> Any:
        raise ValueError(f"wide is {self.wide}")

    objective = describe = build


@dataclass(frozen=True, kw_only=True)
class Cost:
    parameters: int = 1
    flops: int = 1
    activation_bytes: int = 1


@dataclass(frozen=True, kw_only=True)
class Built(Unbuilt):
    """Can be built unless it is to be too wide."""

    def build(self, shape: Any) -> Any:
        if self.wide == 3:
            raise ValueError("wide is 3, expected at most 2")

    def objective(self) -> CrossEntropy:
        return CrossEntropy(heads=("fused",))

    def describe(self, shape: Any) -> Cost:
        return Cost()


def study(**changes: Any) -> StudySubject:
    return StudySubject(study=dataclasses.replace(SMOKE, **changes))


def with_model(model: Any) -> StudySubject:
    return study(base=dataclasses.replace(SMOKE.base, model=model), arms=(Arm(name="MMTM", changes={}),))


@pytest.mark.parametrize(
    ("subject", "check"),
    [
        (study(title=" "), "says what it asks"),
        (with_model(SMOKE.base.training), "holds models"),
        (with_model(Unbuilt()), "every configuration can be built"),
        (study(base=dataclasses.replace(SMOKE.base, training=dataclasses.replace(SMOKE.base.training, epochs=0))),
         "every setting means something"),
        (study(arms=(*SMOKE.arms, Arm(name="also", changes={"model.floor": 0.1}, published={"ntu60/cs": 0.938}))),
         "published values are percentages"),
        (study(arms=(*SMOKE.arms, Arm(name="also", changes={"model.floor": 0.1}, published={"ntu60/xs": 93.8}))),
         "published values are percentages"),
    ],
)  # fmt: skip
def test_what_a_study_does_not_do_is_said(subject: StudySubject, check: str) -> None:
    assert check in failures(STUDY, subject)


def search(model: Any, **factors: Any) -> StudySubject:
    base = dataclasses.replace(SMOKE.base, model=model)
    space = Space({f"model.{name}": domain for name, domain in factors.items()})
    return StudySubject(study=Search(name="s", title="Drawn", base=base, space=space))


def test_what_a_search_draws_is_checked() -> None:
    assert failures(STUDY, search(Built(), wide=Choice(options=(1, 2)))) == {}
    [(check, said)] = failures(STUDY, search(Unbuilt(), wide=Choice(options=(1, 2)))).items()
    assert (check, said) == ("every configuration can be built", "the base: wide is 1")
    [(check, said)] = failures(STUDY, search(Built(), wide=Choice(options=(1, 3)))).items()
    assert check == "every configuration can be built"
    assert said.startswith("a draw ({'model.wide': 3}): wide is 3")
    named = Choice(options={"1": 1, "set": frozenset({1})})
    [(check, said)] = failures(STUDY, search(Built(), wide=named)).items()
    assert check == "configurations can be written down"
    assert "frozenset({1}) (frozenset) has no canonical form" in said
