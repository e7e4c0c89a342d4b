"""The reader of JHMDB, on files that are made here."""

import hashlib
import shutil
import zipfile

import numpy as np
import pytest
import scipy.io
from listed_sets import write_jhmdb

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.clip import NO_SKELETON, NO_VIDEO, BadClip
from coablate_platform.data.formats.jhmdb import video_pixels
from coablate_platform.data.formats.jhmdb_splits import held_out_sources, source_of
from coablate_platform.data.joints import PUPPET
from coablate_platform.data.protocols import get_protocol
from coablate_platform.study.errors import InputError

JHMDB = READERS["jhmdb"]
ONE, TWO = "Golf_Swing_@6Iron_golf_f_cm_np1_fr_med_1", "RATRACE_wave_u_nm_np1_ba_goo_10"


@pytest.fixture
def folder(tmp_path):
    write_jhmdb(tmp_path, {f"golf/{ONE}": "112", f"wave/{TWO}": "211"})
    return tmp_path


def read(folder, number=0):
    reader = JHMDB.at(str(folder))
    return reader.read(reader.list_clips(str(folder))[number])


def test_the_classes_are_those_with_clips_in_alphabetical_order(folder):
    assert JHMDB.at(str(folder)).classes == ("golf", "wave")
    assert [read(folder, number).label for number in (0, 1)] == [0, 1]
    write_jhmdb(folder, {"brush_hair/a_brush_hair_u_cm_np1_fr_goo_0": "112", "dive/a_dive_u_cm_np1_fr_goo_0": "112"})
    assert JHMDB.at(str(folder)).classes == ("brush_hair", "golf", "wave")


def test_joints_have_y_up_and_no_depth(tmp_path):
    world = np.random.default_rng(0).normal(size=(2, 15, 5))
    write_jhmdb(tmp_path, {f"golf/{ONE}": "112"}, image=np.ones((2, 15, 5)), world=world)
    clip = read(tmp_path)
    assert clip.xyz.shape == (5, 1, 15, 3)
    np.testing.assert_allclose(clip.xyz[3, 0, 7], [world[0, 7, 3], -world[1, 7, 3], 0], rtol=1e-6)


def test_joints_are_moved_into_the_pixels_of_the_video(tmp_path):
    image = np.zeros((2, 15, 5))
    image[:, 0] = [[1], [1]]  # the centre of the annotated frame's first pixel
    image[:, 1] = [[160.5], [120.5]]  # its middle
    image[:, 2] = [[400], [-20]]  # beyond the border
    write_jhmdb(tmp_path, {f"golf/{ONE}": "112"}, image=image, size=(144, 192))
    clip = read(tmp_path)
    expected = [[-0.2, -0.2], [95.5, 71.5], [239.2, -12.8]]
    np.testing.assert_allclose(clip.pixels[2, 0, :3], expected, atol=1e-5)
    assert np.isfinite(clip.pixels).all()
    assert clip.valid.all()
    np.testing.assert_allclose(video_pixels(np.float32([[1, 240]]), (240, 320)), [[0, 239]])
    assert sum(1 for _ in clip.video.frames()) == 5


def test_a_class_is_the_folder_s_and_may_differ_from_that_in_the_name(tmp_path):
    write_jhmdb(tmp_path, {f"wave/{ONE}": "112", f"golf/{TWO}": "112"})
    assert [read(tmp_path, number).name for number in (0, 1)] == [ONE, TWO]
    assert [read(tmp_path, number).label for number in (0, 1)] == [1, 0]


