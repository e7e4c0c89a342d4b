"""What the doctor finds on this machine before a host is paid for, and the cure that it names."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from ec2 import REGION, cloud, register

from coablate_platform.cluster import local_checks as checks
from coablate_platform.cluster.file import ClusterFile

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def there():
    with cloud() as found:
        yield found


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a token, and programs in place of those that this machine may lack."""
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(0o600)
    for program in ("ssh", "rsync"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def doctor(home, monkeypatch, there):
    """Change the filled-in cluster.yaml, and return the findings of all checks, by check."""
    for name, value in there.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(checks, "build_wheel", lambda target: target.mkdir(parents=True))  # tested by itself

    def call(*changes: tuple[str, str], name: str = "cluster.yaml"):
        text = there.filled_in() if name == "cluster.yaml" else (ROOT / name).read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (home / "c.yaml").write_text(text)
        shutil.rmtree(home / ".coablate", ignore_errors=True)
        found = checks.local_checks(ClusterFile.read(home / "c.yaml"))
        return {check: lines for check, findings in found if (lines := [str(finding) for finding in findings])}

    return call


def test_a_filled_in_file_on_a_ready_machine_has_no_finding(doctor):
    assert doctor() == {}


def test_a_field_that_ray_does_not_know(doctor):
    [[line]] = doctor(("max_workers: 4 # EDIT: the most", "max_worker: 4 #")).values()
    assert "'max_worker' was unexpected" in line
    assert "docs.ray.io has the fields" in line


def test_a_value_of_the_wrong_type(doctor):
    [[line]] = doctor(("idle_timeout_minutes: 15", "idle_timeout_minutes: soon")).values()
    assert line.startswith("idle_timeout_minutes: 'soon' is not of type 'number';")


def test_values_that_are_not_filled_in(doctor, there):
    found = doctor((there.image, "ami-FILL-IN"), ("s3://bucket", "s3://FILL-IN"))
    lines = found["every value is filled in"]
    assert len(lines) == 3
    assert all(line.startswith("/") and "c.yaml, line " in line for line in lines)
    assert "base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id" in lines[0]
    assert lines[2].endswith("FILL-IN; put in s3://your bucket")


@pytest.mark.parametrize(("program", "package"), [("ssh", "openssh-client"), ("rsync", "rsync")])
def test_a_program_that_is_missing(doctor, home, program, package):
    (home / program).unlink()
    [[line]] = doctor().values()
    assert line == f"{program} is not on the PATH; install it: sudo apt install {package}"


def test_a_token_that_others_may_read(doctor, home):
    (home / ".ray" / "auth_token").chmod(0o644)
    [[line]] = doctor().values()
    assert line == f"{home}/.ray/auth_token: its mode is 644, others may read it; chmod 600 {home}/.ray/auth_token"


def test_no_token(doctor, home):
    (home / ".ray" / "auth_token").unlink()
    found = doctor()
    [line] = found["Ray's token is there, for this user alone"]
    assert "no such file; coablate cluster up makes it" in line
    [line] = found["what is shipped is there"]
    assert line.startswith("file_mounts: ~/.ray/auth_token: no such file")


def test_a_wheel_that_is_not_shipped(doctor):
    [[line]] = doctor(("  ~/coablate: ~/.coablate/cluster", "  ~/coablate: /")).values()
    assert "the wheel is not among them; ship its folder" in line


def test_boto3_is_missing(doctor, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "boto3" else there(name))
    [[line]] = doctor().values()
    assert line == "Ray needs it for AWS; pip install --constraint constraints.txt --editable '.[aws]'"


def test_nobody_is_logged_in(doctor, monkeypatch, home):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    [[line]] = doctor().values()
    assert line.startswith("NoCredentialsError: Unable to locate credentials; log in: aws configure")


def test_an_image_that_is_not_in_the_region(doctor, there):
    [lines] = doctor((there.image, "ami-0123456789abcdef0")).values()
    assert len(lines) == 2
    assert lines[0].startswith(
        f"available_node_types.head.node_config.ImageId: ami-0123456789abcdef0 is not in {REGION}; look one up: aws ssm"
    )


def test_an_image_whose_python_is_too_old(doctor, there):
    old = register(there, "Deep Learning AMI (Ubuntu 18.04) Version 71.0")
    [lines] = doctor((there.image, old)).values()
    assert f"{old} has Ubuntu 18.04, whose Python is older than 3.11; look one up" in lines[0]


def test_a_head_without_an_image(doctor, there):
    [[line]] = doctor((f"ImageId: {there.image} # EDIT: the head's image", "")).values()
    assert "worker.node_config.ImageId: missing, Ray would take Ubuntu 18.04" in line


def test_profiles_that_are_missing_or_unknown(doctor):
    [[line]] = doctor(("coablate-worker", "nobody")).values()
    assert line == (
        "available_node_types.worker.node_config.IamInstanceProfile: there is no profile nobody; "
        "make it as docs/cluster.md says"
    )


def test_own_hosts_without_a_dummy(doctor):
    filled = (("head_ip: FILL-IN", "head_ip: 10.0.0.1"), ("ssh_user: FILL-IN", "ssh_user: me"))
    found = doctor(*filled, ("[FILL-IN, 192.0.2.1]", "[10.0.0.2, 192.0.2.1]"), name="cluster.local.yaml")
    assert found == {}
    [[line]] = doctor(*filled, ("[FILL-IN, 192.0.2.1]", "[10.0.0.2]"), name="cluster.local.yaml").values()
    assert line.endswith("add a dummy at the end: 192.0.2.1")


def test_the_wheel_of_this_version_is_built_with_its_constraints(tmp_path):
    (tmp_path / "coablate-0.0.0-py3-none-any.whl").touch()  # of an earlier version
    built = checks.build_wheel(tmp_path)
    assert sorted(tmp_path.iterdir()) == [built, tmp_path / "constraints.txt"]
    assert (tmp_path / "constraints.txt").read_bytes() == (ROOT / "constraints.txt").read_bytes()


def test_a_wheel_can_only_be_built_from_a_checkout(doctor, monkeypatch, tmp_path):
    from coablate_platform.cluster import wheel

    monkeypatch.undo()
    monkeypatch.setattr(wheel, "__file__", str(tmp_path / "lib" / "a" / "b" / "wheel.py"))
    [finding] = checks._wheel(tmp_path)
    assert "which is no checkout" in finding.problem
    assert finding.cure.startswith("install it there: pip install")


def test_up_starts_nothing_where_a_check_fails(coablate, home, there):
    (home / "c.yaml").write_text((ROOT / "cluster.local.yaml").read_text())
    answer = coablate("cluster", "up", home / "c.yaml")
    assert answer.code == 2
    assert answer.err == (
        "coablate: cluster coablate-local: not started, since checks failed; every line has its cure\n"
    )
    assert [line[:6] for line in answer.out.splitlines()].count("FAILS ") == 3
