"""Each check of a protocol, a sampler and a study fails for one with the fault that it is for."""

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
        (of(Protocol, description=""), "name and description are given"),
        (of(Renamed), "splits are train validation and test"),
        (of(Overlapping), "splits do not overlap"),
        (of(Descending), "row numbers ascend"),
        (of(Protocol, train=Rule(subjects=frozenset({900}))), "train and test are not empty"),
        (of(Holding), "validation is empty without holding out"),
        (of(Holding), "holding out takes clips from training only"),
        (of(Protocol, train=Rule(subjects=[1, 2])), "the protocol can be pickled and stored"),
    ],
)
def test_a_faulty_protocol_fails_the_check_for_its_fault(protocol: Protocol, check: str) -> None:
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
        (lambda search, number: "tpe", "the factory returns an optuna sampler"),
        (lambda search, number: Outside(), "suggestions are in the search space"),
        (lambda search, number: optuna.samplers.RandomSampler(), "suggestions are reproducible"),
        (lambda search, number: optuna.samplers.RandomSampler(seed=0), "suggestions differ between trials"),
    ],
)
def test_a_faulty_sampler_fails_the_check_for_its_fault(factory: Callable[[Search, int], Any], check: str) -> None:
    assert failures(SAMPLER, SamplerSubject(factory=random)) == {}
    assert check in failures(SAMPLER, SamplerSubject(factory=factory))


@dataclass(frozen=True, kw_only=True)
class Unbuildable:
    """A model configuration that cannot be built."""

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
class Buildable(Unbuildable):
    """A model configuration that can be built unless ``wide`` is 3."""

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
        (study(title=" "), "name and title are given"),
        (with_model(Unbuildable()), "every configuration can be built"),
        (study(base=dataclasses.replace(SMOKE.base, training=dataclasses.replace(SMOKE.base.training, selection=99))),
         "every setting is valid"),
        (study(arms=(*SMOKE.arms, Arm(name="also", changes={"model.floor": 0.1}, published={"ntu60/cs": 0.938}))),
         "published values are percentages"),
        (study(arms=(*SMOKE.arms, Arm(name="also", changes={"model.floor": 0.1}, published={"ntu60/xs": 93.8}))),
         "published values are percentages"),
    ],
)  # fmt: skip
def test_a_faulty_study_fails_the_check_for_its_fault(subject: StudySubject, check: str) -> None:
    assert check in failures(STUDY, subject)


def search(model: Any, **factors: Any) -> StudySubject:
    base = dataclasses.replace(SMOKE.base, model=model)
    space = Space({f"model.{name}": domain for name, domain in factors.items()})
    return StudySubject(study=Search(name="s", title="Sampled", base=base, space=space))


def test_configurations_sampled_from_a_search_are_checked() -> None:
    assert failures(STUDY, search(Buildable(), wide=Choice(options=(1, 2)))) == {}
    [(check, message)] = failures(STUDY, search(Unbuildable(), wide=Choice(options=(1, 2)))).items()
    assert (check, message) == ("every configuration can be built", "the base: wide is 1")
    [(check, message)] = failures(STUDY, search(Buildable(), wide=Choice(options=(1, 3)))).items()
    assert check == "every configuration can be built"
    assert message.startswith("sampled configuration ({'model.wide': 3}): wide is 3")
    named = Choice(options={"1": 1, "set": frozenset({1})})
    [(check, message)] = failures(STUDY, search(Buildable(), wide=named)).items()
    assert check == "every configuration can be written as json"
    assert "frozenset({1}) (frozenset) has no canonical form" in message
