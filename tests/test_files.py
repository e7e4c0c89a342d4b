"""Files and locks: atomic writes, storage by URI, lock files."""

import multiprocessing
import os
import resource
import signal

import pytest
from pyarrow import fs

from coablate_platform.files import exists, filesystem_of, locked, replacing, write_atomically
from coablate_platform.study.errors import InputError


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "file"
    target.write_text("former")
    with replacing(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "former"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_former_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    target.write_text("former")

    def torn() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torn()
    assert target.read_text() == "former"
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_that_is_full_leaves_the_former_file(tmp_path):
    local, path = fs.LocalFileSystem(), f"{tmp_path}/deep/file"
    write_atomically(local, path, b"former")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(local, path, b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "deep").iterdir()] == [("file", b"former")]


def test_storage_that_is_not_local_is_written_whole_too(tmp_path):
    other = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    write_atomically(other, "deep/file", b"content")
    assert (tmp_path / "deep" / "file").read_bytes() == b"content"
    assert exists(other, "deep/file")
    assert not exists(other, "deep/gone")
    assert len(list((tmp_path / "deep").iterdir())) == 1


@pytest.mark.parametrize(("uri", "path"), [("/a/b/", "/a/b"), ("/", "/"), ("file:///a/b/", "/a/b")])
def test_storage_is_a_path_or_a_uri(uri, path):
    filesystem, found = filesystem_of(uri)
    assert isinstance(filesystem, fs.LocalFileSystem)
    assert found == path


def test_an_unknown_scheme_is_refused():
    with pytest.raises(InputError, match="nowhere://x: this storage cannot be opened"):
        filesystem_of("nowhere://x")


def _hold(path, held) -> None:
    with locked(path, wait=True):
        held.set()
        signal.pause()


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path):
    path, context = tmp_path / "lock", multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(path, held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(InputError, match="someone works here"), locked(path, wait=False, taken="someone works here"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    with locked(path, wait=True):
        holder.join()
