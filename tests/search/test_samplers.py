"""A search's samplers are Optuna's, with the settings that the search needs: they draw what those draw."""

import functools
from collections.abc import Callable

import optuna
import pytest
from curves import FACTORS, SAMPLERS, plateau, search
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from coablate_platform.search.samplers import sampler_of
from coablate_platform.study.domains import Choice
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space
from coablate_platform.study.streams import stream_seed
from coablate_platform.study.suggesters import PlainValue

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),  # of the settings that are asked for
    pytest.mark.filterwarnings("ignore:Optuna's GPSampler"),
]
TRIALS = 16  # enough for each sampler to draw some that are not random
TOGETHER = Choice(options=(1, 2, 4), when={"model.fusion": ("dsfm",)})  # drawn wherever the floor is: one group


def declared(sampler: str) -> Search:
    own = {"space": Space(FACTORS | {"model.reduction": TOGETHER})} if sampler == "tpe" else SAMPLERS[sampler]
    return search(sampler=sampler, **({"stopping": Stopping(rule="none")} | own))


def drawn(searched: Search, sampler: Callable[[int], BaseSampler]) -> list[dict[str, PlainValue]]:
    """What a search's first trials draw, each told how good it was, with a sampler of its own by its number."""
    study = optuna.create_study(direction="maximize")
    for number in range(TRIALS):
        study.sampler = sampler(number)
        trial = study.ask()
        study.tell(trial, plateau(searched.config(searched.space.suggest(trial))))
    return [trial.params for trial in study.trials]


def seed(number: int) -> int:
    return stream_seed(0, "sampler", number) % 2**32


CONSTANT = stream_seed(0, "sampler") % 2**32


def tpe(number: int, multivariate: bool = True, group: bool = True, n_startup_trials: int = 10) -> BaseSampler:
    return TPESampler(seed=seed(number), multivariate=multivariate, group=group, n_startup_trials=n_startup_trials)


EXPECTED: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": tpe,
    "qmc": lambda number: QMCSampler(
        seed=CONSTANT, scramble=True, independent_sampler=RandomSampler(seed=seed(number))
    ),
    "gp": lambda number: GPSampler(seed=seed(number), n_startup_trials=10),
    "cmaes": lambda number: CmaEsSampler(seed=seed(number), n_startup_trials=10),
    "nsga2": lambda number: NSGAIISampler(seed=seed(number), population_size=15),
    "random": lambda number: RandomSampler(seed=seed(number)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sampler_draws_what_optuna_s_of_that_name_draws(name):
    searched = declared(name)
    assert drawn(searched, functools.partial(sampler_of, searched)) == drawn(searched, EXPECTED[name])


@pytest.mark.parametrize(
    "settings",
    [{"multivariate": False, "group": False}, {"group": False}, {"n_startup_trials": 9}, {"n_startup_trials": 11}],
)
def test_tpe_with_other_settings_draws_something_else(settings):
    """The test above sees each of these settings."""
    searched = declared("tpe")
    assert drawn(searched, functools.partial(tpe, **settings)) != drawn(searched, tpe)
