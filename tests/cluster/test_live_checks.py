"""What the doctor makes of what it found on the hosts of a cluster."""

import pytest

from coablate_platform.cluster.live_checks import live_checks
from coablate_platform.cluster.probe import probe

HEAD = {
    "host": "head",
    "address": "10.0.0.1",
    "python": "3.12.3",
    "packages": {"coablate": "0.1.0", "torch": "2.13.0"},
    "code": "12345678",
    "token_mode": 0o600,
    "auth_mode": "token",
    "disk": 2**37,
    "shared_memory": 2**33,
    "interface": "ens5",
    "store": "f00d",
    "storage": "same",
    "atomic": "",
    "clock": 0.01,
    "unreachable": [],
    "gpu": {"cuda": "13.0", "cudnn": 91900, "gpus": 0, "wrong": []},
}
WORKER = HEAD | {"host": "w", "address": "10.0.0.2", "gpu": HEAD["gpu"] | {"gpus": 1}}


def findings(worker=None, **facts):
    all_facts = {"hosts": [HEAD, WORKER | (worker or {})], "tracking": "", "head_storage": ""} | facts
    return {name: lines for name, found in live_checks(all_facts) if (lines := [str(one) for one in found])}


def test_a_sound_cluster_has_no_finding():
    assert findings() == {}
    assert len(list(live_checks({"hosts": [HEAD], "tracking": "", "head_storage": ""}))) == 10


@pytest.mark.parametrize(
    ("worker", "says", "cure"),
    [
        ({"python": "3.10.12"}, "Python 3.10.12", "use an image with Python 3.11 or later"),
        ({"python": "3.12.1"}, "Python 3.12.1, head has 3.12.3", "use one image"),
        ({"code": "abc"}, "other code of Coablate than head", "coablate cluster up again"),
        ({"packages": HEAD["packages"] | {"torch": "2.9.0"}}, "torch 2.9.0, head has 2.13.0", "coablate cluster up"),
        ({"gpu": {"error": "driver too old"}}, "torch fails (driver too old)", "use the recommended image"),
        ({"gpu": WORKER["gpu"] | {"cudnn": 91002}}, "cuDNN 91002 computes 3-D convolutions wrong", "fp32"),
        ({"gpu": WORKER["gpu"] | {"wrong": [3]}}, "cuDNN 91900 computes 3-D convolutions wrong", "fp32"),
        ({"storage": "!OSError: denied"}, "results folder (OSError: denied)", "mount the same folder on all hosts"),
        ({"atomic": "the head read a part of a file"}, "not replaced atomically (the head", "use a local or NFS mount"),
        ({"store": "!InputError: /s: no store"}, "no store (InputError: /s: no store)", "copy it to where all hosts"),
        ({"store": "beef"}, "another store (beef) than the head's", "copy the head's store there"),
        ({"clock": -31.2}, "its clock is -31 s from the head's", "timedatectl set-ntp true"),
        ({"token_mode": 0o644}, "others may read its token (mode 644)", "chmod 600 ~/.ray/auth_token"),
        ({"auth_mode": ""}, "Ray runs without its token", "set RAY_AUTH_MODE=token"),
        ({"disk": 2**30}, "only 1.0 GiB of temporary disk are free", "free some"),
        ({"shared_memory": 2**26}, "only 0.1 GiB of shared memory are free", "remount,size=8G /dev/shm"),
        ({"unreachable": ["10.0.0.1"]}, "cannot connect to 10.0.0.1", "let the security group or firewall pass"),
        ({"interface": ""}, "no interface has its address", "--node-ip-address"),
    ],
)
def test_a_finding_names_its_host_and_its_cure(worker, says, cure):
    lines = [line for found in findings(worker).values() for line in found]
    line = next(line for line in lines if says in line)
    assert line.startswith("w (10.0.0.2): ")
    assert cure in line


def test_the_known_bad_cudnn_does_no_harm_without_a_gpu():
    assert findings({"gpu": HEAD["gpu"] | {"cudnn": 91002}}) == {}


def test_one_host_alone_needs_no_interface():
    alone = live_checks({"hosts": [HEAD | {"interface": ""}], "tracking": "", "head_storage": ""})
    assert [list(found) for _, found in alone] == [[]] * 10


def test_a_head_that_cannot_write_ends_the_list():
    [[line]] = findings(hosts=[], head_storage="OSError: Access Denied").values()
    assert line.startswith("OSError: Access Denied; give the hosts")


def test_the_probe_finds_that_the_head_cannot_write(tmp_path):
    (tmp_path / "file").touch()
    facts = probe(None, str(tmp_path / "file" / "out"))
    [(name, [finding])] = live_checks(facts)
    assert name == "the head can write the results' folder"
    assert finding.problem.startswith("NotADirectoryError")


def test_mlflow_that_does_not_answer():
    [[line]] = findings(tracking="URLError: refused").values()
    assert line.startswith("URLError: refused; it takes a minute after up; then see ~/mlflow.log")
