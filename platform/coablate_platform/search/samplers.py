"""Optuna's samplers and pruners, as a search names them.

Both are made anew from a search's declaration whenever they are needed: what they know lies in Optuna's study, so that
a search that is rebuilt from the journal goes on as it would have. A sampler that draws at random is seeded for each
trial by its number, for the same reason.
"""

import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import in_one_line, load_object
from coablate_platform.study.search import SAMPLER_KIND, SAMPLERS, Search
from coablate_platform.study.streams import stream_seed

STARTUP = 10
"""Trials that TPE, GP and CMA-ES draw at random before they learn."""
_KEEP_NO_COUNT = ("tpe", "gp", "random", "grid")
"""Samplers that note nothing in Optuna's study when they draw. Others note where they stand, in a sequence or in a
generation; a user's own may."""
_MAX_SEED = 2**32


def quiet() -> None:
    """Let Optuna warn and no more: what happens is the journal's to say."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def keeps_count(search: Search) -> bool:
    """Say whether the search's sampler may note in Optuna's study that it has drawn."""
    return search.sampler not in _KEEP_NO_COUNT


def sampler_of(search: Search, number: int) -> BaseSampler:
    """Return the sampler for the draw of trial ``number``.

    Raises:
        InputError: a user's own factory fails, or returns no sampler.
    """
    if search.sampler not in SAMPLERS:
        return _own_sampler(search, number)
    seed = stream_seed(search.seed, "sampler", number) % _MAX_SEED
    constant = stream_seed(search.seed, "sampler") % _MAX_SEED  # of the one sequence that all trials walk along
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
    with in_one_line(f"sampler {search.sampler}"):
        sampler = factory(search, number)
    if not isinstance(sampler, BaseSampler):
        raise InputError(f"sampler {search.sampler}: returned a {type(sampler).__name__}, expected an Optuna sampler")
    return sampler


def pruner_of(search: Search) -> BasePruner:
    """Return what says when a trial is given up."""
    stopping, epochs = search.stopping, search.base.training.epochs
    if stopping.rule == "asha":
        return SuccessiveHalvingPruner(min_resource=stopping.grace, reduction_factor=stopping.reduction)
    if stopping.rule == "hyperband":
        return HyperbandPruner(min_resource=stopping.grace, max_resource=epochs, reduction_factor=stopping.reduction)
    if stopping.rule == "median":
        return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=stopping.grace)
    return NopPruner()


def rungs_of(study: optuna.Study) -> dict[int, dict[int, float]]:
    """Return successive halving's rungs: rung -> trial number -> the value with which the trial reached it."""
    rungs: dict[int, dict[int, float]] = {}
    for trial in study.get_trials(deepcopy=False):
        for key, value in trial.system_attrs.items():
            if key.startswith("completed_rung_"):
                rungs.setdefault(int(key.removeprefix("completed_rung_")), {})[trial.number] = value
    return rungs
