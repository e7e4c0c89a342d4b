"""Other searches on the simulated clock: what they suggest and stop is their own code, only the training is simulated.

They have the interface of Coablate's scheduler as far as :class:`Simulator` uses it.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import lcbench
import numpy as np
import optuna
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from coablate_platform.train.events import RunState, RunUpdate
from coablate_platform.train.task import Task

METRIC = "validation/accuracy"
STEP = "training_iteration"


class Peer(ABC):
    """Another search over LCBench's space.

    Attributes:
        completed: final accuracies of the trials that came to their end.
    """

    def __init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.completed: list[float] = []
        self._started = 0
        self._last: dict[str, float] = {}

    def next(self) -> Task:
        """Return the run of the next trial."""
        name = str(self._started)
        self._started += 1
        config = lcbench.SEARCH.config(lcbench.SPACE.decode(dict(self.suggest(name))))
        return Task(run_id=name, config=config, seed=(0, 0))

    def report(self, name: str, update: RunUpdate) -> bool:
        """Take in what a run reports, and return whether it must stop."""
        if update.state is RunState.COMPLETED:
            self.completed.append(self._last[name])
            self.end(name, self._last[name])
            return False
        value = self._last[name] = update.metrics[METRIC]
        return self.stops(name, update.epoch, value)

    @abstractmethod
    def suggest(self, name: str) -> Mapping[str, Any]:
        """Return the parameters of a new trial."""

    @abstractmethod
    def stops(self, name: str, epoch: int, value: float) -> bool:
        """Return whether a trial stops after an epoch."""

    @abstractmethod
    def end(self, name: str, value: float) -> None:
        """Note the final value of a completed trial."""


class PlainOptuna(Peer):
    """Optuna alone, with its defaults: TPE and successive halving."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(),
        )
        self._trials: dict[str, optuna.Trial] = {}

    def suggest(self, name: str) -> Mapping[str, Any]:
        self._trials[name] = self._study.ask()
        lcbench.SPACE.suggest(self._trials[name])
        return self._trials[name].params

    def stops(self, name: str, epoch: int, value: float) -> bool:
        trial = self._trials[name]
        trial.report(value, epoch)
        if epoch == lcbench.EPOCHS or not trial.should_prune():
            return False
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return True

    def end(self, name: str, value: float) -> None:
        self._study.tell(self._trials[name], value)


class RayTune(Peer):
    """Ray Tune's OptunaSearch, and its ASHA or none, each with its defaults.

    Args:
        seed: of the sampler.
        sampler: Optuna's; None: the default, TPE.
        asha: whether ASHA stops trials.
    """

    def __init__(self, seed: int, sampler: optuna.samplers.BaseSampler | None = None, *, asha: bool = True) -> None:
        super().__init__()
        logging.getLogger("ray").setLevel(logging.ERROR)
        np.random.seed(seed)  # ASHA draws a bracket from it
        told = {"metric": METRIC, "mode": "max"}
        own = {"sampler": sampler} if sampler is not None else {"seed": seed}
        self._searcher = OptunaSearch(lambda trial: lcbench.SPACE.suggest(trial) and None, **told, **own)
        self._scheduler: TrialScheduler = ASHAScheduler(max_t=lcbench.EPOCHS, **told) if asha else FIFOScheduler()
        self._trials: dict[str, Trial] = {}

    def suggest(self, name: str) -> Mapping[str, Any]:
        parameters: dict[str, Any] | None = self._searcher.suggest(name)
        self._trials[name] = Trial("lcbench", trial_id=name, stub=True)
        self._scheduler.on_trial_add(None, self._trials[name])
        assert parameters is not None
        return parameters

    def stops(self, name: str, epoch: int, value: float) -> bool:
        result = {STEP: epoch, METRIC: value}
        decision = self._scheduler.on_trial_result(None, self._trials[name], result)
        self._searcher.on_trial_result(name, result)
        if decision != TrialScheduler.STOP or epoch == lcbench.EPOCHS:
            return False
        self._scheduler.on_trial_complete(None, self._trials[name], result)
        self._searcher.on_trial_complete(name, result)  # as Tune does: with the last result
        return True

    def end(self, name: str, value: float) -> None:
        result = {STEP: lcbench.EPOCHS, METRIC: value}
        self._scheduler.on_trial_complete(None, self._trials[name], result)
        self._searcher.on_trial_complete(name, result)
