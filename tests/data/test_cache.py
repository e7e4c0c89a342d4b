"""The unpacked files of a store: unpacked once, healed when damaged, and taken only from the user's own folder."""

import json
import multiprocessing
import os
import resource
import shutil
import stat
from pathlib import Path

import pytest

from coablate_platform.data import cache
from coablate_platform.data.store import Store
from coablate_platform.study.errors import InputError


@pytest.fixture
def folder(tmp_path, make_store, make_reader) -> Path:
    """A store of six clips in two shards, which is unpacked."""
    return Path(make_store(tmp_path / "s", make_reader(clips=6)).uri)


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """A folder for temporary files that everybody may write, where stores are unpacked."""
    place = tmp_path / "temporary"
    place.mkdir()
    place.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    return place


def _unpacked(folder: Path) -> list[Path]:
    return sorted((folder / ".mapped").glob("*/*.arrow"))


def _checked(monkeypatch) -> list[str]:
    """Return a list that gets the name of every file whose checksum is taken."""
    names: list[str] = []
    state_of = cache._state_of
    monkeypatch.setattr(cache, "_state_of", lambda file: names.append(file.name) or state_of(file))
    return names


def _flip(file: Path) -> None:
    """Change one byte in the middle, and neither the size nor the modification time."""
    before = file.stat()
    with file.open("r+b") as content:
        content.seek(before.st_size // 2)
        byte = content.read(1)
        content.seek(before.st_size // 2)
        content.write(bytes([byte[0] ^ 0xFF]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGE = {
    "one byte": _flip,
    "cut off": lambda file: os.truncate(file, file.stat().st_size - 64),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"more"),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "link": lambda file: (file.rename(file.with_suffix(".old")), file.symlink_to(file.with_suffix(".old"))),
    "another store's": lambda file: shutil.copy(_unpacked(file.parents[2])[1], file),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_unpacked_anew(folder, kind):
    expected = [file.read_bytes() for file in _unpacked(folder)]
    DAMAGE[kind](_unpacked(folder)[0])
    assert Store.open(str(folder)).clip(0).xyz.any()
    assert [file.read_bytes() for file in _unpacked(folder)] == expected
    assert {file.suffix for file in next((folder / ".mapped").iterdir()).iterdir()} == {".arrow", ".json", ""}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", '["a.arrow"]', '{"a.arrow": 3}', '{"a.arrow": [1, 2]}', "[" * 100_000]
)
def test_a_record_of_another_form_is_no_record(folder, content):
    record = _unpacked(folder)[0].with_name(cache.RECORD)
    before = json.loads(record.read_text())
    record.write_text(content)
    assert len(Store.open(str(folder))) == 6
    assert json.loads(record.read_text()).keys() == before.keys()


def test_a_file_is_read_for_its_checksum_only_after_a_change(folder, monkeypatch):
    names = _checked(monkeypatch)
    Store.open(str(folder))
    assert names == []
    first = _unpacked(folder)[0]
    first.touch()  # the content is as it was
    inode = first.stat().st_ino
    Store.open(str(folder))
    assert sorted(names) == [file.name for file in _unpacked(folder)]
    assert first.stat().st_ino == inode  # not unpacked again
    names.clear()
    Store.open(str(folder))
    assert names == []


def test_a_store_that_was_copied_with_its_unpacked_files_is_not_unpacked_again(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.setattr("coablate_platform.data.mapping._unpack", None)
    assert len(Store.open(str(tmp_path / "copy"))) == 6


def _open(uri: str) -> list[tuple[int, int]]:
    Store.open(uri)
    return [(file.stat().st_ino, file.stat().st_ctime_ns) for file in _unpacked(Path(uri))]


@pytest.mark.parametrize("damaged", [True, False])
def test_processes_that_open_a_store_together_unpack_it_once(folder, damaged):
    if damaged:
        _flip(_unpacked(folder)[0])
    else:
        shutil.rmtree(folder / ".mapped")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        seen = pool.map(_open, [str(folder)] * 8, chunksize=1)
    assert all(files == seen[0] for files in seen)


def test_a_full_disk_leaves_no_file_and_is_said(folder):
    shutil.rmtree(folder / ".mapped")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(InputError, match=r"there is no room to unpack the store here \(.*File too large") as error:
            Store.open(str(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert [file.name for file in next((folder / ".mapped").iterdir()).iterdir()] == ["lock"]
    assert len(Store.open(str(folder))) == 6


def _others_folder(path: Path) -> None:
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder for somebody else")
    os.chown(path, 65534, 65534)
    path.chmod(0o700)


def _open_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def _link_to_own_folder(path: Path) -> None:
    path.with_name("own").mkdir(mode=0o700)
    path.symlink_to(path.with_name("own"))


@pytest.mark.parametrize(
    "plant", [_others_folder, _open_folder, _link_to_own_folder, Path.touch, lambda path: path.symlink_to("/nowhere")]
)
@pytest.mark.parametrize("level", ["folder", "content"])
def test_a_planted_folder_is_not_believed(folder, temporary, plant, level):
    """Neither the user's folder among temporary files, nor the one for the store's content within it."""
    base = temporary / f"coablate-{os.geteuid()}-format1"
    planted = base if level == "folder" else base / Store.open(str(folder)).fingerprint
    if level == "content":
        shutil.rmtree(planted)
    plant(planted)
    before = sorted(planted.rglob("*")) if planted.is_dir() else None
    assert len(Store.open(str(folder))) == 6
    used = list(temporary.glob("coablate-*-1/*/*.arrow"))
    assert len(used) == 2
    assert sorted(planted.rglob("*")) == before if before is not None else not planted.is_dir()
    for place in (used[0].parent, used[0].parents[1]):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert place.stat().st_uid == os.geteuid()
    Store.open(str(folder))
    assert len(list(temporary.glob("coablate-*/*/*.arrow"))) == 2  # the same folder again


def test_a_store_is_not_unpacked_where_every_folder_is_somebody_else_s(folder, temporary, monkeypatch):
    monkeypatch.setattr(cache, "_TRIED", 3)
    for name in ("", "-1", "-2"):
        (temporary / f"coablate-{os.geteuid()}-format1{name}").touch()
    with pytest.raises(
        InputError, match=r"belong to somebody else, or are open to others\); set TMPDIR to a folder of your own"
    ):
        Store.open(str(folder))


def test_unpacked_files_of_another_user_in_the_store_are_not_believed(folder, temporary, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    next((folder / ".mapped").iterdir()).chmod(0o755)
    _flip(_unpacked(folder)[0])
    assert len(Store.open(str(folder))) == 6
    assert len(list(temporary.glob("coablate-*/*/*.arrow"))) == 2


def test_without_a_folder_for_temporary_files_there_is_one_line(folder, monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with pytest.raises(InputError, match="there is no folder for temporary files"):
        Store.open(str(folder))
