"""Joins or starts Ray, and counts how many lanes the cluster holds."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.state import list_nodes

from coablate_platform.lanes.address import check_membership
from coablate_platform.lanes.control import watched
from coablate_platform.process import connect_ray, end_on_signals, exempt_from_proxies, start_ray
from coablate_platform.study.errors import InputError, first_line
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

SHARE = 0.95  # share of its cores that a worker reserves; the rest is for Tune's proxies (0.001 CPU each)
OBJECT_STORE_BYTES = 128 * 2**20  # small: data is memory-mapped and results are files
GPU_STEPS = 10_000  # Ray counts GPU shares in these steps; shares are rounded down so that all of them fit
STATE_API_WAIT_S = 30.0
LOCAL_PATIENCE_S = 3.0
"""Seconds after which the control process of a Ray on this machine counts as ended."""
CLUSTER_PATIENCE_S = 45.0
"""Likewise of a cluster, which may start it again; after 60 s Ray ends this process."""
STARTED_AT_ONCE = 8  # worker processes; with Ray's default a lane's processes draw a warning on few cores


@dataclass(frozen=True, kw_only=True)
class LaneSize:
    """Size of a lane: how many workers, and what each reserves. A worker is on one node; a lane may span nodes."""

    workers: int
    cpus: float
    gpus: float

    @property
    def claim(self) -> dict[str, float]:
        """A worker's resources by Ray's names."""
        return {"CPU": self.cpus * SHARE} | ({"GPU": self.gpus} if self.gpus else {})


class NoRoomError(InputError):
    """Not even one lane fits the cluster.

    Args:
        message: what a lane needs, and what there is.
        size: the size of a lane.
    """

    def __init__(self, message: str, size: LaneSize) -> None:
        super().__init__(message)
        self.size = size


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The nodes of a cluster at one moment, (CPUs, GPUs) each."""

    nodes: tuple[tuple[float, float], ...]

    @classmethod
    def now(cls, without: Collection[str] = ()) -> "Cluster":
        """Return the nodes that the joined cluster has now, without those with these ids."""
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in without]
        return cls(nodes=tuple((has.get("CPU", 0.0), has.get("GPU", 0.0)) for has in alive))

    def lanes(self, size: LaneSize) -> int:
        """Return how many lanes fit."""
        places = 0
        for cpus, gpus in self.nodes:
            by_gpu = gpus / size.gpus if size.gpus else float("inf")
            places += int(min(cpus / size.cpus, by_gpu) + 1e-6)
        return places // size.workers

    def size_of(self, study: Study | Search, fit: Callable[[], int]) -> LaneSize:
        """Return the size of a study's lanes on this cluster. A worker gets a GPU where the study leaves it open.

        Args:
            study: the study or search to run.
            fit: measures how many of its runs a GPU holds; called only where the study asks for that.

        Raises:
            NoRoomError: not even one lane fits.
            InputError: the workers of one lane would have to share a GPU.
        """
        asked, workers = study.resources, study.base.training.workers
        gpus = asked.gpus
        if gpus is None or gpus == "fit":
            whole = float(any(gpus >= 1 for _, gpus in self.nodes))
            shares = fit() if gpus == "fit" and whole and workers == 1 else 1
            gpus = int(whole / shares * GPU_STEPS) / GPU_STEPS
        if workers > 1 and 0 < gpus < 1:
            raise InputError(f"a lane of {workers} workers cannot share GPUs: each needs whole ones, not {gpus:g}")
        size = LaneSize(workers=workers, cpus=asked.cpus, gpus=gpus)
        if self.lanes(size) < 1:
            has = "; ".join(f"{cpus:g} CPU and {gpus:g} GPU" for cpus, gpus in self.nodes)
            raise NoRoomError(
                f"a lane needs {size.workers} worker(s) with {size.cpus:g} CPU and {size.gpus:g} GPU each; "
                f"the cluster's nodes have: {has or 'nothing'}",
                size,
            )
        return size


def node_lives(node: str) -> bool:
    """Return whether the node with this id is part of the joined cluster."""
    return any(known["NodeID"] == node and known["Alive"] for known in ray.nodes())


@contextlib.contextmanager
def joined(address: str | None, modules: list[str], on_end: Callable[[], None]) -> Iterator[None]:
    """Join the cluster at ``address``, or start a local one and stop it at the end.

    A local cluster's servers are on loopback. Those of another one are where it was told to have them.

    Args:
        address: ``host:port`` of a running cluster; None starts a local one.
        modules: folders of packages that workers elsewhere need (their ``py_modules``).
        on_end: called, in another thread, if Ray's control process ends during the block; no call of Ray answers then.

    Raises:
        InputError: Ray does not start, none answers at the address, it refuses the token or has no node on this host,
            or its State API, which Train's clean-up needs, does not answer.
    """
    exempt_from_proxies([ray.util.get_node_ip_address()])
    if address is None:
        start_ray(
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            object_store_memory=OBJECT_STORE_BYTES,
            system={"worker_maximum_startup_concurrency": STARTED_AT_ONCE},
        )
    else:
        check_membership(address)
        try:
            connect_ray(address=address, runtime_env={"py_modules": modules})
        except Exception as error:
            raise InputError(f"Ray at {address}: {type(error).__name__}: {first_line(error)}") from None
    end_on_signals()  # Ray has replaced the handlers
    patience = LOCAL_PATIENCE_S if address is None else CLUSTER_PATIENCE_S
    try:
        _check_state_api()
        with watched(ray.get_runtime_context().gcs_address, patience, on_end):
            yield
    finally:
        ray.shutdown()


def package_folders() -> list[str]:
    """Return the folders of our packages, for workers on nodes where Coablate is not installed."""
    import coablate_model
    import coablate_platform
    import coablate_search_spaces

    return [str(Path(package.__path__[0])) for package in (coablate_platform, coablate_model, coablate_search_spaces)]


def _check_state_api() -> None:
    deadline = time.monotonic() + STATE_API_WAIT_S
    own = ray.get_runtime_context().gcs_address  # named, because another cluster may run on this machine
    while True:
        try:
            list_nodes(address=own, limit=1)
            return
        except Exception as error:
            if time.monotonic() > deadline:
                raise InputError(
                    "the cluster's State API does not answer, so Train could not clean up after itself; "
                    f"start Ray with its dashboard ({type(error).__name__}: {first_line(error)})"
                ) from None
            time.sleep(0.5)
