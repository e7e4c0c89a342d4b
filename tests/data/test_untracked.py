"""Clips of zeros and labels that are none are refused with the same words by every reader; a lost body is untracked."""

import json

import numpy as np
import pytest
import scipy.io
from listed_sets import write_jhmdb, write_pku, write_pku_lists

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef, RawClip
from coablate_platform.data.shard import PrepareOptions, read_shard, write_shard
from coablate_platform.study.errors import InputError

WALK = np.random.default_rng(0).normal([0, 0, 3], 0.3, (15, 20, 3)).astype(np.float32)


def _write_ntu(folder, xyz):
    lines = [str(len(xyz))]
    for bodies in xyz:
        lines.append(str(len(bodies)))
        for body, joints in enumerate(bodies):
            lines += [f"{72057594037931000 + body} 0 1 1 1 1 0 0 0 2", "25"]
            lines += [f"{x:.7g} {y:.7g} {z:.7g} 1 2 3 4 0 0 0 1 2" for x, y, z in [*joints, *joints[:5]]]
    (folder / "S001C001P001R001A001.skeleton").write_text("\n".join(lines) + "\n")


def _write_utd(folder, xyz):
    scipy.io.savemat(folder / "a1_s1_t1_skeleton.mat", {"d_skel": xyz[:, 0].transpose(1, 2, 0)})


def _write_ucla(folder, xyz):
    (folder / "a01_s01_e00_v01.json").write_text(json.dumps({"label": 1, "skeletons": xyz[:, 0].tolist()}))


def _write_jhmdb(folder, xyz):
    joints = xyz[:, 0, :15, :2].transpose(2, 1, 0)
    write_jhmdb(folder, {"catch/One_catch_u_cm_np1_fr_goo_0": "112"}, image=joints, world=joints)


def _write_pku(folder, xyz):
    write_pku(folder, {"A01N01-L": ["1,1,15,2"]}, np.concatenate([xyz, xyz[:, :, :5]], axis=2))
    write_pku_lists(folder, ["A01N01-L"], ["A02N01-L"])


WRITERS = {
    "ntu": _write_ntu,
    "utd_mhad": _write_utd,
    "nw_ucla": _write_ucla,
    "jhmdb": _write_jhmdb,
    "pku_mmd": _write_pku,
}


def _read(name, folder, xyz):
    WRITERS[name](folder, xyz)
    reader = READERS[name].at(str(folder))
    return reader.read(reader.list_clips(str(folder))[0])


@pytest.mark.parametrize("name", READERS)
def test_a_clip_of_zeros_is_refused(tmp_path, name):
    with pytest.raises(BadClip, match=r"no body in any of its 15 frames"):
        _read(name, tmp_path, np.zeros((15, 1, 20, 3), np.float32))


@pytest.mark.parametrize("name", READERS)
def test_frames_of_zeros_are_untracked(tmp_path, name):
    xyz = WALK[:, None].copy()
    xyz[[0, 1, 7]] = 0
    clip = _read(name, tmp_path, xyz)
    assert np.flatnonzero(~clip.valid[:, 0]).tolist() == [0, 1, 7]
    assert len(clip.xyz) == 15
    assert not clip.xyz[~clip.valid].any()
    if clip.pixels is not None:
        assert (clip.pixels[~clip.valid] == 0).all()


def test_a_second_body_of_zeros_is_no_person(tmp_path):
    xyz = np.stack([np.zeros_like(WALK), WALK], axis=1)
    clip = _read("ntu", tmp_path, xyz)
    assert clip.xyz.shape[1] == 1
    np.testing.assert_allclose(clip.xyz[:, 0, :20], WALK, rtol=1e-6)


class OwnReader:
    """A reader of a user's own, which returns one clip."""

    name, layout, persons, classes = "own", READERS["utd_mhad"].layout, 1, ("a", "b")
    default_protocol, has_video, reading = "utd/cs", False, {"reader": 1}

    def __init__(self, **changes):
        self.changes = changes

    def read(self, ref):
        numbers = {"subject": 1, "camera": 1, "setup": 1, "replication": 1}
        fields = {"name": "clip", "label": 1, "xyz": WALK[:, None], "valid": np.ones((15, 1), bool)} | self.changes
        return RawClip(pixels=None, video=None, **numbers, **fields)


