"""The readers of UTD-MHAD and NW-UCLA, on files that are made here."""

import json

import numpy as np
import pytest
import scipy.io

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.clip import BadClip
from coablate_platform.data.formats.depth import render_depth
from coablate_platform.study.errors import InputError

UTD, UCLA = READERS["utd_mhad"], READERS["nw_ucla"]


def write_utd(folder, name="a2_s3_t4", skeleton=None, depth=None):
    (folder / "Skeleton").mkdir(exist_ok=True)
    (folder / "Depth").mkdir(exist_ok=True)
    if skeleton is None:
        skeleton = np.arange(20.0)[:, None, None] * np.ones((20, 3, 6)) / 10 + [[[0], [0], [2]]]
    if depth is None:
        depth = np.zeros((240, 320, 6), dtype=np.uint16)
        depth[60:220, 140:180] = 2800
    scipy.io.savemat(folder / "Skeleton" / f"{name}_skeleton.mat", {"d_skel": skeleton})
    scipy.io.savemat(folder / "Depth" / f"{name}_depth.mat", {"d_depth": depth})
    return UTD.list_clips(str(folder))[0]


def test_utd_joints_come_in_the_sensors_order(tmp_path):
    clip = UTD.read(write_utd(tmp_path))
    assert (clip.label, clip.subject, clip.replication, clip.camera, clip.setup) == (1, 3, 4, 1, 1)
    assert clip.xyz.shape == (6, 1, 20, 3)
    # The file's joints: head 0, shoulder centre 1, spine 2, hip centre 3, left shoulder 4 …
    order = (clip.xyz[0, 0, :, 0] * 10).round().astype(int).tolist()
    assert order == [3, 2, 1, 0, *range(4, 20)]
    assert UTD.layout.joints[order.index(0)] == "head"
    assert UTD.layout.joints[order.index(4)] == "left shoulder"


def test_utd_joints_are_projected_into_the_cropped_frame(tmp_path):
    skeleton = np.zeros((20, 3, 6))
    skeleton[:, 2] = 2.8
    skeleton[3] = [[0.1], [0.2], [2.8]]
    clip = UTD.read(write_utd(tmp_path, skeleton=skeleton))
    np.testing.assert_allclose(clip.pixels[0, 0, :2], [[130, 100], [120, 120]], rtol=1e-6)


def test_depth_is_rendered_to_three_channels(tmp_path):
    video = UTD.read(write_utd(tmp_path)).video
    frames = np.stack(list(video.frames()))
    assert frames.shape == (6, *video.size, 3) == (6, 240, 240, 3)
    assert not frames[:, :60].any()
    assert (frames[0, 100, 120] == [128, 128, 128]).all()  # a wall at the median, seen from the front
    assert next(video.frames((56, 56))).shape == (56, 56, 3)


def test_depth_channels_show_nearness_and_slope():
    plane = np.fromfunction(lambda v, u: 2800 + 10.0 * (u - 20), (40, 40), dtype=np.float32).astype(np.float32)
    picture = render_depth(plane, 2800.0)
    near, across, down = np.moveaxis(picture[10:30, 10:30].astype(int), -1, 0)
    assert (np.diff(near, axis=1) <= 0).all()  # darker as the plane recedes to the right
    assert (across < 60).all()  # a slope of 45°: the normal points to the left
    assert (abs(down - 128) <= 1).all()


def test_rendering_the_part_with_the_figure_equals_rendering_the_whole_frame(tmp_path):
    generator = np.random.default_rng(0)
    depth = np.zeros((240, 320, 2), dtype=np.uint16)
    depth[150:240, 90:150, 0] = generator.integers(2500, 3000, (90, 60))
    depth[20:70, 200:215, 1] = generator.integers(2500, 3000, (50, 15))
    video = UTD.read(write_utd(tmp_path, skeleton=np.ones((20, 3, 2)), depth=depth)).video
    whole = depth[:, 40:280].astype(np.float32)
    median = float(np.median(whole[whole > 0]))
    np.testing.assert_array_equal(
        list(video.frames()), [render_depth(whole[:, :, number], median) for number in range(2)]
    )


@pytest.mark.parametrize(
    ("matrices", "reason"),
    [
        ({"skeleton": np.zeros((19, 3, 6))}, r"expected d_skel of shape \(20, 3, T\), found \(19, 3, 6\)"),
        ({"skeleton": np.full((20, 3, 6), np.nan)}, "not a finite number"),
        ({"depth": np.zeros((240, 320, 6), dtype=np.uint16)}, "shows no figure"),
        ({"depth": np.zeros((24, 32, 6), dtype=np.uint16)}, r"expected d_depth of shape \(240, 320, T\)"),
        ({"depth": np.full((240, 320, 6), -5.0)}, "a depth is not a finite number of millimetres, 0 or more"),
        ({"depth": np.full((240, 320, 6), np.nan)}, "a depth is not a finite number of millimetres, 0 or more"),
        ({"depth": np.full((240, 320, 6), 1e300)}, "a depth is not a finite number of millimetres, 0 or more"),
        ({"skeleton": np.full((20, 3, 6), 1e300)}, "not a finite number"),
        ({"skeleton": np.full((20, 3, 6), "x", dtype=object)}, "d_skel is not an array of numbers"),
    ],
)
def test_utd_refuses_malformed_arrays(tmp_path, matrices, reason):
    ref = write_utd(tmp_path, **matrices)
    with pytest.raises(BadClip, match=reason):
        list(UTD.read(ref).video.frames())


