"""The reader of PKU-MMD II, on files that are made here."""

import pickle
import re
import shutil
import zipfile

import numpy as np
import pytest
from listed_sets import write_pku, write_pku_lists

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.clip import NO_SKELETON, BadClip
from coablate_platform.data.formats.pku_mmd import NO_LABELS
from coablate_platform.data.inputs import check_files
from coablate_platform.data.protocols import get_protocol
from coablate_platform.data.shard import PrepareOptions, read_shard, write_shard
from coablate_platform.study.errors import InputError

PKU = READERS["pku_mmd"]
BODIES = np.random.default_rng(0).normal([0, 0, 3], [[[0.1]], [[0.3]]], (30, 2, 25, 3)).round(6)
"""Two bodies, of which the second moves more."""
NAMES = [f"A{subject:02}N{take:02}-{view}" for subject in range(1, 14) for take in (1, 2) for view in "LMR"]


@pytest.fixture
def folder(tmp_path):
    write_pku(tmp_path, {"A01N02-M": ["11,3,12,2", "51,13,30,1"], "A07N01-R": ["1,1,1,0"]}, BODIES)
    write_pku_lists(tmp_path, ["A01N02-M"], ["A07N01-R"])
    return tmp_path


def read(folder, number=0):
    reader = PKU.at(str(folder))
    return reader.read(reader.list_clips(str(folder))[number])


def test_every_labelled_interval_is_a_clip(folder):
    refs = PKU.at(str(folder)).list_clips(str(folder))
    assert [ref.name for ref in refs] == ["A01N02M_001", "A01N02M_002", "A07N01R_001"]
    clips = [read(folder, number) for number in range(3)]
    assert [clip.label for clip in clips] == [10, 50, 0]
    assert [len(clip.xyz) for clip in clips] == [10, 18, 1]
    assert [PKU.classes[clip.label] for clip in clips] == ["falling", "writing", "bow"]
    numbers = [(clip.subject, clip.replication, clip.camera) for clip in clips]
    assert numbers == [(1, 2, 2), (1, 2, 2), (7, 1, 3)]


def test_frames_count_from_1_and_the_last_one_belongs_to_the_interval(folder):
    clip = read(folder)
    np.testing.assert_allclose(clip.xyz[[0, -1], 1], BODIES[[2, 11], 0], rtol=1e-6)
    np.testing.assert_allclose(read(folder, 1).xyz[-1, 1], BODIES[29, 0], rtol=1e-6)


def test_the_body_that_moves_most_comes_first(folder):
    np.testing.assert_allclose(read(folder).xyz[:, 0], BODIES[2:12, 1], rtol=1e-6)
    calm = BODIES[:, ::-1]
    write_pku(folder, {"A01N02-M": ["11,3,12,2"]}, calm)
    np.testing.assert_allclose(read(folder).xyz[:, 0], calm[2:12, 0], rtol=1e-6)


def test_a_body_of_zeros_is_absent(tmp_path):
    bodies = BODIES.copy()
    bodies[:10, 1] = 0
    bodies[4] = 0
    write_pku(tmp_path, {"A01N01-L": ["5,1,10,2", "5,5,5,2", "5,8,12,2"], "A02N01-L": ["5,1,2,2"]}, bodies)
    write_pku_lists(tmp_path, ["A01N01-L"], ["A02N01-L"])
    assert read(tmp_path).xyz.shape == (10, 1, 25, 3)
    assert np.flatnonzero(~read(tmp_path).valid[:, 0]).tolist() == [4]
    with pytest.raises(BadClip, match="no body in any of its 1 frames"):
        read(tmp_path, 1)
    assert sorted(read(tmp_path, 2).valid.sum(0).tolist()) == [2, 5]


def test_files_are_told_by_the_folder_or_archive_above_them(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("labels_of_mine")
    with zipfile.ZipFile(other / "Label_PKUMMD_v2.zip", "w") as archive:
        for file in sorted((folder / "Label").iterdir()):
            archive.write(file, file.name)
    shutil.copytree(folder / "Skeleton", other / "Skeleton_v2" / "inner")
    write_pku_lists(other, ["A01N02-M"], ["A07N01-R"])
    np.testing.assert_array_equal(read(other, 1).xyz, read(folder, 1).xyz)


def test_recordings_that_lack_a_file_are_listed(folder):
    write_pku(folder, {"A03N01-L": ["1,1,2,2"]}, BODIES)
    (folder / "Skeleton" / "A07N01-R.txt").unlink()
    (folder / "Label" / "A03N01-L.txt").unlink()
    assert PKU.missing(str(folder)) == {"A03N01-L": NO_LABELS, "A07N01-R": NO_SKELETON}
    assert {ref.name[:7] for ref in PKU.list_clips(str(folder))} == {"A01N02M"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("12,3,40,2", r"frames 3 to 40 are no part of the 30 frames of .*Skeleton.A01N02-M\.txt"),
        ("12,0,4,2", "frames 0 to 4 are no part"),
        ("12,9,8,2", "frames 9 to 8 are no part"),
        ("0,1,2,2", "class 0 is none of the set's 51 classes"),
        ("52,1,2,2", "class 52 is none of the set's 51 classes"),
        ("1,2,3", "expected class,start,end,confidence, found '1,2,3'"),
        ("1.5,2,3,1", "expected class,start,end,confidence"),
        ("a,b,c,d", "expected class,start,end,confidence"),
    ],
)
def test_malformed_intervals_are_bad_clips_and_the_others_are_read(folder, line, reason):
    (folder / "Label" / "A01N02-M.txt").write_text(f"\n{line}\n4,1,2,2\n")
    with pytest.raises(BadClip, match=reason) as caught:
        read(folder)
    assert (caught.value.file, caught.value.line) == (str(folder / "Label" / "A01N02-M.txt"), 2)
    assert read(folder, 1).name == "A01N02M_003"


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ("1 2 3", "expected 150 numbers, found 3"),
        ("1 " * 149 + "x", "a coordinate is not a number"),
        ("1 " * 149 + "nan", "a joint is not a finite number"),
        ("1 " * 149 + "1e300", "a joint is not a finite number"),
        ("", "expected 150 numbers, found 0"),
    ],
)
def test_malformed_frames_are_bad_clips_where_they_belong_to_one(folder, numbers, reason):
    file = folder / "Skeleton" / "A01N02-M.txt"
    lines = file.read_text().splitlines()
    lines[4] = numbers
    file.write_text("\n".join(lines))
    with pytest.raises(BadClip, match=reason) as caught:
        read(folder)
    assert (caught.value.file, caught.value.line) == (str(file), None if "finite" in reason else 5)
    assert len(read(folder, 1).xyz) == 18


