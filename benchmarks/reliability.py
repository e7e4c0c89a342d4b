"""What kills do to a study of six runs: with Coablate, with Ray Tune's own restore, and with Optuna's retries.

Each trains two runs at a time, twelve epochs each, and writes a checkpoint an epoch. After a random time a kill ends
the command and every process that it has started, as when a machine goes; then the same command is given again, which
goes on as the system's documentation has it. ``python benchmarks/reliability.py measure`` prints a row for each system.
"""

import contextlib
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import optuna
import psutil
import ray
import typer
from killed_study import EPOCH_S, EPOCHS, RUNS, train_for
from made_up import make_store
from ray import tune

from coablate_platform.journal.journal import Journal
from coablate_platform.study.plan import StudyPlan
from coablate_platform.train.events import RunState

Outcome = Mapping[str, object]
"""Run -> what it came to."""
AT_A_TIME = 2
CLIPS = 40
PATIENCE_S = 600.0
FAILURES = 3
"""How often a command may fail by itself."""
STUDY = Path(__file__).with_name("killed_study.py")
app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class System:
    """What trains the runs.

    Args:
        command: returns what Python is started with for a folder, first and after each kill.
        outcome: returns what the completed runs in a folder came to.
    """

    command: Callable[[Path], list[object]]
    outcome: Callable[[Path], Outcome]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a study went.

    Args:
        outcome: what its runs came to.
        epochs: that were trained, again or not.
        seconds: from the first command to the end of the last.
    """

    outcome: Outcome
    epochs: int
    seconds: float


def trained(folder: Path, run: int, state: tuple[int, float]) -> Iterator[tuple[int, float]]:
    """Yield what a peer's run has after each epoch: how many it has made, and its value."""
    epoch, value = state
    while epoch < EPOCHS:
        train_for(str(folder))
        epoch, value = epoch + 1, 0.9 * value + math.sin(run + epoch)
        yield epoch, value


@app.command()
def ray_tune(folder: Path) -> None:
    """Train the runs with Ray Tune; go on with its restore where there is something to restore."""

    def trial(config: dict[str, int]) -> None:
        state = (0, 0.0)
        if checkpoint := tune.get_checkpoint():
            with checkpoint.as_directory() as saved:
                state = tuple(json.loads(Path(saved, "state").read_text()))
        for epoch, value in trained(folder, config["run"], state):
            with tempfile.TemporaryDirectory() as saved:
                Path(saved, "state").write_text(json.dumps([epoch, value]))
                tune.report({"value": value}, checkpoint=tune.Checkpoint.from_directory(saved))

    ray.init(address="local", num_cpus=AT_A_TIME, include_dashboard=False)
    if tune.Tuner.can_restore(folder / "tune"):
        tuner = tune.Tuner.restore(str(folder / "tune"), trial, resume_unfinished=True, resume_errored=True)
    else:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"CPU": 1}),
            param_space={"run": tune.grid_search(list(range(RUNS)))},
            run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
        )
    values = {result.metrics["config"]["run"]: result.metrics["value"] for result in tuner.fit() if not result.error}
    (folder / "outcome").write_text(json.dumps(values))


@app.command()
def retried(folder: Path) -> None:
    """Train the runs with Optuna, whose heartbeat finds trials that died and queues them again."""
    study = _optuna_study(folder)

    def objective(trial: optuna.Trial) -> float:
        run = trial.suggest_int("run", 0, RUNS - 1)
        file = folder / f"checkpoint-{run}"
        state = json.loads(file.read_text()) if file.exists() else (0, 0.0)
        value = state[1]
        for epoch, value in trained(folder, run, state):  # the last value is returned
            part = file.with_suffix(".part")
            part.write_text(json.dumps([epoch, value]))
            part.replace(file)
        return float(value)

    if not study.trials:
        for run in range(RUNS):
            study.enqueue_trial({"run": run})
    done = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    study.optimize(objective, n_trials=RUNS - done, n_jobs=AT_A_TIME)


