"""Tune's side of a run: a thin proxy that asks the dispatcher for steps and reports what comes back."""

from typing import Any

import ray
from ray import tune

from coablate_platform.lanes.dispatcher import NAME
from coablate_platform.train.events import RunState


class Trial(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """One run; a step is one epoch, the last the test. ``config["cell"]``: ``claim``, ``run_id``, ``arm``, ``seed``.

    It does nothing before its first step, nor at its end: Tune may start a process for a trial and then give the trial
    to another. What a run is to hear it hears from the searcher.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._dispatcher = ray.get_actor(NAME)
        self._claim = config["cell"]["claim"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = ray.get(self._dispatcher.step.remote(self._claim))
        return result | {"done": RunState(result["state"]).ended}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}  # a run's checkpoints are its lane's

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass
