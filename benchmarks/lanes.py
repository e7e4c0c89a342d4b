"""What a run costs beyond its training: through lanes, and by the stock nesting of a trainer in a Tune trial.

Both do the same runs one at a time, each in one worker. From the end of one run to the end of the next passes a whole
run, with the start of Ray and of the lane left out; less what its training takes alone, this is the overhead. Lanes
are measured before and after the stock way, since that takes minutes.
"""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray.train
import torch
from made_up import make_store
from measure import in_turns, row
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from tiny_study import RUNS, STUDY

from coablate_platform.data.clips import clips_of
from coablate_platform.data.store import Store
from coablate_platform.journal.journal import Journal
from coablate_platform.lanes.cluster import joined
from coablate_platform.lanes.tuner import FixedOrder, Locations, run_all
from coablate_platform.planning.resolve import prepare_study, resolve
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, RunState, RunUpdate
from coablate_platform.train.loop import train
from coablate_platform.train.task import Task

STOCK_RUNS = 3  # each takes more than 10 s
CPU = torch.device("cpu")


def train_alone(task: Task, store: Store, folder: str) -> None:
    """Do what a lane's worker does for a run, but without Ray and a journal."""
    events = train(task, clips_of(task.config, store, task.seed), Checkpoints(folder), lambda report: None, CPU)
    if not isinstance(list(events)[-1], Conclusion):
        raise RuntimeError("the run came to no conclusion")


def through_lanes(tasks: Sequence[Task], store: Store, folder: str) -> list[float]:
    """Return when each run ended."""
    ends = []

    def note(run_id: str, update: RunUpdate, stops: bool) -> None:
        if update.state is RunState.COMPLETED:
            ends.append(time.perf_counter())

    journal = Journal(folder)
    locations = Locations.below(journal.folder, store, journal)
    run_all(STUDY, FixedOrder(tasks), locations, note, max_lanes=1)
    return ends


def stock(tasks: Sequence[Task], store: Store, folder: str) -> list[float]:
    """Return when each run ended, where every trial starts a ``TorchTrainer``.

    Trial and worker hold CPUs of their own; were there more trials at a time than pairs, they would wait for ever.
    """
    share = min(1.0, ray.cluster_resources()["CPU"] / 2)

    def worker(task: Task) -> None:
        torch.set_num_threads(1)
        data = clips_of(task.config, Store.open(store.uri), task.seed)
        checkpoints = Checkpoints(f"{folder}/checkpoints/{task.run_id}")
        for event in train(task, data, checkpoints, lambda report: None, CPU):
            ray.train.report(dict(event.metrics))

    def trial(config: dict[str, Any]) -> None:
        task = config["task"]
        TorchTrainer(
            worker,
            train_loop_config=task,
            scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": share}),
            run_config=ray.train.RunConfig(storage_path=folder, name=task.run_id, callbacks=[TuneReportCallback()]),
        ).fit()

    clock = Clock()
    tune.Tuner(
        tune.with_resources(trial, {"CPU": share}),
        param_space={"task": tune.grid_search(list(tasks))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=folder, name="tune", verbose=0, callbacks=[clock]),
    ).fit()
    return clock.ends


class Clock(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Notes when trials complete."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ends.append(time.perf_counter())


def gaps(ends: list[float], runs: int) -> list[float]:
    """Return the seconds from each run's end to the next one's.

    Raises:
        RuntimeError: not all runs ended, so that the figures would be another thing's.
    """
    if len(ends) != runs:
        raise RuntimeError(f"{len(ends)} of {runs} runs ended")
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, joined(None, [], os.abort):
        store = make_store(Path(folder) / "store", clips=40, has_video=False)
        tasks = prepare_study(resolve(STUDY, store), store, {}).tasks
        (training,) = in_turns([lambda: train_alone(tasks[0], store, f"{folder}/alone")], 5)
        ours = gaps(through_lanes(tasks, store, f"{folder}/before"), RUNS)
        plain = gaps(stock(tasks[:STOCK_RUNS], store, f"{folder}/stock"), STOCK_RUNS)
        ours += gaps(through_lanes(tasks, store, f"{folder}/after"), RUNS)
    lanes_s, stock_s = (statistics.median(seconds) - training for seconds in (ours, plain))
    what = f"overhead a run, beside {training:.2f} s of training"
    row(what, f"{lanes_s:.2f} s", f"{stock_s:.1f} s", stock_s / lanes_s)


if __name__ == "__main__":
    main()