def _optuna_study(folder: Path) -> optuna.Study:
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder}/optuna.db",
        heartbeat_interval=1,
        grace_period=3,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )
    return optuna.create_study(storage=storage, study_name="killed", load_if_exists=True)


def our_outcome(folder: Path) -> Outcome:
    """Return what every completed run in a results folder was tested to."""
    journal = Journal(str(folder / "out"))
    runs = {run.seed: run.run_id for plan in journal.plans() if isinstance(plan, StudyPlan) for run in plan.runs}
    done = {seed: run for seed, run in runs.items() if journal.state(run) is RunState.COMPLETED}
    return {str(seed): journal.test_metrics(run) for seed, run in done.items()}


def tune_outcome(folder: Path) -> Outcome:
    """Return the last value of every trial that ended without an error."""
    file = folder / "outcome"
    outcome: Outcome = json.loads(file.read_text()) if file.exists() else {}
    return outcome


def optuna_outcome(folder: Path) -> Outcome:
    """Return the value of every run that a completed trial has trained."""
    trials = _optuna_study(folder).get_trials(states=[optuna.trial.TrialState.COMPLETE])
    return {str(trial.params["run"]): trial.value for trial in trials}


def course(system: System, folder: Path, kills: int, chance: random.Random) -> Course:
    """Let a system train the runs in an empty folder, and kill it so many times meanwhile.

    Before each kill another epoch must be trained; then up to three epochs' time passes. A command that fails by itself
    is given again, a few times.
    """
    began, notes = time.monotonic(), folder / "epochs"
    for kill in range(kills + 1):
        seen, process = _lines(notes), _started(system, folder)
        if kill < kills:
            while _lines(notes) <= seen and process.poll() is None:
                time.sleep(0.05)
            time.sleep(chance.uniform(0, 3 * EPOCH_S))
            _kill(process)
    for _ in range(FAILURES):
        if process.wait(PATIENCE_S) == 0:
            break
        process = _started(system, folder)
    process.wait(PATIENCE_S)
    return Course(outcome=system.outcome(folder), epochs=_lines(notes), seconds=time.monotonic() - began)


def _started(system: System, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        command = [sys.executable, *map(str, system.command(folder))]
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command with every process that it has started."""
    for victim in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait()


def _lines(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


def our_command(folder: Path) -> list[object]:
    """Return the command line of a study of Coablate's."""
    where = ("--data", folder / "store", "--out", folder / "out", "--set", f"model.folder={folder}")
    return ["-m", "coablate_platform", "run", STUDY, *where]


SYSTEMS = {
    "Coablate": System(command=our_command, outcome=our_outcome),
    "Ray Tune, `Tuner.restore`": System(command=lambda folder: [__file__, "ray-tune", folder], outcome=tune_outcome),
    "Optuna, heartbeat and retry": System(command=lambda folder: [__file__, "retried", folder], outcome=optuna_outcome),
}


@app.command()
def measure(
    kills: Annotated[int, typer.Option(help="Kills of a course.")] = 5,
    courses: Annotated[int, typer.Option(help="Courses of each system.")] = 4,
) -> None:
    """Print a row for each system."""
    for name, system in SYSTEMS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            undisturbed = _course(system, root / "undisturbed", 0, 0)
            found = [_course(system, root / str(seed), kills, seed) for seed in range(courses)]
        ended = sum(len(course.outcome) for course in found)
        same = sum(course.outcome.get(run) == value for course in found for run, value in undisturbed.outcome.items())
        again = sum(course.epochs for course in found) - courses * RUNS * EPOCHS
        cost = statistics.mean((course.seconds - undisturbed.seconds) / kills for course in found)
        runs, all_kills = courses * RUNS, courses * kills
        print(f"| {name} | {all_kills} | {ended} of {runs} | {same} of {runs} | {again} | {cost:.0f} s |", flush=True)


def _course(system: System, folder: Path, kills: int, seed: int) -> Course:
    folder.mkdir()
    make_store(folder / "store", clips=CLIPS, has_video=False)
    return course(system, folder, kills, random.Random(seed))


if __name__ == "__main__":
    app()
