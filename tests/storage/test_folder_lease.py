"""One process at a time works on a results folder in object storage; real processes against a real S3 server."""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from coablate_platform.folder_lease import FOLDER, FolderLease
from coablate_platform.journal.storage import Folder
from coablate_platform.study.errors import InputError, LeaseLostError

LAPSE = 3.0
HOLD = """
import sys, time
from coablate_platform.folder_lease import FolderLease
from coablate_platform.journal.storage import Folder
from coablate_platform.study.errors import InputError, LeaseLostError

uri, lapse, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
lost = lambda reason: None
try:
    with FolderLease(uri, lost, print, lapse) as lease:
        print("held", time.monotonic(), flush=True)
        folder, end = Folder(uri, lease.check), time.monotonic() + seconds
        for number in range(sys.maxsize):
            folder.write(f"written/{number}", b"x")
            time.sleep(0.05)
            if time.monotonic() > end:
                break
        print("ended", time.monotonic(), flush=True)
except (InputError, LeaseLostError) as error:
    print(type(error).__name__, error, flush=True)
"""


def holder(uri: str, seconds: float, lapse: float = LAPSE) -> subprocess.Popen:
    """A process that holds the folder for so many seconds and writes to it all the time."""
    command = [sys.executable, "-c", HOLD, uri, str(lapse), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def held(uri: str) -> Iterator[subprocess.Popen]:
    """A process that holds the folder until the block ends."""
    process = holder(uri, 60)
    try:
        assert process.stdout.readline().startswith("held")
        yield process
    finally:
        process.kill()
        process.communicate()


def lease(uri: str) -> FolderLease:
    return FolderLease(uri, lambda reason: None, lambda line: None, LAPSE)


def test_a_living_holder_is_named_with_its_host_and_since_when(bucket):
    uri = f"{bucket}/results"
    with held(uri) as process:
        with pytest.raises(InputError) as refused, lease(uri):
            pass
        said = str(refused.value)
        assert said.startswith(f"results folder {uri}: process {process.pid} of {getpass.getuser()}")
        assert f"on {socket.gethostname()} has used it since 20" in said
        assert "\n" not in said


def test_a_killed_holder_is_replaced_once_its_lease_has_lapsed(bucket):
    uri = f"{bucket}/results"
    with held(uri) as process:
        process.kill()
        process.wait()
        began = time.monotonic()
        with lease(uri) as mine:
            assert LAPSE / 2 < time.monotonic() - began < 5 * LAPSE
            mine.check()
            assert len(Folder(uri).stamps(FOLDER)) == 1


def test_of_several_processes_at_once_one_works_at_a_time(bucket):
    uri = f"{bucket}/results"
    processes = [holder(uri, 1.5) for _ in range(4)]
    spans, refused = [], 0
    for process in processes:
        lines = [line.split() for line in process.communicate(timeout=50)[0].splitlines()]
        times = {words[0]: float(words[1]) for words in lines if words[0] in ("held", "ended")}
        refused += any(words[0] == "InputError" for words in lines)
        if times:
            spans.append((times["held"], times["ended"]))
    assert len(spans) + refused == len(processes)
    assert spans
    assert all(before[1] <= after[0] for before, after in zip(sorted(spans), sorted(spans)[1:], strict=False))


def test_a_holder_that_was_suspended_finds_its_lease_lost_and_writes_no_more(bucket):
    uri = f"{bucket}/results"
    with held(uri) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with lease(uri):
            before = len(Folder(uri).stamps("written"))
            os.kill(process.pid, signal.SIGCONT)
            said = process.stdout.read()
            assert said.startswith(f"LeaseLostError results folder {uri}: its lease is lost")
            assert len(Folder(uri).stamps("written")) <= before + 1  # one may have been under way


def test_storage_that_does_not_answer_loses_the_lease_in_time(bucket, s3_server):
    reasons: list[str] = []
    told = threading.Event()
    mine = FolderLease(f"{bucket}/results", lambda reason: (reasons.append(reason), told.set()), print, 2.0)
    with contextlib.suppress(OSError), mine:
        os.kill(s3_server.process.pid, signal.SIGSTOP)
        try:
            assert told.wait(10)
            assert "could not be renewed" in reasons[0]
            with pytest.raises(LeaseLostError):
                mine.check()
        finally:
            os.kill(s3_server.process.pid, signal.SIGCONT)


def test_a_lease_that_has_ended_leaves_no_claim(bucket):
    uri = f"{bucket}/results"
    for _ in range(2):  # at once, both times
        began = time.monotonic()
        with lease(uri):
            assert len(Folder(uri).stamps(FOLDER)) == 1
        assert time.monotonic() - began < LAPSE
    assert Folder(uri).stamps(FOLDER) == {}


def test_a_file_that_is_no_claim_is_named(bucket):
    Folder(bucket).write(f"results/{FOLDER}/x.json", b"{}")
    with pytest.raises(InputError, match=r"x\.json is no claim of this version; delete it"), lease(f"{bucket}/results"):
        pass
