"""What a study costs beside its training as it grows: journal, table and MLflow over runs, messages over lanes.

``python benchmarks/scaling.py runs|lanes`` prints a table. Each size is measured in a process of its own, so that
its peak of memory is its own.
"""

import asyncio
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from coablate_platform.journal.journal import Journal
from coablate_platform.lanes.dispatcher import Dispatcher, Lease
from coablate_platform.results.render import render
from coablate_platform.results.table import build_table
from coablate_platform.study.plan import PlannedArm, PlannedRun, StudyPlan
from coablate_platform.train.events import Conclusion, Predictions, RunState, RunUpdate

RUNS = (10, 100, 1_000, 10_000)
LANES = (1, 4, 16, 64, 256)
SEEDS = 5
EPOCHS = 56
CLIPS, CLASSES = 288, 12
TRACKED = 1_000
"""Up to how many runs are sent to MLflow."""
METRICS = ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "validation/mean_class_accuracy")
STEPS = 2_000
Measured = dict[str, float]


def study_of(runs: int) -> StudyPlan:
    """Return the plan of a study with so many runs, five seeds an arm."""
    arms = tuple(
        PlannedArm(
            name=f"arm {number}",
            difference={"model.width": number} if number else {},
            config={"model": {"width": number}, "training": {"epochs": EPOCHS}},
            parameters=1_000_000,
            flops=1_000_000,
        )
        for number in range(runs // SEEDS)
    )
    planned = tuple(
        PlannedRun(run_id=hashlib.sha256(f"{arm.name} {seed}".encode()).hexdigest(), arm=arm.name, seed=seed)
        for seed in range(SEEDS)
        for arm in arms
    )
    return StudyPlan(
        key="scaling-000000",
        name="scaling",
        title="As many runs as there are",
        reference=arms[0].name,
        metric="accuracy",
        selection="last",
        protocol="made/up",
        data={"uri": "nowhere", "fingerprint": "f" * 64, "source": "made up", "test": CLIPS},
        command={},
        arms=arms,
        runs=planned,
    )


def write_runs(journal: Journal, plan: StudyPlan) -> None:
    """Write all runs as completed, with the files that training leaves."""
    chance = np.random.default_rng(0)
    labels = np.arange(CLIPS) % CLASSES
    names = [f"clip{number:04}" for number in range(CLIPS)]
    for run in plan.runs:
        journal.begin(run.run_id, 0, {"packages": {"torch": "2.13.0"}, "seed": run.seed})
        rows = [
            {
                "epoch": epoch,
                "time": 1.7e9 + epoch,
                "seconds": 6.0,
                "metrics": [(name, 1 - 1 / epoch) for name in METRICS],
            }
            for epoch in range(1, EPOCHS + 1)
        ]
        journal._files.write(run.run_id, 0, "epochs", rows)  # once, not after each epoch
        scores = Predictions(names=names, labels=labels, scores=chance.random((CLIPS, CLASSES), dtype=np.float32))
        accuracy = float(chance.normal(0.9, 0.01))
        journal.conclude(run.run_id, 0, Conclusion(epoch=EPOCHS, metrics={"accuracy": accuracy}, predictions=scores))


def measure_runs(runs: int, folder: str) -> Measured:
    """Return what so many runs cost whoever looks at them."""
    from coablate_platform.tracking.follower import catch_up, prepare_mlflow, tracking_uri
    from coablate_platform.tracking.journal_watch import JournalWatch

    plan, journal = study_of(runs), Journal(folder)
    journal.write_plan(plan)
    found: Measured = {"runs": runs}
    waiting = JournalWatch(journal, plan)
    waiting.refresh(thorough=False)
    found["look_waiting_ms"] = 1e3 * fastest(lambda: waiting.refresh(thorough=False))
    found["write_ms"] = 1e3 * took(lambda: write_runs(journal, plan)) / runs
    found["bytes"] = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / runs
    watch = JournalWatch(journal, plan)
    found["read_s"] = took(lambda: watch.refresh(thorough=False))
    found["look_done_ms"] = 1e3 * fastest(lambda: watch.refresh(thorough=False))
    found["memory_mb"] = peak_mb()
    found["table_s"] = took(lambda: render(build_table(plan, journal, allow_mixed=True), "md"))
    if runs <= TRACKED:
        prepare_mlflow()
        found["mlflow_ms"] = 1e3 * took(lambda: catch_up(journal, plan, tracking_uri(folder))) / runs
    return found


def measure_lanes(lanes: int, folder: str) -> Measured:
    """Return how fast the mailboxes of one dispatcher carry steps of so many lanes and proxies, on real Ray."""
    import ray

    from coablate_platform.process import start_ray

    start_ray(include_dashboard=False)
    dispatcher = ray.remote(num_cpus=0, max_concurrency=10_000)(Dispatcher).remote()
    steps = max(STEPS // lanes, 8)
    update = RunUpdate(state=RunState.RUNNING, epoch=1)
    delays: list[float] = []

    async def proxy(number: int) -> None:
        for _ in range(steps):
            asked = time.perf_counter()
            await dispatcher.step.remote(str(number))
            delays.append(time.perf_counter() - asked)
        await dispatcher.stop.remote(str(number))

    async def lane(number: int) -> None:
        lease = await dispatcher.take.remote(number, ["node"], str(number), 60.0)
        assert isinstance(lease, Lease)
        while await dispatcher.command.remote(lease.id, lease.token, 60.0) == "step":
            await dispatcher.answer.remote(lease.id, lease.token, update)

    async def play() -> None:
        for number in range(lanes):
            await dispatcher.offer.remote(str(number), str(number), b"")
        await asyncio.gather(*(part(number) for number in range(lanes) for part in (proxy, lane)))

    spent = took(lambda: asyncio.run(play()))
    ray.shutdown()
    return {"lanes": lanes, "steps_s": lanes * steps / spent, "delay_ms": 1e3 * statistics.median(delays)}


def took(work: Callable[[], object]) -> float:
    """Return the seconds that a work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def fastest(work: Callable[[], object]) -> float:
    """Return the fewest seconds that a work takes in five rounds."""
    return min(took(work) for _ in range(5))


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def alone(kind: str, size: int) -> Measured:
    """Measure a size in a process of its own."""
    command = [sys.executable, __file__, kind, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: Measured = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of_runs() -> Iterator[str]:
    columns = ("runs", "look, all waiting", "look, all done", "read all", "memory", "table", "on disk", "in MLflow")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for runs in RUNS:
        found = alone("runs", runs)
        cells = (
            f"{runs:,}",
            f"{found['look_waiting_ms']:.1f} ms",
            f"{found['look_done_ms']:.1f} ms",
            f"{found['read_s']:.1f} s",
            f"{found['memory_mb']:.0f} MB",
            f"{found['table_s']:.1f} s",
            f"{found['bytes'] / 1e3:.0f} kB a run",
            f"{found['mlflow_ms']:.0f} ms a run" if "mlflow_ms" in found else "–",
        )
        yield f"| {' | '.join(cells)} |"


def rows_of_lanes() -> Iterator[str]:
    yield "| lanes | steps a second | delay of a step |"
    yield "|---|---|---|"
    for lanes in LANES:
        found = alone("lanes", lanes)
        yield f"| {lanes} | {found['steps_s']:.0f} | {found['delay_ms']:.1f} ms |"


def main(kind: str, size: int | None = None) -> None:
    """Print the table of ``runs`` or ``lanes``, or what one size has cost, as JSON."""
    tables = {"runs": (rows_of_runs, measure_runs), "lanes": (rows_of_lanes, measure_lanes)}
    rows, measure = tables[kind]
    if size is None:
        for row in rows():
            print(row, flush=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(size, folder)))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
