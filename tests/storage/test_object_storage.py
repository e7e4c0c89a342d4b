"""Journal, checkpoints and state of a results folder in object storage, against a real S3 server."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from coablate_platform.files import filesystem_of, local_copy, state_folder, write_atomically
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.storage import Folder
from coablate_platform.study.errors import InputError
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import EpochReport

RUN = "a" * 64
MOST_REQUESTS = 5
"""Of an epoch: two to read the run's epochs, one to write them, one to keep the last checkpoint, one to write it."""
WRITER = """
import sys
from coablate_platform.journal.journal import Journal
from coablate_platform.train.events import EpochReport
journal = Journal(sys.argv[1])
for epoch in range(1, 61):
    metrics = {f"train/{number}": 1.0 for number in range(epoch)}
    journal.epoch("a" * 64, 0, EpochReport(epoch=epoch, metrics=metrics, seconds=1.0))
"""


def report(epoch: int) -> EpochReport:
    return EpochReport(epoch=epoch, metrics={"train/loss": 1.0}, seconds=1.0)


def test_an_epoch_costs_few_requests(bucket, s3_server):
    journal, checkpoints = Journal(bucket), Checkpoints(f"{bucket}/checkpoints/{RUN}")
    for epoch in (1, 2, 3):
        before = len(s3_server.requests())
        journal.epoch(RUN, 0, report(epoch))
        checkpoints.save({"epoch": epoch, "weights": torch.zeros(1000)})
    asked = s3_server.requests()[before:]
    assert len(asked) <= MOST_REQUESTS, asked
    assert [request.rpartition("/")[2] for request in asked if request.startswith("PUT")] == [
        "epochs.arrow",
        "previous.pt",
        "last.pt",
    ]


def test_a_reader_meets_whole_files_while_they_are_written(bucket):
    journal = Journal(f"{bucket}/results")
    with subprocess.Popen([sys.executable, "-c", WRITER, journal.folder.uri]) as writer:
        seen = [0]
        while writer.poll() is None:
            seen.append(len(journal.record(RUN).epochs))
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert len(journal.record(RUN).epochs) == 60


def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(bucket):
    uri = f"{bucket}/checkpoints/run"
    checkpoints = Checkpoints(uri)
    assert checkpoints.load() is None
    for epoch in (1, 2, 3):
        checkpoints.save({"epoch": epoch})
    assert checkpoints.epoch == 3
    filesystem, root = filesystem_of(uri)
    write_atomically(filesystem, f"{root}/last.pt", b"damaged")
    assert checkpoints.epoch == 2
    checkpoints.clear()
    assert checkpoints.load() is None


@pytest.mark.parametrize("size", [0, 1, 11 << 20])  # in one request, and in parts
def test_a_file_of_any_size_comes_back(bucket, size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    Folder(bucket).write("file", content)
    assert Folder(bucket).read("file") == content


def test_state_stays_on_this_machine_a_folder_for_each_results_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COABLATE_STATE", str(tmp_path / "mine"))
    folder = state_folder("s3://bucket/some/results")
    assert folder == state_folder("s3://bucket/some/results/")
    assert folder.parent == tmp_path / "mine"
    assert folder.name.startswith("bucket-some-results-")
    assert folder.is_dir()
    assert state_folder("s3://bucket/some-results") != folder
    monkeypatch.delenv("COABLATE_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_folder("s3://bucket/some/results").parent == tmp_path / "xdg" / "coablate"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COABLATE_STATE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be made .*; set COABLATE_STATE to a folder"):
        state_folder("s3://bucket/some/results")


def test_a_local_folder_is_its_own_state(tmp_path):
    assert Folder(str(tmp_path)).state == tmp_path
    assert local_copy(str(tmp_path)) == tmp_path


def test_files_that_workers_import_are_copied_once(bucket, s3_server):
    Folder(bucket).write("source/own.py", b"WIDTH = 1\n")
    Folder(bucket).write("source/package/part.py", b"DEPTH = 2\n")
    copy = local_copy(f"{bucket}/source")
    assert (copy / "own.py").read_text() == "WIDTH = 1\n"
    assert (copy / "package" / "part.py").read_text() == "DEPTH = 2\n"
    before = len(s3_server.requests())
    assert local_copy(f"{bucket}/source") == copy
    assert len(s3_server.requests()) == before + 1


def test_commands_say_in_one_line_what_is_wrong_with_the_storage(bucket, refused, coablate, monkeypatch):
    refused("table", f"{bucket}/nothing", says=(f"results folder {bucket}/nothing holds no study",))
    refused("table", "s3://KEY:SECRET@bucket/results", says=("results folder s3://KEY:***@bucket/results",))
    refused("table", "nowhere://x", says=("nowhere://x: this storage cannot be opened",))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    answer = coablate("table", "s3://unreachable/results")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "cannot be written or read" in answer.err


def test_a_store_is_read_from_object_storage(bucket, store):
    from coablate_platform.data.store import Store

    for file in sorted(Path(store.uri).rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(store.uri).parts):
            Folder(bucket).write(f"store/{file.relative_to(store.uri)}", file.read_bytes())
    there = Store.open(f"{bucket}/store")
    assert there.fingerprint == store.fingerprint
    assert there.clip(3).xyz.tolist() == store.clip(3).xyz.tolist()
