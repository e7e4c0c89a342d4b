"""Checkpoints: a damaged one is replaced by the one before it, and a failed write loses nothing."""

import errno
import logging
import resource

import pytest
import torch
from safetensors.torch import load_file

from coablate_platform import files
from coablate_platform.study.errors import InputError
from coablate_platform.train.checkpoint import Checkpoints


@pytest.fixture
def kept(tmp_path):
    """Two checkpoints, of epochs 1 and 2."""
    checkpoints = Checkpoints(str(tmp_path / "run"))
    for epoch in (1, 2):
        checkpoints.save({"epoch": epoch, "model": {"weight": torch.full((3,), float(epoch))}})
    return checkpoints


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def test_a_new_run_has_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(str(tmp_path / "new"))
    assert checkpoints.load() is None


def test_the_newest_is_loaded_and_the_one_before_it_is_kept(kept, folder):
    state = kept.load()
    assert state["epoch"] == 2
    assert torch.equal(state["model"]["weight"], torch.full((3,), 2.0))
    assert sorted(path.name for path in folder.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "empty", "gone"])
def test_the_one_before_is_loaded_where_the_newest_is_damaged(kept, folder, caplog, damage):
    file = folder / "last.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":  # killed between the two renames
        file.unlink()
    else:
        file.write_bytes({"cut": content[:200], "flipped bit": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert kept.load()["epoch"] == 1
    assert ("last.pt is damaged" in caplog.text) == (damage != "gone")


def test_a_checkpoint_can_be_saved_over_a_damaged_one(kept, folder):
    (folder / "last.pt").write_bytes(b"damaged")
    kept.save({"epoch": 2})
    assert kept.load()["epoch"] == 2


def test_none_is_loaded_where_both_are_damaged(kept, folder):
    for name in ("last.pt", "previous.pt"):
        (folder / name).write_bytes(b"damaged")
    assert kept.load() is None


def test_an_unfinished_write_leaves_the_newest_checkpoint(kept, folder):
    (folder / "next.pt").write_bytes((folder / "last.pt").read_bytes()[:100])  # killed before it was renamed
    assert kept.load()["epoch"] == 2
    kept.save({"epoch": 3})
    assert kept.load()["epoch"] == 3


def test_a_full_disk_raises_an_error_and_loses_nothing(kept, folder):
    before = {path.name for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            kept.save({"epoch": 3})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == errno.EFBIG
    assert kept.load()["epoch"] == 2
    assert {path.name for path in folder.iterdir()} == before


def test_a_checkpoint_is_on_the_disk_before_it_counts(kept, folder, monkeypatch):
    """Every file is flushed before it gets its name, and the folder after the last renaming."""
    flushed = []
    monkeypatch.setattr(files, "_flush", lambda path: flushed.append(path.name))
    kept.save({"epoch": 3})
    assert flushed[0].startswith(".next.pt.")
    assert flushed[-1] == folder.name


def test_only_the_tested_weights_are_left_after_a_clear(kept, folder):
    weights = {"weight": torch.arange(6.0).reshape(2, 3).T}
    kept.save_weights(weights)
    kept.clear()
    assert [path.name for path in folder.iterdir()] == ["weights.safetensors"]
    assert torch.equal(load_file(folder / "weights.safetensors")["weight"], weights["weight"])
    kept.save_weights(weights)  # a resumed run may conclude once more
    kept.clear()
    assert kept.load() is None


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_code_in_a_checkpoint_is_not_executed(kept, tmp_path):
    kept.save({"epoch": 3, "model": Malicious(tmp_path / "made")})
    with pytest.raises(InputError, match=r"last\.pt: holds more than tensors .* so Coablate did not write it"):
        kept.load()
    assert not (tmp_path / "made").exists()


def test_a_path_and_its_uri_name_the_same_folder(kept, folder):
    assert Checkpoints(folder.as_uri()).load()["epoch"] == 2