@pytest.mark.parametrize("content", [b"", b"not a matrix", b"\0" * 200, None])
def test_utd_refuses_damaged_files(tmp_path, content):
    ref = write_utd(tmp_path)
    path = tmp_path / "Skeleton" / "a2_s3_t4_skeleton.mat"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(BadClip, match=r"Matlab file|d_skel") as caught:
        UTD.read(ref)
    assert caught.value.file == str(path)


def test_utd_pairs_by_name_and_lists_videos_without_a_skeleton(tmp_path):
    for name in ("a2_s3_t4", "a10_s1_t1", "a9_s1_t1"):
        write_utd(tmp_path, name)
    (tmp_path / "Depth" / "a2_s3_t4_depth.mat").unlink()
    for name in ("a10_s1_t1", "a9_s1_t1"):
        (tmp_path / "Skeleton" / f"{name}_skeleton.mat").unlink()
    assert [(ref.name, ref.video) for ref in UTD.list_clips(str(tmp_path))] == [("a2_s3_t4", None)]
    assert not UTD.at(str(tmp_path)).has_video
    assert list(UTD.missing(str(tmp_path)).items()) == [("a9_s1_t1", "no skeleton"), ("a10_s1_t1", "no skeleton")]


def test_a_utd_clip_that_appears_twice_is_refused(tmp_path):
    write_utd(tmp_path)
    (tmp_path / "copy").mkdir()
    write_utd(tmp_path / "copy")
    with pytest.raises(InputError, match=r"clip a2_s3_t4 appears twice: .*Depth/a2_s3_t4_depth\.mat and .*copy"):
        UTD.list_clips(str(tmp_path))


def test_utd_clips_are_sorted_by_number(tmp_path):
    for name in ("a10_s1_t1", "a2_s1_t1", "a1_s1_t1"):
        write_utd(tmp_path, name)
    assert [ref.name for ref in UTD.list_clips(str(tmp_path))] == ["a1_s1_t1", "a2_s1_t1", "a10_s1_t1"]


def write_ucla(folder, content):
    (folder / "a12_s03_e07_v02.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return UCLA.list_clips(str(folder))[0]


def test_ucla_takes_the_class_from_the_label(tmp_path):
    skeletons = np.arange(5 * 60.0).reshape(5, 20, 3)
    skeletons[2] = 0
    clip = UCLA.read(write_ucla(tmp_path, {"label": 10, "skeletons": skeletons.tolist()}))
    assert (clip.label, clip.subject, clip.camera, clip.replication) == (9, 3, 2, 7)
    np.testing.assert_array_equal(clip.xyz[:, 0], skeletons.astype(np.float32))
    assert clip.valid[:, 0].tolist() == [True, True, False, True, True]
    assert clip.video is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "expected label and skeletons as JSON"),
        ("[]", "expected label and skeletons as JSON"),
        ({"skeletons": []}, "expected label and skeletons as JSON"),
        ({"label": 11, "skeletons": [[[1, 2, 3]] * 20]}, "label 11 is none of the set's 10 classes"),
        ('{"label": Infinity, "skeletons": []}', "label Infinity is not a whole number"),
        ("[" * 100_000, r"expected label and skeletons as JSON \(RecursionError"),
        ({"label": 1, "skeletons": [[[1, 2, 1e300]] * 20]}, "not a finite number"),
        ({"label": 1, "skeletons": []}, r"expected skeletons of shape \(T, 20, 3\), found \(0,\)"),
        ({"label": 1, "skeletons": [[[1, 2, 3]] * 19]}, r"found \(1, 19, 3\)"),
        ({"label": 1, "skeletons": [[[1, 2, 3]] * 20, [[1, 2, 3]] * 19]}, "expected label and skeletons as JSON"),
        ({"label": 1, "skeletons": [[[1, 2, float("nan")]] * 20]}, "not a finite number"),
        ({"label": 1, "skeletons": [[[0, 0, 0]] * 20]}, "no body in any of its 1 frames"),
    ],
)
def test_ucla_refuses_malformed_files(tmp_path, content, reason):
    ref = write_ucla(tmp_path, content)
    with pytest.raises(BadClip, match=reason):
        UCLA.read(ref)


@pytest.mark.parametrize("reader", [UTD, UCLA])
def test_an_empty_folder_is_refused_with_the_expected_names(tmp_path, reader):
    with pytest.raises(InputError, match="expected"):
        reader.at(str(tmp_path))
