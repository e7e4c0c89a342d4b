"""Checks for sampler factories: ``factory(search, number)`` returns the sampler that suggests trial ``number``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """Placeholder for the model of a search that trains nothing."""

    modalities: tuple[str, ...] = ()

    def build(self, *_: object) -> Any:
        raise NotImplementedError

    objective = describe = build


def _numeric_search() -> Search:
    """Return a search that every sampler supports: numeric factors without conditions."""
    return Search(
        name="numbers",
        title="Numeric factors only",
        base=RunConfig(model=_NoModel(), data=DataConfig(), training=TrainingConfig()),
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
    """A sampler factory, and the search that it is tried on.

    Args:
        factory: returns the sampler of a trial.
        search: declares the search space and the seed.
    """

    factory: Callable[[Search, int], BaseSampler]
    search: Search = field(default_factory=_numeric_search)

    def suggestions(self) -> list[Mapping[str, Any]]:
        """Return the suggested parameters of a new study's first trials; each trial scores better than the last."""
        quiet()
        study = optuna.create_study(direction="maximize")
        suggested: list[Mapping[str, Any]] = []
        for number in range(TRIALS):
            study.sampler = self.factory(self.search, number)
            trial = study.ask()
            self.search.space.suggest(trial)
            study.tell(trial, number / TRIALS)
            suggested.append(trial.params)
        return suggested


def the_factory_returns_an_optuna_sampler(subject: SamplerSubject) -> None:
    """Check that the factory returns an instance of ``optuna.samplers.BaseSampler``."""
    sampler = subject.factory(subject.search, 0)
    expect(isinstance(sampler, BaseSampler), f"it returned a {type(sampler).__name__}, expected an Optuna sampler")


def suggestions_are_in_the_search_space(subject: SamplerSubject) -> None:
    """Check that every suggested value is in its factor's domain."""
    for parameters in subject.suggestions():
        changes = subject.search.space.decode(parameters)
        encoded = subject.search.space.encode(changes)
        expect(encoded == dict(parameters), f"it suggested {parameters}, which is decoded and encoded as {encoded}")


def suggestions_are_reproducible(subject: SamplerSubject) -> None:
    """Check that a suggestion depends only on the trial's number and earlier trials, so that a search can resume."""
    once, again = subject.suggestions(), subject.suggestions()
    differing = [number for number in range(TRIALS) if once[number] != again[number]]
    first = f"trial {differing[0]}" if differing else ""
    expect(not differing, f"a second run suggests other values from {first} on; use the trial's number in the seed")


def suggestions_differ_between_trials(subject: SamplerSubject) -> None:
    """Check that not all trials get the same parameters."""
    suggested = subject.suggestions()
    expect(any(parameters != suggested[0] for parameters in suggested), f"it suggests {suggested[0]} for every trial")


SAMPLER: Suite[SamplerSubject] = Suite(
    prerequisites=(the_factory_returns_an_optuna_sampler,),
    independent=(
        suggestions_are_in_the_search_space,
        suggestions_are_reproducible,
        suggestions_differ_between_trials,
    ),
)
"""Checks of a sampler factory."""
