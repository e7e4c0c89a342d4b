"""Which scheduler carries out which stopping rule."""

from coablate_platform.search.early_stopping import EarlyStoppingScheduler
from coablate_platform.search.population import PopulationScheduler
from coablate_platform.search.promotion import PromotionScheduler
from coablate_platform.search.scheduler import SearchScheduler, SearchSetup

_SCHEDULERS: dict[str, type[SearchScheduler]] = {"asha_promotion": PromotionScheduler, "pbt": PopulationScheduler}


def scheduler_of(setup: SearchSetup) -> SearchScheduler:
    """Return the scheduler of a search; it continues from the trials in the log.

    Raises:
        InputError: there can be no such storage for Optuna's study, or the file of a population's member is gone.
    """
    return _SCHEDULERS.get(setup.search.stopping.rule, EarlyStoppingScheduler)(setup)
