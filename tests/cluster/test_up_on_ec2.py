"""``coablate cluster up cluster.yaml`` against an EC2 that moto plays: what is there then is what the file promises."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from ec2 import ACCOUNT, cloud, home_environment

PROMISED = {"project": "coablate", "ray-cluster-name": "coablate"}


@pytest.fixture(scope="module")
def there():
    with cloud() as found:
        yield found


def tags_of(instance):
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


def instances(there):
    found = there.client("ec2").describe_instances()["Reservations"]
    return [one for reservation in found for one in reservation["Instances"] if one["State"]["Name"] == "running"]


@pytest.fixture(scope="module")
def head(there, tmp_path_factory):
    """Type the command, and end it when the head is there: it would wait for its SSH for ever."""
    home = tmp_path_factory.mktemp("home")
    file = home / "cluster.yaml"
    file.write_text(there.filled_in())
    command = [sys.executable, "-P", "-m", "coablate_platform", "cluster", "up", str(file)]
    with (home / "out").open("w") as out:
        process = subprocess.Popen(
            command, env=home_environment(there, home), stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and process.poll() is None and not instances(there):
            time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert instances(there), (home / "out").read_text()
    return instances(there)[0], (home / "out").read_text(), home


def test_the_checks_pass_first(head):
    lines = head[1].splitlines()
    checks = [line for line in lines if line.startswith(("ok ", "FAILS"))]
    assert len(checks) == 8
    assert [line for line in checks if line.startswith("FAILS")] == []


def test_the_head_is_what_the_file_promises(there, head):
    instance = head[0]
    assert instance["ImageId"] == there.image
    assert instance["InstanceType"] == "m6i.xlarge"
    assert "InstanceLifecycle" not in instance  # on demand
    assert instance["IamInstanceProfile"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:instance-profile/coablate-head"
    assert tags_of(instance).items() >= {**PROMISED, "ray-node-type": "head", "ray-user-node-type": "head"}.items()


def test_hosts_take_ssh_and_each_other_only(there, head):
    [group] = head[0]["SecurityGroups"]
    [group] = there.client("ec2").describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"]
    rules = {
        (rule["IpProtocol"], rule.get("FromPort")): (
            [found["CidrIp"] for found in rule["IpRanges"]],
            [found["GroupId"] for found in rule["UserIdGroupPairs"]],
        )
        for rule in group["IpPermissions"]
    }
    assert rules == {("tcp", 22): (["0.0.0.0/0"], []), ("-1", None): ([], [group["GroupId"]])}


def test_ray_makes_no_role_of_its_own(there, head):
    assert there.client("iam").list_roles()["Roles"] == []


def test_the_token_and_the_wheel_were_made(head):
    home = head[2]
    token = home / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    shipped = {path.name for path in (home / ".coablate" / "cluster").iterdir()}
    assert "constraints.txt" in shipped
    assert [name for name in shipped if name.startswith("coablate-") and name.endswith(".whl")]


START_WORKER = """
import sys, yaml
from ray.autoscaler import sdk
from ray.autoscaler._private.providers import _get_node_provider
config = sdk.bootstrap_config(yaml.safe_load(open(sys.argv[1])))
worker = config["available_node_types"]["worker"]
provider = _get_node_provider(config["provider"], config["cluster_name"])
provider.create_node(worker["node_config"], {"ray-node-type": "worker", "ray-user-node-type": "worker"}, 1)
print(worker["resources"])
"""


def test_a_worker_as_ray_starts_one_is_a_spot_host_with_a_gpu(there, head):
    """Ray's autoscaler runs on the head. What it would ask of EC2 is asked here, by Ray's own provider."""
    _, _, home = head
    done = subprocess.run(
        [sys.executable, "-P", "-c", START_WORKER, str(home / "cluster.yaml")],
        env=home_environment(there, home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout.splitlines()[-1])["GPU"] == 1
    [worker] = [one for one in instances(there) if tags_of(one)["ray-node-type"] == "worker"]
    assert worker["InstanceLifecycle"] == "spot"
    assert worker["InstanceType"] == "g5.2xlarge"
    assert worker["ImageId"] == there.image
    assert worker["IamInstanceProfile"]["Arn"].endswith("/coablate-worker")
    assert tags_of(worker).items() >= PROMISED.items()
    assert worker["KeyName"] == head[0]["KeyName"]


def type_command(there, home, *words):
    command = [sys.executable, "-P", "-m", "coablate_platform", *words]
    return subprocess.run(command, env=home_environment(there, home), capture_output=True, text=True, check=False)


def test_down_leaves_nothing_that_costs_and_then_it_is_said_not_to_be_up(there, head):
    """The last test: it ends the hosts of the others."""
    _, _, home = head
    done = type_command(there, home, "cluster", "down", str(home / "cluster.yaml"))
    assert done.returncode == 0, done.stderr
    assert instances(there) == []
    asked = type_command(there, home, "cluster", "status", str(home / "cluster.yaml"))
    assert asked.returncode == 2, asked.stderr
    assert asked.stderr.splitlines() == [
        f"coablate: cluster coablate is not up; start it: coablate cluster up {home / 'cluster.yaml'}"
    ]
