"""Tune's side of a run: a thin proxy that asks the dispatcher for steps and passes on what comes back."""

from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray import tune

from coablate_platform.train.events import RunUpdate


class RunProxy(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Stands for one run inside Tune. A step is one epoch, the last step the test.

    ``config`` holds ``dispatcher``, the actor's name, and ``lease``, the run's lease. The proxy does nothing before its
    first step and nothing at its end: Tune may start a process for a trial and then give the trial to another process.
    Whatever the run must be told, the searcher tells it.
    """

    def setup(self, config: Mapping[str, str]) -> None:
        self._dispatcher = ray.get_actor(config["dispatcher"])
        self._lease = config["lease"]

    def reset_config(self, new_config: Mapping[str, str]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        update: RunUpdate = ray.get(self._dispatcher.step.remote(self._lease))
        return {"update": update, "done": update.state.ended}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}  # a run's checkpoints are its lane's

    def load_checkpoint(self, checkpoint: object) -> None:
        pass


def account_of(trials: Iterable[Any]) -> dict[str, tuple[str, RunUpdate]]:
    """Return run id -> the status of its last proxy in Tune, and that proxy's last result; none before the first."""
    return {
        trial.config["lease"].rpartition("-")[0]: (trial.status, trial.last_result["update"])
        for trial in trials
        if "update" in trial.last_result
    }
