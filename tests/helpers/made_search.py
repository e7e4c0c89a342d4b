"""A search on known learning curves (see ``curves``) whose trials are written to a results folder."""

from pathlib import Path
from typing import Any

from curves import search, simulate

from coablate_model.hcn import LAYERS
from coablate_model.placement import RGB_SITES, Site
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog
from coablate_platform.search.scheduler import SearchScheduler
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.domains import Choice, Placement
from coablate_platform.study.plan import SearchPlan
from coablate_platform.study.search import Search
from coablate_platform.train.events import EpochReport, RunState

SITES = Placement(
    site=Site, streams={"rgb": RGB_SITES, "skeleton": LAYERS}, most=2, fields={"channels": Choice(options=(64, 256))}
)
KEY = "curves-000000"


def plan_of(declared: Search) -> SearchPlan:
    """Return the plan of a search on synthetic data."""
    factors = declared.space.factors
    return SearchPlan(
        key=KEY,
        name=declared.name,
        title=declared.title,
        metric="accuracy",
        selection="last",
        protocol="synthetic/cs",
        data={"fingerprint": "f" * 64},
        command={},
        trials=declared.trial_count,
        sampler=declared.sampler,
        stopping=declared.stopping,
        costs=tuple(declared.costs),
        factors={name: str(domain) for name, domain in factors.items()},
        placements={
            name: {stream: list(stages) for stream, stages in domain.streams.items()}
            for name, domain in factors.items()
            if isinstance(domain, Placement)
        },
        epochs=declared.base.training.epochs,
    )


class SimulatedTrialLog(JournalTrialLog):
    """Trials in a journal; the states and reports of their runs in memory, where the simulator writes them."""

    @property
    def memory(self) -> MemoryTrialLog:
        return MEMORY.setdefault(self.journal.folder.uri, MemoryTrialLog())

    @property
    def states(self) -> dict[str, RunState]:
        return self.memory.states

    @property
    def reports(self) -> dict[str, list[EpochReport]]:
        return self.memory.reports

    def state(self, run_id: str) -> RunState:
        return self.memory.state(run_id)

    def epochs(self, run_id: str) -> list[EpochReport]:
        return self.memory.epochs(run_id)

    def stop(self, run_id: str) -> None:
        self.memory.stop(run_id)

    def fork(self, parent: str, child: str) -> None:
        self.memory.fork(parent, child)

    def reached(self, run_id: str) -> int:
        return self.memory.reached(run_id)


MEMORY: dict[str, MemoryTrialLog] = {}
"""Results folder -> the states and reports of its runs."""


def searched(folder: Path, **changes: Any) -> tuple[Search, SimulatedTrialLog, SearchScheduler]:
    """Simulate a search of 40 trials to its end; ``changes`` are its other fields."""
    declared = search(**({"trials": 40} | changes))
    log = SimulatedTrialLog(Journal(str(folder)), KEY)
    scheduler, simulator = simulate(declared, log)
    assert simulator.run()
    return declared, log, scheduler