def test_the_published_folders_and_archives_are_read(folder, tmp_path_factory):
    whole = tmp_path_factory.mktemp("zipped")
    (folder / "videos").rename(folder / "ReCompress_Videos")
    shutil.copytree(folder / "splits", folder / "sub_splits")
    (folder / "sub_splits" / "golf_test_split1.txt").write_text("")
    assert [ref.video is not None for ref in JHMDB.at(str(folder)).list_clips(str(folder))] == [True, True]
    with zipfile.ZipFile(whole / "all.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    clip, zipped = read(folder), read(whole)
    assert zipped.video.size == clip.video.size
    assert (zipped.label, zipped.setup) == (clip.label, clip.setup)
    np.testing.assert_array_equal(zipped.pixels, clip.pixels)


def test_clips_that_lack_a_file_are_listed(folder):
    (folder / "joint_positions" / "golf" / ONE / "joint_positions.mat").unlink()
    assert JHMDB.at(str(folder)).missing(str(folder)) == {ONE: NO_SKELETON}
    assert [ref.name for ref in JHMDB.list_clips(str(folder))] == [TWO]
    write_jhmdb(folder, {f"golf/{ONE}": ""})
    (folder / "videos" / "golf" / f"{ONE}.avi").unlink()
    assert JHMDB.missing(str(folder)) == {ONE: NO_VIDEO}


def test_a_set_without_videos_is_read_as_skeletons(folder):
    shutil.rmtree(folder / "videos")
    clip = read(folder)
    assert not JHMDB.at(str(folder)).has_video
    assert JHMDB.missing(str(folder)) == {}
    assert clip.video is clip.pixels is None


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"pos_img": np.ones((2, 14, 5))}, r"expected pos_img of shape \(2, 15, T\), found \(2, 14, 5\)"),
        ({"pos_world": np.ones((15, 2, 5))}, r"expected pos_world of shape \(2, 15, T\), found \(15, 2, 5\)"),
        ({"pos_world": np.ones((2, 15, 4))}, "pos_img has 5 frames, pos_world 4"),
        ({"pos_world": None}, "has no array pos_world"),
        ({"pos_img": np.full((2, 15, 5), np.nan)}, "a joint of pos_img is not a finite number"),
        ({"pos_world": np.full((2, 15, 5), 1e300)}, "a joint of pos_world is not a finite number"),
        ({"pos_img": np.zeros((2, 15, 0))}, r"expected pos_img of shape \(2, 15, T\)"),
    ],
)
def test_malformed_joints_are_refused(folder, arrays, reason):
    file = folder / "joint_positions" / "golf" / ONE / "joint_positions.mat"
    good = {"pos_img": np.ones((2, 15, 5)), "pos_world": np.ones((2, 15, 5))}
    scipy.io.savemat(file, {name: array for name, array in (good | arrays).items() if array is not None})
    with pytest.raises(BadClip, match=reason) as caught:
        read(folder)
    assert caught.value.file == str(file)


def test_a_clip_of_one_frame_is_read(folder):
    joints = np.random.default_rng(0).normal(size=(2, 15))
    file = folder / "joint_positions" / "golf" / ONE / "joint_positions.mat"
    scipy.io.savemat(file, {"pos_img": joints, "pos_world": joints})
    assert read(folder).xyz.shape == (1, 1, 15, 3)


def test_each_clip_is_on_its_side_in_all_three_splits(tmp_path):
    titles = "abcdefghij"
    sides = {title: f"{1 + (title in 'ab')}{1 + (title in 'bc')}{1 + (title in 'cde')}" for title in titles}
    write_jhmdb(tmp_path, {f"golf/{title}_golf_u_cm_np1_fr_goo_0": sides[title] for title in titles})
    clips = [read(tmp_path, number) for number in range(len(titles))]
    rows = {name: np.array([getattr(clip, name) for clip in clips]) for name in ("subject", "camera", "setup")}
    for number, test in enumerate(("ab", "bc", "cde"), start=1):
        parts = get_protocol(f"jhmdb/split{number}").split(rows)
        assert "".join(titles[row] for row in parts["test"]) == test
        train = [f"{title}_golf_u_cm_np1_fr_goo_0" for title in titles if title not in test]
        held = held_out_sources({"golf": train})
        assert {titles[row] for row in parts["validation"]} == held
        assert len(held) == round(0.2 * len(train)) > 0
        assert len(np.concatenate(list(parts.values()))) == len(titles)
    assert sorted(rows["subject"]) == list(range(1, 11))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Veoh_Alpha_Dog_1_walk_f_cm_np1_fr_med_3", "veohalphadog"),
        ("Veoh_Alpha_Dog_2_kick_ball_f_cm_np2_fr_med_0", "veohalphadog"),
        ("How_to_run_run_f_cm_np1_ba_med_1", "howtorun"),
        ("boom-snap-clap!_clap_u_nm_np1_fr_goo_2", "boomsnapclap"),
        ("Title without a form_7", "titlewithoutaform"),
    ],
)
def test_a_source_video_is_known_by_the_letters_of_its_title(name, source):
    assert source_of(name) == source


