"""A search whose runs' curves are known: accuracy rises to a plateau that rate, floor and fusion decide."""

import math
from collections.abc import Sequence
from typing import Any

from optuna.samplers import BaseSampler, TPESampler

from coablate_platform.search import rules
from coablate_platform.search.samplers import rungs_of
from coablate_platform.search.scheduler import SearchScheduler, SearchSetup
from coablate_platform.search.simulator import Curve, MemoryTrialLog, Simulator
from coablate_platform.study.config import RunConfig
from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.identity import run_id
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space
from coablate_platform.train.task import Task
from coablate_search_spaces._cc_dfarm import BASE

EPOCHS = 27
METRIC = "validation/accuracy"
FACTORS = {
    "training.learning_rate": Float(low=1e-4, high=1e-1, log=True),
    "model.fusion": Choice(options=("dsfm", "mmtm")),
    "model.floor": Float(low=0.0, high=1.0, when={"model.fusion": ("dsfm",)}),
}
NUMBERS = {name: FACTORS[name] for name in ("training.learning_rate",)} | {"model.floor": Float(low=0.0, high=1.0)}
SAMPLERS = {
    "random": {},
    "tpe": {},
    "qmc": {"space": Space(NUMBERS)},
    "gp": {"space": Space(NUMBERS), "trials": 14},
    "cmaes": {"space": Space(NUMBERS)},
    "nsga2": {},
    "grid": {
        "space": Space({"model.floor": Choice(options=(0.1, 0.5, 0.7)), "model.reduction": Choice(options=(2, 4))})
    },
}
BEST = {"training.learning_rate": 3e-3, "model.floor": 0.7}


def search(**changes: Any) -> Search:
    """A search of these factors; ``changes`` are its other fields."""
    base = apply_changes(BASE, {"training.epochs": EPOCHS, "training.learning_rate": 2e-3})
    declared: dict[str, Any] = {
        "name": "curves",
        "title": "Known curves",
        "base": base,
        "space": Space(FACTORS),
        "trials": 60,
        "stopping": Stopping(rule="asha", grace=1, reduction=3),
    }
    return Search(**(declared | changes))


POPULATION = Stopping(rule="pbt", grace=6, reduction=4)


def population(**changes: Any) -> Search:
    """A population of eight members over the same factors; ``changes`` are other fields of the search."""
    return search(**({"trials": 8, "sampler": "random", "stopping": POPULATION} | changes))


def plateau(config: RunConfig) -> float:
    """The accuracy after endless training: 0.95 at best, 0.05 less with MMTM."""
    rate, model = config.training.learning_rate, config.model
    away = math.log10(rate / BEST["training.learning_rate"]) ** 2 / 4
    loss = 0.05 if model.fusion == "mmtm" else (model.floor - BEST["model.floor"]) ** 2 / 5
    return max(0.95 - away - loss, 0.1)


def curve(config: RunConfig) -> Curve:
    """Smooth and deterministic; slower for small rates."""
    pace = 4 if config.training.learning_rate > 1e-3 else 8
    return Curve(values=[plateau(config) * (1 - math.exp(-(epoch + 1) / pace)) for epoch in range(EPOCHS)])


def task_of(config: RunConfig, lineage: Sequence[str | int] = ()) -> Task:
    return Task(run_id=run_id(config, "curves", (0, 0), lineage), config=config, seed=(0, 0))


def identify(config: RunConfig) -> str:
    return task_of(config).run_id


def cost(config: RunConfig) -> dict[str, int]:
    return {"parameters": 1000, "flops": 100 if config.model.fusion == "mmtm" else 200}


def scheduler_of(declared: Search, log: MemoryTrialLog, **more: Any) -> SearchScheduler:
    setup = {"search": declared, "name": declared.name, "log": log, "task_of": task_of, "cost": cost} | more
    return rules.scheduler_of(SearchSetup(**setup))


def simulate(declared: Search, log: MemoryTrialLog, lanes: int = 4, curves: Any = curve, **more: Any):
    """The scheduler and the simulator of a search."""
    scheduler = scheduler_of(declared, log, **more)
    return scheduler, Simulator(scheduler, log, curves, METRIC, lanes)


def said(scheduler: SearchScheduler) -> list[Any]:
    """Everything that two equal searches have in common."""
    optuna_says = [
        (trial.number, trial.state, trial.params, trial.values, trial.intermediate_values)
        for trial in scheduler.study.get_trials(deepcopy=False)
    ]
    return [scheduler.records, optuna_says, rungs_of(scheduler.study)]


def own_sampler(search: Search, number: int) -> BaseSampler:
    """A sampler of a user's own, named ``curves:own_sampler``."""
    return TPESampler(seed=1000 * search.seed + number, n_startup_trials=5)
