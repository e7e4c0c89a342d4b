"""The contract of a sampler's factory, held by Coablate's own samplers."""

from functools import partial

import pytest
from curves import SAMPLERS, search

from coablate_platform.conformance.sampler import SAMPLER, SamplerSubject
from coablate_platform.conformance.suite import name_of
from coablate_platform.search.samplers import sampler_of
from coablate_platform.study.search import SAMPLERS as NAMES
from coablate_platform.study.search import Stopping


def factory(declared, search, number):
    return sampler_of(declared, number)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("check", SAMPLER.checks, ids=name_of)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_does_what_every_sampler_must(name, check):
    declared = search(sampler=name, **({"stopping": Stopping(rule="none")} | SAMPLERS[name]))
    check(SamplerSubject(factory=partial(factory, declared), search=declared))


def test_every_sampler_is_held_to_it():
    assert set(SAMPLERS) == set(NAMES)
