"""`prepare` makes a store from published files, resumes it, and lists every bad clip."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from coablate_platform.data import prepare as prepare_module
from coablate_platform.data.prepare import REPORT, prepare
from coablate_platform.data.schema import METADATA, SHARDS
from coablate_platform.data.shard import PrepareOptions
from coablate_platform.data.store import Store
from coablate_platform.study.errors import InputError

# Ray 2.60 warns of its own defaults when its data context is made.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

OPTIONS = PrepareOptions(short_side=48, shard_clips=2)


def _state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def _shards(store: Path) -> set[str]:
    return {path.name for path in (store / SHARDS).iterdir()}


@pytest.mark.ray
def test_a_store_is_made_and_a_second_run_does_nothing(tmp_path, genuine, cluster, monkeypatch):
    seen = []
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS, progress=lambda *counts: seen.append(counts))
    assert (report.done, report.skipped, report.bad, report.missing) == (6, 0, [], {})
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    assert len(_shards(tmp_path / "s")) == 3
    store = Store.open(str(tmp_path / "s"))
    assert len(store) == 6
    assert store.clip(0).video.size == (48, 48)
    before = _state(tmp_path / "s")
    monkeypatch.setitem(sys.modules, "ray.data", None)  # importing it would fail; with nothing to do, Ray is not needed
    again = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (again.done, again.skipped) == (0, 6)
    assert _state(tmp_path / "s") == before


@pytest.mark.ray
def test_a_partial_store_is_completed(tmp_path, genuine, cluster):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    prepare("utd_mhad", genuine, whole, OPTIONS)
    prepare("utd_mhad", genuine, resumed, OPTIONS)
    lost = sorted((resumed / SHARDS).iterdir())[1]
    kept = {path: path.stat().st_mtime_ns for path in (resumed / SHARDS).iterdir() if path != lost}
    lost.unlink()
    content = json.loads((resumed / METADATA).read_text())
    (resumed / METADATA).write_text(json.dumps(content | {"fingerprint": None}))  # as while it is under way
    (resumed / SHARDS / "0123456789abcdef.77.tmp").write_bytes(b"half a shard")
    with pytest.raises(InputError, match="did not finish"):
        Store.open(str(resumed))
    report = prepare("utd_mhad", genuine, resumed, OPTIONS)
    assert (report.done, report.skipped) == (2, 4)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert Store.open(str(resumed)).fingerprint == Store.open(str(whole)).fingerprint
    assert not list((resumed / SHARDS).glob("*.tmp"))


@pytest.mark.ray
def test_new_clips_are_added(tmp_path, genuine, write_clip, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    before, first = Store.open(str(tmp_path / "s")).fingerprint, _shards(tmp_path / "s")
    write_clip(genuine, 3, 1)
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (report.done, report.skipped) == (1, 6)
    assert first < _shards(tmp_path / "s")
    store = Store.open(str(tmp_path / "s"))
    assert len(store) == 7
    assert store.fingerprint != before
    assert {path.name for path in (tmp_path / "s" / ".mapped").iterdir()} == {store.fingerprint}


@pytest.mark.ray
def test_bad_clips_are_listed_and_tried_again_when_they_change(tmp_path, genuine, cluster):
    damaged = genuine / "Skeleton" / "a2_s2_t1_skeleton.mat"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:200])
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert report.done == 5
    (bad,) = report.bad
    assert bad.name == "a2_s2_t1"
    assert bad.file == str(damaged)
    assert bad.reason
    written = json.loads((tmp_path / "s" / REPORT).read_text())
    assert written["clips"] == 5
    assert written["bad"] == [bad._asdict()]
    before = _state(tmp_path / "s")
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).bad == report.bad
    assert _state(tmp_path / "s") == before
    damaged.write_bytes(content)
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (report.done, report.bad) == (1, [])
    assert len(Store.open(str(tmp_path / "s"))) == 6


@pytest.mark.ray
def test_other_settings_are_refused(tmp_path, genuine, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    before = _state(tmp_path / "s")
    with pytest.raises(InputError, match=r"short_side 48 in the store, 64 requested"):
        prepare("utd_mhad", genuine, tmp_path / "s", PrepareOptions(short_side=64, shard_clips=2))
    assert _state(tmp_path / "s") == before
    assert prepare("utd_mhad", genuine, tmp_path / "s", PrepareOptions(short_side=48, shard_clips=50)).done == 0


@pytest.mark.ray
def test_only_bad_clips_is_an_error_and_all_are_listed(tmp_path, write_clip, cluster):
    write_clip(tmp_path / "utd", 1, 1).write_bytes(b"nonsense")
    write_clip(tmp_path / "utd", 2, 1).write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"none of the clips could be prepared .*a1_s1_t1_skeleton.mat"):
        prepare("utd_mhad", tmp_path / "utd", tmp_path / "s", OPTIONS)
    written = json.loads((tmp_path / "s" / REPORT).read_text())
    assert (written["clips"], [bad["name"] for bad in written["bad"]]) == (0, ["a1_s1_t1", "a2_s1_t1"])


OWN_READER = """
from own_words import NAME
from coablate_platform.data.formats.utd_mhad import UtdMhad

class Own(UtdMhad):
    def read(self, ref):
        assert NAME
        return super().read(ref)

