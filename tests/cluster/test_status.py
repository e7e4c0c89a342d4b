"""What a cluster's status counts: hosts, lanes, runs, money."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from coablate_platform.cluster.jobs import Job
from coablate_platform.cluster.status import Status, hosts_of, status_view

HOUR_MS = 3_600_000


def node(ip, start, end=0, state="ALIVE", kind="worker", **resources):
    labels = {"ray.io/node-group": kind} if kind else {}
    return SimpleNamespace(
        node_id=f"id-{ip}", node_ip=ip, state=state, labels=labels, resources_total=resources,
        start_time_ms=start * HOUR_MS, end_time_ms=end * HOUR_MS,
    )  # fmt: skip


NODES = [
    node("10.0.0.3", 100, end=102, state="DEAD", CPU=8, GPU=1),
    node("10.0.0.1", 100, kind="head", CPU=4),
    node("10.0.0.2", 101, CPU=8, GPU=1),
]
HOSTS = hosts_of(NODES, {"id-10.0.0.2": 1}, now=104 * 3600)
PRICES = {"head": 0.2, "worker": 1.0}


def test_hosts_count_from_ray_s_start_to_their_end():
    assert [(host.address, host.alive, host.gpus, host.workers, host.hours) for host in HOSTS] == [
        ("10.0.0.1", True, 0, 0, 4),
        ("10.0.0.2", True, 1, 1, 3),
        ("10.0.0.3", False, 1, 0, 2),
    ]


def test_hosts_that_have_left_have_cost_money_too():
    status = Status(jobs=[], hosts=HOSTS, lanes=1, prices=PRICES)
    assert status.cost == pytest.approx(4 * 0.2 + 3 + 2)
    assert status.unpriced == []


def shown(status):
    console = Console(width=160, file=io.StringIO())
    console.print(status_view(status))
    return console.file.getvalue()


def test_the_view_has_runs_lanes_hosts_gpus_and_money():
    job = Job(
        name="modules-1", status="RUNNING", command="", started=0.0, ended=7200.0, exit_code=None, message=""
    )  # fmt: skip
    text = shown(Status(jobs=[(job, "epoch 3 of 9")], hosts=HOSTS, lanes=1, prices=PRICES))
    assert "modules-1 │ running │ 2.0 h" in text
    assert "epoch 3 of 9" in text
    assert "1 lanes with 1 workers on 2 hosts with 1 GPUs." in text
    assert "About $5.80 so far, $1.20 an hour now" in text


def test_a_type_without_a_price_is_said():
    text = shown(Status(jobs=[], hosts=HOSTS, lanes=0, prices={"head": 0.2}))
    assert "No run was submitted." in text
    assert "No price for: worker." in text


def test_without_prices_nothing_is_said_of_money():
    assert "$" not in shown(Status(jobs=[], hosts=HOSTS, lanes=0)).replace("│ $", "").replace("┃ $", "")
