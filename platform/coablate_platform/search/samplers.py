"""Optuna's samplers and pruners, as a search names them.

Both are created from the search's declaration whenever they are needed. Their state is in Optuna's study, so a search
that is rebuilt from the journal continues as it would have. For the same reason a random sampler gets a seed of its own
for each trial number.
"""

import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from coablate_platform.search.rungs import MAX_SEED
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import errors_as_input_error, load_object
from coablate_platform.study.search import SAMPLER_KIND, SAMPLERS, Search
from coablate_platform.study.streams import stream_seed

STARTUP = 10
"""Random trials before TPE, GP, CMA-ES and the median rule use what they have seen."""
_KEEP_NO_COUNT = ("tpe", "gp", "random", "grid")
"""Samplers that store nothing in Optuna's study when they suggest. Others store their position, in a sequence or in a
generation; a user's own sampler may do so too."""


def quiet() -> None:
    """Keep Optuna's log to warnings; the screen shows the trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def keeps_count(search: Search) -> bool:
    """Return whether the search's sampler may store its position in Optuna's study."""
    return search.sampler not in _KEEP_NO_COUNT


def sampler_of(search: Search, number: int) -> BaseSampler:
    """Return the sampler that suggests the parameters of trial ``number``.

    Raises:
        InputError: a user's own factory fails, or returns no sampler.
    """
    if search.sampler not in SAMPLERS:
        return _own_sampler(search, number)
    seed = stream_seed(search.seed, "sampler", number) % MAX_SEED
    constant = stream_seed(search.seed, "sampler") % MAX_SEED  # one for all trials: they share a sequence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if search.sampler == "tpe":
            return TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=STARTUP)
        if search.sampler == "qmc":
            return QMCSampler(seed=constant, scramble=True, independent_sampler=RandomSampler(seed=seed))
        if search.sampler == "gp":
            return GPSampler(seed=seed, n_startup_trials=STARTUP)
        if search.sampler == "cmaes":
            return CmaEsSampler(seed=seed, n_startup_trials=STARTUP)
        if search.sampler == "nsga2":
            return NSGAIISampler(seed=seed, population_size=min(50, max(search.trials // 4, 4)))
        return RandomSampler(seed=seed)


def _own_sampler(search: Search, number: int) -> BaseSampler:
    factory = load_object(search.sampler, SAMPLER_KIND).value
    with errors_as_input_error(f"sampler {search.sampler}"):
        sampler = factory(search, number)
    if not isinstance(sampler, BaseSampler):
        raise InputError(f"sampler {search.sampler}: returned a {type(sampler).__name__}, expected an Optuna sampler")
    return sampler


def pruner_of(search: Search) -> BasePruner:
    """Return the pruner of a search's stopping rule."""
    stopping, epochs = search.stopping, search.base.epochs
    grace = stopping.grace_of(epochs)
    if stopping.rule == "asha":
        return SuccessiveHalvingPruner(min_resource=grace, reduction_factor=stopping.reduction)
    if stopping.rule == "hyperband":
        return HyperbandPruner(min_resource=grace, max_resource=epochs, reduction_factor=stopping.reduction)
    if stopping.rule == "median":
        return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=grace)
    return NopPruner()


def rungs_of(study: optuna.Study) -> dict[int, dict[int, float]]:
    """Return successive halving's rungs: rung -> trial number -> the trial's value at the rung."""
    rungs: dict[int, dict[int, float]] = {}
    for trial in study.get_trials(deepcopy=False):
        for key, value in trial.system_attrs.items():
            if key.startswith("completed_rung_"):
                rungs.setdefault(int(key.removeprefix("completed_rung_")), {})[trial.number] = value
    return rungs
