"""The cluster files that ship: Ray's schema, what they promise, and what a user must fill in."""

from pathlib import Path

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from coablate_platform.cluster.file import EDIT, PLACEHOLDER, ClusterFile

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "cluster.yaml", ROOT / "cluster.local.yaml"]


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def shipped(request):
    return ClusterFile.read(request.param)


@pytest.fixture
def aws():
    return ClusterFile.read(ROOT / "cluster.yaml")


def test_a_shipped_file_fits_ray_s_schema(shipped):
    validate_config(prepare_config(shipped.values))


def test_every_missing_value_is_marked_and_explained(shipped):
    lines = [line for line in shipped.text.splitlines() if PLACEHOLDER in line]
    assert len(lines) == len(shipped.placeholders()) >= 3
    assert [line for line in lines if EDIT not in line] == []
    assert [number for number, comment in shipped.placeholders() if not comment] == []


def test_hosts_get_the_token_and_the_wheel_and_use_them(shipped):
    assert shipped.values["file_mounts"] == {
        "~/.ray/auth_token": "~/.ray/auth_token",
        "~/coablate": "~/.coablate/cluster",
    }
    setup = "\n".join(shipped.values["setup_commands"])
    assert "export RAY_AUTH_MODE=token" in setup
    assert "--constraint ~/coablate/constraints.txt" in setup
    assert "sys.version_info < (3, 11)" in setup


def test_servers_listen_on_loopback(shipped):
    start = "\n".join(shipped.values["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "mlflow server --workers 1 --host 127.0.0.1" in start
    assert "sqlite:///$HOME/mlflow.db" in start


def test_workers_come_and_go_and_the_head_has_no_gpu(aws):
    worker, head = aws.values["available_node_types"]["worker"], aws.node_configs["head"]
    assert worker["min_workers"] == 0
    assert worker["max_workers"] == aws.values["max_workers"]
    assert aws.values["idle_timeout_minutes"] > 0
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in head
    assert head["InstanceType"] == "m6i.xlarge"
    assert aws.values["provider"]["cache_stopped_nodes"] is False


def test_every_host_has_a_price(aws):
    assert aws.hourly_prices == {"head": 0.192, "worker": 1.212}


def test_a_type_without_a_price_is_left_out(aws):
    aws.node_configs["worker"]["InstanceType"] = "p5.48xlarge"
    assert aws.hourly_prices == {"head": 0.192}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, ("cannot be read (No such file or directory)",)),
        ("a: [", ("no valid YAML", "line 1")),
        ("- a", ("expected cluster_name and provider.type",)),
        ("cluster_name: a", ("expected cluster_name and provider.type",)),
        ("cluster_name: a\nprovider: {type: awss}", ("Ray has no provider 'awss' (did you mean 'aws'?)",)),
    ],
)
@pytest.mark.parametrize("command", ["up", "down", "status", "doctor"])
def test_a_wrong_file_is_one_line(refused, tmp_path, command, text, says):
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    refused("cluster", command, tmp_path / "c.yaml", says=(str(tmp_path / "c.yaml"), *says))