def rows_of(folder):
    write_pku(folder, {name: ["1,1,2,2"] for name in NAMES}, BODIES)
    clips = [read(folder, number) for number in range(len(NAMES))]
    return {name: np.array([getattr(clip, name) for clip in clips]) for name in ("subject", "camera", "setup")}


def test_the_lists_say_who_trains_and_who_tests(tmp_path):
    test = ["03", "08"]
    subject = [[name for name in NAMES if (name[1:3] in test) == side] for side in (False, True)]
    view = [[name for name in NAMES if name.endswith("L") == side] for side in (False, True)]
    write_pku_lists(tmp_path, *subject, split="subject")
    write_pku_lists(tmp_path, *view, split="view")
    rows = rows_of(tmp_path)
    cs, cv = (get_protocol(name).split(rows) for name in ("pku_mmd/cs", "pku_mmd/cv"))
    assert set(rows["subject"][cs["test"]]) == {3, 8}
    assert set(rows["subject"][cs["validation"]]) == {2, 9}  # 2nd and 7th of 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13
    assert set(rows["subject"][cs["train"]]) == {1, 4, 5, 6, 7, 10, 11, 12, 13}
    assert (set(rows["camera"][cv["train"]]), set(rows["camera"][cv["test"]])) == ({2, 3}, {1})
    assert set(rows["subject"][cv["validation"]]) == {2, 7, 12}
    assert set(rows["camera"][cv["validation"]]) == {2, 3}
    for parts in (cs, cv):
        assert sum(map(len, parts.values())) == len(NAMES)


@pytest.mark.parametrize("split", ["subject", "view"])
def test_a_missing_list_is_said(folder, split):
    (folder / f"cross_{split}_v2.txt").unlink()
    with pytest.raises(InputError, match=rf"cross_{split}_v2\.txt missing; the data set's publishers give") as caught:
        PKU.at(str(folder))
    assert "\n" not in str(caught.value)


def test_the_lists_of_phase_1_do_not_count_and_a_hyphen_does(folder):
    shutil.copy(folder / "cross_view_v2.txt", folder / "cross_view.txt")
    (folder / "cross_view.txt").write_text("Training videos:\n0002-L\n")
    (folder / "Split").mkdir()
    (folder / "cross_view_v2.txt").rename(folder / "Split" / "cross-view_v2.txt")
    assert len(PKU.at(str(folder)).setups) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Training videos:\nA01N02-M\n", "no recording found that tests; expected names like A01N01-L after"),
        ("Validataion videos:\nA01N02-M\n", "no recording found that trains"),
        ("A01N02-M, A07N01-R\n", "no recording found that trains"),
        ("Training videos:\nA01N02-M\nValidataion videos:\nA01N02-M", "A01N02-M is on both sides of the split"),
    ],
)
def test_malformed_lists_are_refused(folder, text, reason):
    (folder / "cross_view_v2.txt").write_text(text)
    with pytest.raises(InputError, match=reason):
        PKU.at(str(folder))


def test_a_recording_that_a_list_lacks_is_bad(folder):
    write_pku(folder, {"A03N01-L": ["1,1,2,2"]}, BODIES)
    reason = re.escape("A03N01-L is not in cross_subject_v2.txt and in cross_view_v2.txt")
    with pytest.raises(BadClip, match=reason):
        read(folder, 2)


def test_the_store_s_recipe_knows_other_lists(folder):
    before = PKU.at(str(folder)).reading
    write_pku_lists(folder, ["A07N01-R"], ["A01N02-M"], split="view")
    assert PKU.at(str(folder)).reading != before


def test_a_label_file_that_changes_after_it_was_stored_is_noticed(folder, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    reader = PKU.at(str(folder))
    refs = pickle.loads(pickle.dumps(reader.list_clips(str(folder))))
    shard = read_shard(write_shard(reader, refs, store, PrepareOptions()))
    assert set(shard.digests) == {ref.name for ref in refs}
    check_files(store, refs, [shard])
    (folder / "Label" / "A07N01-R.txt").write_text("1,1,9,0\r\n")
    check_files(store, refs[:2], [shard])
    (folder / "Label" / "A07N01-R.txt").write_text("1,1,10,0\r\n")
    with pytest.raises(InputError, match=r"files of 1 clips have changed .*Label.A07N01-R\.txt has 10 bytes"):
        check_files(store, reader.list_clips(str(folder)), [shard])


def test_an_empty_folder_is_refused_with_the_expected_names(tmp_path):
    with pytest.raises(InputError, match=r"expected PKU-MMD II files named like Skeleton/A01N01-L\.txt"):
        PKU.at(str(tmp_path))
