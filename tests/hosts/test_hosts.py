"""A cluster of hosts of one's own: brought up over SSH, driven from a laptop, with hosts that die and come.

Each run has two workers on two hosts. Whatever happens, the table is that of an undisturbed run on one machine.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hosts import ROOT, Network, network
from processes import await_epoch, coablate, finished, outcome

from coablate_platform.journal.journal import Journal
from coablate_platform.train.events import RunState

pytestmark = [pytest.mark.hosts, pytest.mark.slow, pytest.mark.timeout(600)]
HEAD, WORKERS, LATE = "10.77.0.11", {"a": "10.77.0.12", "b": "10.77.0.13"}, "10.77.0.14"
STUDY = """
from faulty_study import arms
STUDY = arms(["none", "none again"])
"""
SMALL = "--object-store-memory=150000000"
OPTIONS = ("--set", "training.workers=2", "--set", "training.batch_size=8", "--set", "model.pause=0.5")
PATIENCE_S = 150


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study file; what it imports lies beside it."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(ROOT / "tests" / "helpers" / "faulty_study.py", folder)
    file = folder / "pair.py"
    file.write_text(STUDY)
    return file


@pytest.fixture(scope="module")
def undisturbed(study, store, tmp_path_factory) -> dict:
    """What the study comes to on this machine alone."""
    out = tmp_path_factory.mktemp("undisturbed")
    finished(coablate("run", study, "--data", store.uri, "--out", out, *OPTIONS))
    return outcome(out)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("net")) as made:
        made.start("head", HEAD)
        for name, address in WORKERS.items():
            made.start(name, address)
        yield made


@pytest.fixture(scope="module")
def cluster(net) -> Path:
    """The shipped file for hosts of one's own, filled in. The hosts use this environment, so nothing is installed."""
    file = net.home / "cluster.yaml"
    values = yaml.safe_load((ROOT / "cluster.local.yaml").read_text())
    values["provider"] |= {"head_ip": HEAD, "worker_ips": [*WORKERS.values(), "192.0.2.1"]}
    values["auth"] = {"ssh_user": "root", "ssh_private_key": str(net.key)}
    values["setup_commands"] = [
        f"ln -sfn {sys.prefix} ~/venv",
        *(line for line in values["setup_commands"] if "pip" not in line),
    ]
    for key, cpus in (("head_start_ray_commands", 0), ("worker_start_ray_commands", 1)):
        values[key] = [line.replace("ray start", f"ray start --num-cpus={cpus} {SMALL}") for line in values[key]]
    file.write_text(yaml.safe_dump(values))
    finished(net.laptop("cluster", "up", file))
    await_hosts(net, 3)
    return file


def await_hosts(net: Network, count: int) -> None:
    """Wait until so many nodes are alive; asked on the head, as a user would."""
    deadline = time.monotonic() + PATIENCE_S
    alive = -1
    while alive != count:
        assert time.monotonic() < deadline, f"{alive} of {count} nodes"
        time.sleep(1)
        listed = net.ssh("head", "ray list nodes --filter state=ALIVE --format json 2>/dev/null")
        alive = len(json.loads(listed.stdout)) if listed.stdout.startswith("[") else -1


def check(out: Path, undisturbed: dict) -> None:
    """Check the table, that no run was lost, and that only one had to go on after an interruption."""
    journal = Journal(str(out))
    records = [journal.record(run.run_id) for run in journal.plan().runs]
    assert {record.state for record in records} == {RunState.COMPLETED}
    assert sorted(record.attempts for record in records) == [1, 2]
    assert outcome(out) == undisturbed


def test_a_study_survives_a_host_and_goes_on_with_another(undisturbed, net, cluster, study, store, tmp_path):
    out = tmp_path / "out"
    running = net.laptop("run", study, "--cluster", cluster, "--data", store.uri, "--out", out, *OPTIONS)
    await_epoch(running, out, seconds=PATIENCE_S)
    net.kill("b")
    net.start("late", LATE)
    token = (net.home / ".ray" / "auth_token").read_text()
    keeps = f"mkdir -p ~/.ray; echo -n {token} > ~/.ray/auth_token"
    finds = f"export RAY_AUTH_MODE=token PATH={sys.prefix}/bin:$PATH"
    answer = net.ssh("late", f"{keeps}; {finds}; ray start --address={HEAD}:6379 --num-cpus=1 {SMALL}")
    assert answer.returncode == 0, answer
    finished(running)
    check(out, undisturbed)


def test_a_study_survives_the_head(undisturbed, net, cluster, study, store, tmp_path):
    out = tmp_path / "out"
    words = ("run", study, "--cluster", cluster, "--data", store.uri, "--out", out, *OPTIONS)
    running = net.laptop(*words)
    await_epoch(running, out, seconds=PATIENCE_S)
    net.kill("head")
    running.kill()
    running.communicate()
    net.start("head", HEAD)
    if "b" not in net.hosts:  # the other test has ended it
        net.start("b", WORKERS["b"])
    finished(net.laptop("cluster", "up", cluster))
    await_hosts(net, 3)
    assert "accuracy" in finished(net.laptop(*words))
    check(out, undisturbed)