def test_sources_are_held_out_whole_in_a_fixed_order_where_every_class_has_room():
    first, *others = sorted("abcdefghi", key=lambda title: hashlib.sha256(title.encode()).hexdigest())

    def clips(label, titles):
        return {label: [f"{title}_{label}_u_cm_np1_fr_goo_{take}" for take, title in enumerate(titles)]}

    golf = clips("golf", [first, first, *others])  # 10 clips: 2 may go
    assert held_out_sources(golf) == {first}
    assert held_out_sources(clips("golf", [first, first, first, *others[:7]])) == set(others[:2])
    assert held_out_sources(golf | clips("wave", [first, "z"])) == set(others[:2])  # no room for the source in wave
    assert held_out_sources(golf | clips("wave", [first, "z", "z", "z", "z"])) == {first}


def test_the_store_s_recipe_knows_other_lists(folder):
    before = JHMDB.at(str(folder)).reading
    file = folder / "splits" / "golf_test_split1.txt"
    file.write_text(f"{ONE}.avi 2\n")
    assert JHMDB.at(str(folder)).reading != before


def test_missing_split_files_are_said(folder):
    for number in (2, 3):
        (folder / "splits" / f"wave_test_split{number}.txt").unlink()
    with pytest.raises(InputError, match=r"2 of JHMDB's split files are missing, the first: wave_test_split2\.txt"):
        JHMDB.at(str(folder))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "x.avi 3",
            r"golf_test_split2\.txt:2: expected NAME\.avi 1 \(train\) or NAME\.avi 2 \(test\), found 'x\.avi 3'",
        ),
        (f"{ONE}.avi 2", rf"golf_test_split2\.txt:2: clip {ONE} is on both sides of the split"),
    ],
)
def test_malformed_split_files_are_refused(folder, line, reason):
    with (folder / "splits" / "golf_test_split2.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=reason):
        JHMDB.at(str(folder))


def test_a_clip_that_a_split_does_not_divide_is_bad(folder):
    (folder / "splits" / "golf_test_split2.txt").write_text("\n")
    with pytest.raises(BadClip, match=r"the clip is not in golf_test_split1\.txt, …_split2\.txt and …_split3\.txt"):
        read(folder)
    assert read(folder, 1).name == TWO


def test_a_clip_with_two_videos_is_refused(folder):
    shutil.copytree(folder / "videos", folder / "other")
    with pytest.raises(InputError, match=rf"clip {ONE} appears twice: .*other/golf/{ONE}\.avi and .*videos/golf"):
        JHMDB.list_clips(str(folder))


def test_an_empty_folder_is_refused_with_the_expected_names(tmp_path):
    with pytest.raises(InputError, match=r"expected JHMDB files named like joint_positions/catch/NAME"):
        JHMDB.at(str(tmp_path))


def test_the_puppet_s_mirror_swaps_right_and_left():
    assert PUPPET.mirror == (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13)
    assert PUPPET.joints[PUPPET.centre] == "belly"
    assert {(PUPPET.joints[child], PUPPET.joints[parent]) for child, parent in PUPPET.bones} >= {
        ("left wrist", "left elbow"),
        ("right ankle", "right knee"),
        ("left hip", "belly"),
        ("face", "neck"),
    }