READER = Own(name=NAME, default_protocol="utd/cs")
"""


@pytest.mark.ray
def test_a_reader_of_one_s_own_reads_on_workers(tmp_path, genuine, cluster):
    """Two of one name, one after the other in the same workers, each with the module beside it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own_words.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "own_reader.py").write_text(OWN_READER)
        report = prepare(f"{tmp_path / name / 'own_reader.py'}:READER", genuine, tmp_path / f"{name}-store", OPTIONS)
        assert (report.done, report.bad) == (6, [])
        assert Store.open(str(tmp_path / f"{name}-store")).source == name
        [kept] = (tmp_path / f"{name}-store" / "source").iterdir()
        assert sorted(file.name for file in kept.glob("*.py")) == ["own_reader.py", "own_words.py"]
        assert (kept / "own_words.py").read_text() == f"NAME = {name!r}\n"
    prepare("utd_mhad", genuine, tmp_path / "ours", OPTIONS)
    assert not (tmp_path / "ours" / "source").exists()


_SCRIPT = """
import sys, ray
from pathlib import Path
from coablate_platform.data.prepare import prepare
from coablate_platform.data.shard import PrepareOptions
options = PrepareOptions(short_side=48, shard_clips=1)
show = lambda done, total: print(done, total, flush=True)
prepare("utd_mhad", Path(sys.argv[1]), Path(sys.argv[2]), options, progress=show, cpus=1)
print("ray stopped:", not ray.is_initialized())
"""


@pytest.mark.ray
@pytest.mark.timeout(120)  # starts Ray twice
def test_a_killed_preparation_is_resumed(tmp_path, genuine):
    command = [sys.executable, "-c", _SCRIPT, str(genuine), str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            if line.startswith("2 "):
                break
        process.kill()
    present = _state(tmp_path / "s" / SHARDS)
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    first, *_, last, end = run.stdout.splitlines()
    assert int(first.split()[1]) <= 4
    assert len(set(last.split())) == 1
    assert end == "ray stopped: True"
    assert run.stderr == ""
    whole = {path: time for path, time in present.items() if path.endswith(".parquet")}
    assert whole.items() <= _state(tmp_path / "s" / SHARDS).items()
    assert len(Store.open(str(tmp_path / "s"))) == 6


def test_mistakes_are_refused_before_ray_starts(tmp_path, genuine):
    with pytest.raises(InputError, match="did you mean 'utd_mhad'"):
        prepare("utdmhad", genuine, tmp_path / "s", OPTIONS)
    with pytest.raises(InputError, match="no such folder"):
        prepare("utd_mhad", tmp_path / "none", tmp_path / "s", OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no clip found; expected UTD-MHAD files"):
        prepare("utd_mhad", tmp_path / "empty", tmp_path / "s", OPTIONS)
    assert not (tmp_path / "s").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        prepare("utd_mhad", genuine, tmp_path / "file" / "s", OPTIONS)


@pytest.mark.parametrize("written", [REPORT, METADATA])
def test_a_disk_that_is_full_is_said_in_one_line(tmp_path, genuine, monkeypatch, written):
    """Where the store's small files are written; workers say it of shards."""
    real = prepare_module.write_atomically

    def write(filesystem, path, content):
        if Path(path).name == written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        real(filesystem, path, content)

    monkeypatch.setattr(prepare_module, "write_atomically", write)
    monkeypatch.setattr(prepare_module, "write_shards", lambda *_: None)
    with pytest.raises(InputError, match=rf"{written}: the store cannot be written \(No space left on device\)"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"{"])
def test_a_report_of_another_program_is_replaced(tmp_path, make_store, make_reader, content):
    make_store(tmp_path / "s", make_reader(clips=3))
    (tmp_path / "s" / REPORT).write_bytes(content)
    metadata = prepare_module.read_metadata(fs.LocalFileSystem(), str(tmp_path / "s"), "s")
    prepare_module.finish(tmp_path / "s", metadata, prepare_module.read_shards(tmp_path / "s"), {})
    assert json.loads((tmp_path / "s" / REPORT).read_text())["clips"] == 3


def test_unpacked_folders_that_are_not_ours_are_kept(tmp_path, make_store, make_reader):
    """``.mapped`` may be a link to a folder that holds other things."""
    (tmp_path / "cache" / "photos").mkdir(parents=True)
    (tmp_path / "cache" / ("0" * 64)).mkdir()
    store = make_store(tmp_path / "s", make_reader(clips=3))
    (tmp_path / "s" / ".mapped" / store.fingerprint).rename(tmp_path / "cache" / store.fingerprint)
    (tmp_path / "s" / ".mapped").rmdir()
    (tmp_path / "s" / ".mapped").symlink_to(tmp_path / "cache")
    prepare_module.finish(tmp_path / "s", store.metadata, prepare_module.read_shards(tmp_path / "s"), {})
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"photos", store.fingerprint}


def test_a_second_preparation_of_the_same_store_is_refused(tmp_path, genuine):
    import fcntl

    (tmp_path / "s").mkdir()
    with (tmp_path / "s" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another"):
            prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)


def test_a_file_system_without_locks_is_not_taken_for_another_preparation(tmp_path, genuine, monkeypatch):
    def refuse(lock, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match=r"this file system has no locks \(No locks available\)"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused(tmp_path, genuine):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written"):
        prepare("utd_mhad", genuine, tmp_path / "closed" / "s", OPTIONS)
