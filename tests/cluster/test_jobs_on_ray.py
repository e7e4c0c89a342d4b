"""Commands that reach a cluster, with a real Ray and its job server on loopback."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from job_cluster import job_cluster

from coablate_platform.cluster.jobs import JobServer

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated"),  # Ray's job client asks aiohttp so
]


@pytest.fixture(scope="module")
def cluster():
    with job_cluster() as address:
        yield address


@pytest.fixture(scope="module")
def sleeper(cluster):
    """A run that lasts, named ``long``."""
    name = JobServer(cluster).submit(["bash", "-c", "sleep 2; echo begun; sleep 600"], "long", None)
    yield name
    JobServer(cluster).stop(name)


def begun(cluster, name, word="begun"):
    deadline = time.monotonic() + 60
    while f"\n{word}" not in JobServer(cluster).log(name) and time.monotonic() < deadline:
        time.sleep(0.2)


def test_a_study_file_travels_and_the_run_s_words_and_exit_code_come_back(coablate, cluster, tmp_path):
    """The study's other file ends the driver on the cluster: its line and its exit code are those of the command."""
    file = tmp_path / "mine" / "floors.py"
    file.parent.mkdir()
    file.write_text("import beside\n")
    (tmp_path / "mine" / "beside.py").write_text("raise RuntimeError('imported on the cluster')\n")
    words = ("--data", tmp_path, "--out", tmp_path / "out", "--seeds", "2")
    answer = coablate("run", file, *words, "--cluster", cluster)
    assert answer.code == 2, answer
    submitted, *lines = answer.out.splitlines()
    assert re.fullmatch(r"Submitted as floors-\d{8}-\d{6}", submitted)
    assert re.fullmatch(r"floors-\d{8}-\d{6}: failed", lines[-1])
    assert "imported on the cluster" in answer.out
    entrypoint = next(line for line in lines if "entrypoint" in line)
    assert entrypoint.endswith(f"coablate run floors.py --data {tmp_path} --out {tmp_path / 'out'} --seeds 2")
    assert str(file) not in "".join(lines)  # it ran from its copy


def test_ctrl_c_lets_go_and_the_run_goes_on(cluster, sleeper):
    command = [sys.executable, "-P", "-m", "coablate_platform", "attach", "--cluster", cluster, sleeper]
    begun(cluster, sleeper)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    while "begun" not in (line := process.stdout.readline()) and line:
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"Let go; the run goes on. To follow it again: coablate attach --cluster {cluster} {sleeper}" in out
    assert JobServer(cluster).job(sleeper).open


def test_status_shows_the_run_and_the_host(coablate, cluster, sleeper):
    begun(cluster, sleeper)
    answer = coablate("cluster", "status", cluster)
    assert answer.code == 0, answer
    assert re.search(rf"{sleeper} *│ running +│", answer.out)
    assert "│ begun" in answer.out
    assert "0 lanes with 0 workers on 1 hosts with 0 GPUs." in answer.out
    assert "$0" not in answer.out  # an address has no prices


def test_logs_prints_what_there_is_and_names_match_by_study(coablate, cluster, sleeper):
    begun(cluster, sleeper)
    answer = coablate("logs", "--cluster", cluster, "long")
    assert answer.code == 0, answer
    assert answer.out.endswith("begun\n")


def test_an_unknown_run_is_said_with_the_nearest(refused, cluster, sleeper):
    refused("logs", "--cluster", cluster, "lomg", says=("no run 'lomg' on this cluster", "did you mean 'long'?"))


def test_doctor_looks_at_the_hosts(coablate, cluster, store, tmp_path):
    answer = coablate("cluster", "doctor", cluster, "--data", store.uri, "--out", tmp_path / "out")
    lines = answer.out.splitlines()
    assert len(lines) == 10, answer
    failing = [line for line in lines if not line.startswith("ok ")]
    assert [line for line in failing if "disk" not in line and "Python, code" not in line] == []  # of a small machine
    assert list((tmp_path / "out").iterdir()) == []
    assert answer.code == bool(failing)


def test_stop_ends_a_run_once(coablate, cluster):
    name = JobServer(cluster).submit(["sleep", "600"], "brief", None)
    deadline = time.monotonic() + 60
    while JobServer(cluster).job(name).status == "PENDING" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert coablate("stop", "--cluster", cluster, "brief").out == f"Stopping {name}\n"
    assert JobServer(cluster).wait(name).status == "STOPPED"
    assert coablate("stop", "--cluster", cluster, "brief").out == f"{name} has ended already\n"


def test_a_password_is_not_shown_to_the_cluster(refused, cluster):
    words = ("--data", "/s", "--out", "/o", "--tracking", "http://me:secret@host")
    refused("run", "smoke", *words, "--cluster", cluster, says=("http://me:***@host", "COABLATE_TRACKING"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_runs_to_its_table_while_status_shows_its_lane(coablate, cluster, store, tmp_path):
    words = ["run", "smoke", "--data", store.uri, "--out", tmp_path / "out", "--seeds", "1", "--cluster", cluster]
    command = [sys.executable, "-P", "-m", "coablate_platform", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lanes = []
    while process.poll() is None:
        lanes.append(re.search(r"(\d+) lanes with (\d+) workers", coablate("cluster", "status", cluster).out)[0])
        time.sleep(1)
    out = process.communicate()[0]
    assert process.returncode == 0, out
    assert "reference" in out
    assert {"0 lanes with 0 workers"} < set(lanes)
