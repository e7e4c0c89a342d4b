"""What every sampler's factory must do: ``factory(search, number)`` returns what suggests trial ``number``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import optuna
from optuna.samplers import BaseSampler

from coablate_platform.conformance.suite import Suite, expect
from coablate_platform.search.samplers import quiet
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.domains import Float, Int
from coablate_platform.study.search import Search
from coablate_platform.study.space import Space

TRIALS = 12


@dataclass(frozen=True, kw_only=True)
class _NoModel:
    """Stands in a search that trains nothing."""


def _numbers() -> Search:
    """Return a search that any sampler can work on: numbers alone, without conditions."""
    return Search(
        name="numbers",
        title="Numbers alone",
        base=RunConfig(model=cast(Any, _NoModel()), data=DataConfig(), training=TrainingConfig()),
        space=Space(
            {
                "training.learning_rate": Float(low=1e-4, high=1e-1, log=True),
                "data.crop_ratio": Float(low=0.1, high=1.0),
                "data.frames": Int(low=4, high=32),
            }
        ),
    )


@dataclass(frozen=True, kw_only=True)
class SamplerSubject:
    """A factory of samplers, and the search that it is tried on.

    Args:
        factory: returns the sampler that suggests a trial.
        search: says what is drawn.
    """

    factory: Callable[[Search, int], BaseSampler]
    search: Search = field(default_factory=_numbers)

    def draws(self) -> list[Mapping[str, Any]]:
        """Return the parameters of a study's first trials, each of which is better than the one before."""
        quiet()
        study = optuna.create_study(direction="maximize")
        drawn: list[Mapping[str, Any]] = []
        for number in range(TRIALS):
            study.sampler = self.factory(self.search, number)
            trial = study.ask()
            self.search.space.suggest(trial)
            study.tell(trial, number / TRIALS)
            drawn.append(trial.params)
        return drawn


def makes_samplers(subject: SamplerSubject) -> None:
    """Check that the factory returns one of Optuna's samplers."""
    sampler = subject.factory(subject.search, 0)
    expect(isinstance(sampler, BaseSampler), f"it returned a {type(sampler).__name__}, expected an Optuna sampler")


def draws_what_the_space_allows(subject: SamplerSubject) -> None:
    """Check that every value is within its factor."""
    for parameters in subject.draws():
        changes = subject.search.space.decode(parameters)
        encoded = subject.search.space.encode(changes)
        expect(encoded == dict(parameters), f"it drew {parameters}, which stands for {encoded}")


def draws_the_same_again(subject: SamplerSubject) -> None:
    """Check that draws follow from the number and the trials before: a rebuilt search goes on as it would have."""
    once, again = subject.draws(), subject.draws()
    differing = [number for number in range(TRIALS) if once[number] != again[number]]
    expect(not differing, f"it draws otherwise the second time, from trial {differing[:1]} on; seed it by the number")


def draws_otherwise_for_other_trials(subject: SamplerSubject) -> None:
    """Check that not all trials are the same."""
    drawn = subject.draws()
    expect(any(parameters != drawn[0] for parameters in drawn), f"it draws {drawn[0]} for every trial")


SAMPLER: Suite[SamplerSubject] = Suite(
    first=(makes_samplers,),
    then=(draws_what_the_space_allows, draws_the_same_again, draws_otherwise_for_other_trials),
)
"""The checks of a sampler's factory."""
