"""What an ordinary machine does to the process: signals, proxies, the working directory, the output's encoding."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from coablate_platform import process
from coablate_platform.process import away_from_working_directory, exempt_from_proxies, safe_imports, working_directory

WAITING = """
import sys, time
from coablate_platform import process
{before}
process.end_on_signals()
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    sys.exit(process.exit_code())
"""


@contextlib.contextmanager
def waiting(before: str) -> Iterator[subprocess.Popen]:
    code = WAITING.format(before=before)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_process_with_the_code_that_a_shell_gives_it(name, code):
    with waiting("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)") as child:
        child.send_signal(getattr(signal, name))
        assert child.wait(10) == code


def test_a_signal_that_is_ignored_stays_ignored():
    """As under ``nohup``."""
    with waiting("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)") as child:
        child.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert child.poll() is None
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 143


@pytest.mark.parametrize("command", ["studies", "--help", "run --help"])
def test_a_reader_that_closes_the_pipe_and_a_missing_home_are_no_errors(command):
    """As in ``coablate studies | head -1``, in a container whose user has no home folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    words = [sys.executable, "-m", "coablate_platform", *command.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, env=environment, text=True, **pipes) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
        child.wait(60)


@pytest.mark.parametrize("kept", [None, "mine"])
def test_nobody_else_reads_the_token(tmp_path, monkeypatch, kept):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".ray" / "auth_token"
    if kept:
        file.parent.mkdir()
        file.write_text(kept)
        file.chmod(0o644)
    process.keep_token()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == kept if kept else len(file.read_text()) == 64


def test_hosts_are_added_to_those_that_the_user_exempts(monkeypatch):
    monkeypatch.setenv("no_proxy", "example.org,127.0.0.1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    exempt_from_proxies(["127.0.0.1", "10.0.0.1"])
    assert process.os.environ["no_proxy"] == "example.org,127.0.0.1,10.0.0.1"
    assert process.os.environ["NO_PROXY"] == process.os.environ["no_grpc_proxy"] == "127.0.0.1,10.0.0.1"


@pytest.mark.parametrize("before", [None, ""])
def test_safe_imports_end_with_the_block(monkeypatch, before):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    with safe_imports():
        assert process.os.environ["PYTHONSAFEPATH"] == "1"
    assert process.os.environ.get("PYTHONSAFEPATH") == before


def test_the_working_directory_is_left_and_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with away_from_working_directory():
        assert working_directory() == "/"
    assert working_directory() == str(tmp_path)


def test_a_working_directory_that_was_removed_is_none(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert working_directory() == ""
    with away_from_working_directory():
        pass


def test_characters_that_the_output_lacks_are_replaced(tmp_path):
    code = "from coablate_platform import process; process.prepare(); print('λ ± 1')"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**process.os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert printed.stdout == b"? ? 1\n"


CONNECTING = """
import os
from coablate_platform.process import start_ray
import ray
from ray._private import worker
connect = worker.connect
before, after = set(), set()
def noted(*arguments, **options):
    before.update(os.environ)
    connect(*arguments, **options)
    after.update(os.environ)
worker.connect = noted
start_ray(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20)
ray.shutdown()
print(sorted(after - before), bool(after))
"""


@pytest.mark.ray
def test_no_variable_is_added_to_the_environment_while_ray_s_threads_run():
    """They read it without a lock, and an addition may move it: rarely, the process ends by a segmentation fault."""
    run = subprocess.run([sys.executable, "-c", CONNECTING], capture_output=True, text=True, timeout=50, check=True)
    assert run.stdout.splitlines()[-1] == "[] True"
