"""Judges what the probe found on the hosts of a cluster."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from coablate_platform.cluster.findings import Check, Finding
from coablate_platform.cluster.jobs import JobServer
from coablate_platform.study.errors import ClusterError

Facts = Mapping[str, Any]
MARK = "COABLATE-PROBE "
"""Begins the line that the probe prints."""
OLDEST_PYTHON = (3, 11)
MOST_CLOCK_S = 2.0
LEAST_DISK = 10 * 2**30
LEAST_SHARED_MEMORY = 2**30
WRONG_CUDNN = range(90800, 91500)
"""cuDNN 9.8 to 9.14 compute some 3-D convolutions wrong in bf16."""
_AGAIN = "run coablate cluster up again"


def ask(server: JobServer, data: str | None, out: str | None) -> Facts:
    """Run the probe as a job on a cluster, and return what it found.

    Args:
        server: the cluster's job server.
        data: URI of a store that hosts must see; None: none.
        out: URI of the results' folder, that hosts must be able to write; None: none.

    Raises:
        ClusterError: the probe fails.
    """
    words = ["python", "-m", "coablate_platform.cluster.probe"]
    for option, value in (("--data", data), ("--out", out)):
        words += [option, value] if value else []
    name = server.submit(words, "doctor", None)
    server.wait(name)
    lines = server.log(name).splitlines()
    server.forget(name)  # it is no run
    found = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    if not found:
        raise ClusterError(
            f"the probe of the hosts has failed ({lines[-1] if lines else 'it printed nothing'}); {_AGAIN}"
        )
    facts: Facts = json.loads(found[0])
    return facts


def live_checks(facts: Facts) -> Iterator[Check]:
    """Judge what the probe found.

    Args:
        facts: what :func:`ask` returns.
    """
    hosts: Sequence[Facts] = facts["hosts"]
    if facts["head_storage"]:
        cure = "give the hosts of this type a profile with access to it, or mount the folder"
        yield "the head can write the results' folder", [Finding(problem=facts["head_storage"], cure=cure)]
        return
    yield "hosts have the head's Python, code and packages", _versions(hosts)
    yield "GPUs compute right", _each(hosts, _gpu)
    yield "hosts can write the results' folder, atomically", _each(hosts, _storage)
    yield "hosts have the store", _stores(hosts)
    yield "clocks agree", _each(hosts, _clock)
    yield "the token is for this user alone", _each(hosts, _token)
    yield "there is disk and shared memory", _each(hosts, _space)
    yield "hosts reach each other on any port", _each(hosts, _ports)
    yield "hosts' names and interfaces serve DDP", _each(hosts, _interface) if len(hosts) > 1 else []
    yield "MLflow answers on the head", _tracking(facts["tracking"])


def _each(hosts: Sequence[Facts], check: Callable[[Facts], Finding | None]) -> list[Finding]:
    return [finding for host in hosts if (finding := check(host)) is not None]


def _of(host: Facts, problem: str, cure: str) -> Finding:
    return Finding(problem=f"{host['host']} ({host['address']}): {problem}", cure=cure)


def _versions(hosts: Sequence[Facts]) -> Iterator[Finding]:
    head = hosts[0]
    for host in hosts:
        if tuple(map(int, host["python"].split(".")[:2])) < OLDEST_PYTHON:
            yield _of(host, f"Python {host['python']}", "use an image with Python 3.11 or later, such as Ubuntu 24.04")
        if host["python"] != head["python"]:
            yield _of(host, f"Python {host['python']}, {head['host']} has {head['python']}", "use one image")
        if host["code"] != head["code"]:
            yield _of(host, f"other code of Coablate than {head['host']}", _AGAIN)
        for name, version in host["packages"].items():
            if version != head["packages"][name]:
                yield _of(host, f"{name} {version}, {head['host']} has {head['packages'][name]}", _AGAIN)


def _gpu(host: Facts) -> Finding | None:
    gpu = host["gpu"]
    if "error" in gpu:
        return _of(host, f"torch fails ({gpu['error']})", "use the recommended image; a driver too old shows here")
    if gpu["wrong"] or (gpu["gpus"] and gpu["cudnn"] in WRONG_CUDNN):
        problem = f"cuDNN {gpu['cudnn']} computes 3-D convolutions wrong in bf16"
        return _of(host, problem, "--set training.precision=fp32, or install a cuDNN before 9.8 or from 9.15 on")
    return None


def _storage(host: Facts) -> Finding | None:
    if (host["storage"] or "").startswith("!"):
        cure = "mount the same folder on all hosts, or use s3:// and give the workers a profile that may write it"
        return _of(host, f"cannot use the head's results folder ({host['storage'][1:]})", cure)
    if host["atomic"]:
        return _of(host, f"files are not replaced atomically ({host['atomic']})", "use a local or NFS mount, or s3://")
    return None


def _stores(hosts: Sequence[Facts]) -> Iterator[Finding]:
    head = hosts[0]["store"]
    for host in hosts:
        if (host["store"] or "").startswith("!"):
            yield _of(host, f"no store ({host['store'][1:]})", "copy it to where all hosts see it, such as s3://")
        elif host["store"] != head:
            yield _of(host, f"another store ({host['store']}) than the head's", "copy the head's store there")


def _clock(host: Facts) -> Finding | None:
    if abs(host["clock"]) <= MOST_CLOCK_S:
        return None
    return _of(host, f"its clock is {host['clock']:+.0f} s from the head's", "sudo timedatectl set-ntp true")


def _token(host: Facts) -> Finding | None:
    if host["token_mode"] not in (None, 0o600):
        return _of(host, f"others may read its token (mode {host['token_mode']:o})", "chmod 600 ~/.ray/auth_token")
    if host["auth_mode"] != "token":
        cure = "set RAY_AUTH_MODE=token where Ray starts, as cluster.yaml does"
        return _of(host, "Ray runs without its token, so that anybody in the network may run code", cure)
    return None


def _space(host: Facts) -> Finding | None:
    for name, free, least in (
        ("temporary disk", host["disk"], LEAST_DISK),
        ("shared memory", host["shared_memory"], LEAST_SHARED_MEMORY),
    ):
        if free < least:
            cure = "give the host more, or free some" if name[0] == "t" else "sudo mount -o remount,size=8G /dev/shm"
            return _of(host, f"only {free / 2**30:.1f} GiB of {name} are free", cure)
    return None


def _ports(host: Facts) -> Finding | None:
    if not host["unreachable"]:
        return None
    where = ", ".join(host["unreachable"])
    return _of(host, f"cannot connect to {where}", "let the security group or firewall pass all ports between hosts")


def _interface(host: Facts) -> Finding | None:
    if not host["interface"]:
        cure = "start Ray with --node-ip-address of an interface"
        return _of(host, "no interface has its address in Ray", cure)
    return None


def _tracking(problem: str) -> list[Finding]:
    return (
        [Finding(problem=problem, cure="it takes a minute after up; then see ~/mlflow.log on the head")]
        if problem
        else []
    )
