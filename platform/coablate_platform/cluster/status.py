"""Shows what runs on a cluster, on which hosts, and what the hosts have cost so far."""

import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coablate_platform.cluster.jobs import Job, JobServer
from coablate_platform.study.errors import ClusterError, first_line

HOUR_S = 3600
LISTED = 10
"""How many runs are listed: those that run, and the latest of the others."""
LAST_WORDS = 100
"""How many characters of a run's last line are shown."""
_MOST = 10_000  # hosts or actors that Ray's State API is asked for
_LANE = "TrainController"  # the actor of Ray Train that leads the workers of a lane
_WORKER = "RayTrainWorker"  # an actor of Ray Train that trains


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host that is or was in the cluster.

    Args:
        address: its IP address.
        kind: name of its node type in the cluster file; empty if Ray does not know it.
        alive: whether it is in the cluster now.
        cpus: number of its CPUs.
        gpus: number of its GPUs.
        workers: how many workers train on it.
        hours: for how long it is or was in the cluster.
    """

    address: str
    kind: str
    alive: bool
    cpus: float
    gpus: float
    workers: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a cluster does.

    Args:
        jobs: the runs that were submitted to it, with the last line that each has printed.
        hosts: its hosts, and those that have left it.
        lanes: how many lanes train.
        prices: what a host costs, in dollars an hour, by node type; empty if that is not known.
    """

    jobs: list[tuple[Job, str]]
    hosts: list[Host]
    lanes: int
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """What the hosts with a price have cost so far, in dollars, from when Ray started on them."""
        return sum(host.hours * self.prices.get(host.kind, 0.0) for host in self.hosts)

    @property
    def unpriced(self) -> list[str]:
        """The node types of hosts that have no price."""
        return sorted({host.kind or "unknown" for host in self.hosts if host.kind not in self.prices})


def status_of(server: JobServer, prices: Mapping[str, float]) -> Status:
    """Ask a cluster what it does.

    Args:
        server: its job server, which serves Ray's State API too.
        prices: dollars an hour by node type.

    Raises:
        ClusterError: it does not answer.
    """
    from ray.util.state import list_actors, list_nodes

    try:
        nodes = list_nodes(address=server.address, limit=_MOST, detail=True)
        actors = list_actors(address=server.address, limit=_MOST, filters=[("state", "=", "ALIVE")])
    except Exception as error:  # of requests and Ray
        raise ClusterError(
            f"Ray's State API at {server.address}: {type(error).__name__}: {first_line(error)}"
        ) from None
    workers = Counter(actor.node_id for actor in actors if actor.class_name == _WORKER)
    listed = sorted(server.jobs(), key=lambda job: not job.open)[:LISTED]
    return Status(
        jobs=[(job, _last_line(server.log(job.name))) for job in listed],
        hosts=hosts_of(nodes, workers, time.time()),
        lanes=sum(actor.class_name == _LANE for actor in actors),
        prices=prices,
    )


def hosts_of(nodes: Iterable[Any], workers: Mapping[str, int], now: float) -> list[Host]:
    """Return the hosts of a cluster, those that are there first, from Ray's records of nodes.

    Args:
        nodes: records of Ray's State API.
        workers: how many workers train on a node, by its id.
        now: the time in seconds since 1970, until which hosts that are there are counted.
    """
    hosts = []
    for node in nodes:
        alive, resources = node.state == "ALIVE", node.resources_total or {}
        end = now if alive or not node.end_time_ms else node.end_time_ms / 1000
        host = Host(
            address=node.node_ip,
            kind=(node.labels or {}).get("ray.io/node-group", ""),
            alive=alive,
            cpus=resources.get("CPU", 0),
            gpus=resources.get("GPU", 0),
            workers=workers.get(node.node_id, 0),
            hours=max(end - (node.start_time_ms or end * 1000) / 1000, 0) / HOUR_S,
        )
        hosts.append(host)
    return sorted(hosts, key=lambda host: (not host.alive, host.kind, host.address))


def status_view(status: Status) -> RenderableType:
    """Show a status as two tables and a line on money."""
    return Group(_runs(status), _hosts(status), *(Text(line) for line in _summary(status)))


def _runs(status: Status) -> RenderableType:
    if not status.jobs:
        return Text("No run was submitted.")
    table = Table()
    for name in ("run", "state", "for"):
        table.add_column(name, no_wrap=True)
    table.add_column("last said")
    for job, line in status.jobs:
        until = job.ended or time.time()
        table.add_row(job.name, job.status.lower(), f"{(until - job.started) / HOUR_S:.1f} h", line)
    return table


def _hosts(status: Status) -> Table:
    table = Table("host", "type", "state", "CPUs", "GPUs", "workers", "hours", "$")
    for host in status.hosts:
        price = status.prices.get(host.kind)
        numbers = (f"{host.cpus:g}", f"{host.gpus:g}", str(host.workers), f"{host.hours:.1f}")
        cost = "–" if price is None else f"{host.hours * price:.2f}"
        table.add_row(host.address, host.kind or "–", "here" if host.alive else "gone", *numbers, cost)
    return table


def _summary(status: Status) -> list[str]:
    here = [host for host in status.hosts if host.alive]
    gpus, workers = sum(host.gpus for host in here), sum(host.workers for host in here)
    lines = [f"{status.lanes} lanes with {workers} workers on {len(here)} hosts with {gpus:g} GPUs."]
    if status.prices:
        hourly = sum(status.prices.get(host.kind, 0.0) for host in here)
        lines.append(
            f"About ${status.cost:.2f} so far, ${hourly:.2f} an hour now, by metadata.hourly_usd in the cluster file. "
            "Not counted: the minutes until Ray starts on a host, disks, traffic, and hosts of an earlier head."
        )
        if status.unpriced:
            lines.append(f"No price for: {', '.join(status.unpriced)}.")
    return lines


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return textwrap.shorten(lines[-1], LAST_WORDS, placeholder="…") if lines else ""