def _store(folder, reader):
    ref = ClipRef(name="clip", skeleton=FileRef(uri="/nowhere/clip.npy"))
    return read_shard(write_shard(reader, [ref], folder, PrepareOptions()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"xyz": np.zeros((15, 1, 20, 3), np.float32)}, "no body in any of its 15 frames"),
        ({"valid": np.zeros((15, 1), bool)}, "no body in any of its 15 frames"),
        ({"label": 1.9}, "label '1.9' is not a whole number"),
        ({"label": True}, "label 'True' is not a whole number"),
        ({"label": "1"}, "label '1' is not a whole number"),
        ({"label": -1}, "label -1, counted from 0, is none of the set's 2 classes"),
        ({"label": 2}, "label 2, counted from 0, is none of the set's 2 classes"),
        ({"xyz": np.full((15, 1, 20, 3), np.nan, np.float32)}, "a joint is not a finite number"),
        ({"xyz": np.full((15, 1, 20, 3), 1e300)}, "a joint is not a finite number"),
        ({"xyz": WALK}, r"expected joints of shape (T, 1 to 1, 20, 3), found (15, 20, 3)"),
        ({"xyz": WALK[:, None].repeat(2, 1)}, r"expected joints of shape (T, 1 to 1, 20, 3), found (15, 2, 20, 3)"),
        ({"valid": np.ones((14, 1), bool)}, "joints of shape (15, 1, 20, 3) do not fit the shapes of valid and pixels"),
        ({"name": "other"}, "the clip is listed as 'clip', but its reader calls it 'other'"),
    ],
)
def test_what_no_store_can_hold_is_refused_whoever_read_it(tmp_path, changes, reason):
    shard = _store(tmp_path, OwnReader(**changes))
    assert shard.digests == {}
    assert [(bad.file, bad.reason) for bad in shard.bad] == [("/nowhere/clip.npy", reason)]


def test_zeros_that_a_reader_calls_tracked_are_stored_as_untracked(tmp_path):
    xyz = WALK[:, None].copy()
    xyz[:2] = 0
    good, bad = xyz.any((2, 3)), np.ones((15, 1), bool)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    expected = _store(tmp_path / "a", OwnReader(xyz=xyz, valid=good)).digests
    assert _store(tmp_path / "b", OwnReader(xyz=xyz, valid=bad)).digests == expected
    assert _store(tmp_path / "b", OwnReader(xyz=xyz, label=np.int32(1))).digests == expected


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("1.9", "label 1.9 is not a whole number"),
        ("1.0", "label 1.0 is not a whole number"),
        ("true", "label true is not a whole number"),
        ('"1"', 'label "1" is not a whole number'),
        ("null", "label null is not a whole number"),
        ("[1]", r"label \[1\] is not a whole number"),
        ("NaN", "label NaN is not a whole number"),
        ("-1", "label -1 is none of the set's 10 classes"),
        ("0", "label 0 is none of the set's 10 classes"),
        ("11", "label 11 is none of the set's 10 classes"),
    ],
)
def test_a_label_in_json_is_a_whole_number_of_a_class(tmp_path, label, reason):
    (tmp_path / "a01_s01_e00_v01.json").write_text(f'{{"label": {label}, "skeletons": {WALK.tolist()}}}')
    reader = READERS["nw_ucla"]
    with pytest.raises(BadClip, match=reason) as caught:
        reader.read(reader.list_clips(str(tmp_path))[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ['"0.5"', "true", "null"])
def test_a_coordinate_in_json_is_a_number(tmp_path, value):
    text = f'{{"label": 1, "skeletons": [[{", ".join([f"[{value}, {value}, {value}]"] * 20)}]]}}'
    (tmp_path / "a01_s01_e00_v01.json").write_text(text)
    reader = READERS["nw_ucla"]
    with pytest.raises(BadClip, match="a joint is not a number"):
        reader.read(reader.list_clips(str(tmp_path))[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_side": 2.5}, "preparation: short_side=2.5: expected a whole number from 16 to 8192"),
        ({"gop": 0}, "gop=0: expected a whole number from 1 to 600"),
        ({"quality": True}, "quality=[Tt]rue: expected a whole number from 1 to 31"),
        ({"shard_clips": 0}, "shard_clips=0: expected a whole number of at least 1"),
        ({"resize": "Crop"}, r"resize='Crop': expected 'crop', 'squash' or 'pad' \(did you mean 'crop'\?\)"),
        ({"skeleton_only": "no"}, "skeleton_only='no': expected true or false"),
    ],
)
def test_the_options_of_a_preparation_are_checked(changes, message):
    with pytest.raises(InputError, match=message):
        PrepareOptions(**changes)
