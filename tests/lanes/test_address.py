"""Which cluster a command uses, and who is not let in, without Ray."""

import os
import socket
import subprocess
import sys

import psutil
import pytest

from coablate_platform.lanes import address
from coablate_platform.study.errors import InputError


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("given", "variable"), [(None, None), ("local", "127.0.0.1:1"), (None, ""), (None, "local")])
def test_a_local_ray_is_started_where_nothing_else_is_said(monkeypatch, given, variable):
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert address.address_of(given) is None


def test_the_option_goes_before_the_variable_that_ray_sets_for_its_jobs(monkeypatch, listening):
    monkeypatch.setenv("RAY_ADDRESS", listening)
    assert address.address_of(None) == listening
    with pytest.raises(InputError, match=r"--address 127.0.0.1:1: no Ray cluster answers"):
        address.address_of("127.0.0.1:1")


def test_auto_is_the_cluster_of_this_host(monkeypatch, listening):
    monkeypatch.setattr(address, "canonicalize_bootstrap_address_or_die", lambda text: listening)
    assert address.address_of("auto") == listening

    def none(text: str) -> str:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(address, "canonicalize_bootstrap_address_or_die", none)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(InputError, match=r"RAY_ADDRESS=auto: no Ray cluster runs on this host"):
        address.address_of(None)


def test_a_host_outside_the_cluster_is_told_to_submit(monkeypatch, listening):
    monkeypatch.setattr(psutil, "process_iter", lambda fields: iter(()))
    with pytest.raises(InputError, match=r"this host is no node of it, .*coablate run STUDY --cluster FILE"):
        address.check_membership(listening)


def test_a_user_without_a_token_is_told_where_it_belongs(listening, tmp_path):
    """In a process of its own, since Ray looks for the token once a process."""
    program = f"""
from types import SimpleNamespace
import psutil
from coablate_platform.lanes.address import check_membership
from coablate_platform.study.errors import InputError
psutil.process_iter = lambda fields: [SimpleNamespace(info={{"name": "raylet"}})]
try:
    check_membership({listening!r})
except InputError as error:
    print(error)
"""
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    said = subprocess.run(
        [sys.executable, "-c", program], env=without | {"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert said.stdout == (
        f"Ray at {listening}: there is no token; expected that of the cluster, in ~/.ray/auth_token or RAY_AUTH_TOKEN\n"
    ), said.stderr
