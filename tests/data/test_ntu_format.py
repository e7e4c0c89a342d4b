"""The reader of NTU: clips in folders and archives, bodies tracked by id, people told from furniture."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef
from coablate_platform.data.formats.ntu import Ntu, class_names, missing_names
from coablate_platform.data.synthetic.write import write_video
from coablate_platform.study.errors import InputError

NAME = "S001C002P003R002A004"
BIG = 2**56
V = 25
PICTURES = np.stack([np.full((48, 64, 3), (250, 20, 40 * number), dtype=np.uint8) for number in range(5)])


def body_text(body, xyz):
    """Text of one body from joints (25, 3); colour position = 1000·x, 1000·y."""
    lines = [f"{body} 0 1 1 1 1 0 0 0 2", str(V)]
    for x, y, z in xyz:
        lines.append(f"{x:.7g} {y:.7g} {z:.7g} 1 2 {1000 * x:.7g} {1000 * y:.7g} 0 0 0 1 2")
    return lines


def clip_text(frames):
    """Text of a clip: a list of frames, each a list of (id, joints)."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, xyz in bodies:
            lines += body_text(body, xyz)
    return "\n".join(lines) + "\n"


def person(frame, speed=0.01, at=0.0):
    """Joints of a person 0.4 m wide and 1.7 m tall who walks along x."""
    xyz = np.stack([np.linspace(0, 0.4, V), np.linspace(0, 1.7, V)[::-1], np.full(V, 3.0)], axis=-1)
    return xyz + np.array([at + speed * frame, 0, 0])


def furniture(frame):
    """Joints of a body that is wider than tall and moves a lot."""
    xyz = np.stack([np.linspace(0, 2, V), np.linspace(0, 0.5, V), np.full(V, 3.0)], axis=-1)
    return xyz + np.array([0, 0, 0.5 * frame])


@pytest.fixture
def read(tmp_path):
    def read(frames, name=NAME):
        (tmp_path / f"{name}.skeleton").write_text(frames if isinstance(frames, str) else clip_text(frames))
        return Ntu().read(Ntu().list_clips(str(tmp_path))[0])

    return read


def test_the_name_gives_setup_camera_performer_replication_and_action(read):
    clip = read([[(1, person(t))] for t in range(20)])
    assert (clip.setup, clip.camera, clip.subject, clip.replication, clip.label) == (1, 2, 3, 2, 3)
    assert clip.xyz.shape == (20, 1, V, 3)
    assert clip.xyz.dtype == np.float32
    assert clip.valid.all()
    assert clip.pixels is None
    assert clip.video is None


def test_people_who_swap_slots_keep_their_track(read):
    frames = []
    for t in range(20):
        pair = [(BIG + 1, person(t, 0.05)), (BIG, person(t, 0.01, at=2.0))]
        frames.append(pair if t % 3 else pair[::-1])
    clip = read(frames)
    np.testing.assert_allclose(clip.xyz[:, 0], [person(t, 0.05) for t in range(20)], rtol=1e-6)
    np.testing.assert_allclose(clip.xyz[:, 1], [person(t, 0.01, at=2.0) for t in range(20)], rtol=1e-6)


def test_a_gap_stays_a_gap(read):
    frames = [[(1, person(t))] if t not in (0, 7, 8, 19) else [] for t in range(20)]
    clip = read(frames)
    assert np.flatnonzero(~clip.valid[:, 0]).tolist() == [0, 7, 8, 19]
    assert not clip.xyz[~clip.valid].any()
    np.testing.assert_allclose(clip.xyz[9, 0], person(9), rtol=1e-6)


def test_of_three_people_the_two_that_move_most_are_kept(read):
    speeds = {BIG: 0.02, BIG + 1: 0.001, BIG + 2: 0.05}
    clip = read([[(body, person(t, speed)) for body, speed in speeds.items()] for t in range(20)])
    assert clip.xyz.shape[1] == 2
    moved = clip.xyz[-1, :, 0, 0] - clip.xyz[0, :, 0, 0]
    np.testing.assert_allclose(moved, [0.05 * 19, 0.02 * 19], rtol=1e-5)


@pytest.mark.parametrize(("lived", "kept"), [(11, 1), (12, 2)])
def test_a_body_of_eleven_frames_is_noise(read, lived, kept):
    frames = [[(1, person(t, 0.001))] + ([(2, person(t, 0.9))] if t < lived else []) for t in range(40)]
    assert read(frames).xyz.shape[1] == kept


@pytest.mark.parametrize(("wide", "kept"), [(27, 2), (28, 1)])
def test_furniture_is_wide_in_most_of_its_frames(read, wide, kept):
    # 28 of 40 frames are 70 %, 27 are 67.5 %: the threshold is 69.754 %.
    frames = [[(1, person(t)), (2, furniture(t) if t < wide else person(t, 0.5))] for t in range(40)]
    assert read(frames).xyz.shape[1] == kept


def test_the_last_body_is_never_dropped(read):
    assert read([[(1, furniture(t))] for t in range(5)]).valid.all()
    short = read([[(1, person(t)), (2, person(t, 0.5))] if t < 5 else [] for t in range(20)])
    np.testing.assert_allclose(short.xyz[4, 0], person(4, 0.5), rtol=1e-6)


def test_joints_without_a_position_are_filled(read):
    text = clip_text([[(1, person(t, 0.1))] for t in range(20)]).splitlines()
    joint = 1 + 10 * (3 + V) + 3 + 4  # frame 10, joint 4
    text[joint] = "NaN NaN NaN NaN NaN NaN NaN 0 0 0 0 0"
    lost = 1 + 12 * (3 + V) + 3  # frame 12, all joints
    text[lost : lost + V] = ["NaN NaN NaN NaN NaN NaN NaN 0 0 0 0 0"] * V
    clip = read("\n".join(text))
    assert np.isfinite(clip.xyz).all()
    np.testing.assert_allclose(clip.xyz[10, 0], person(10, 0.1), rtol=1e-5)
    assert np.flatnonzero(~clip.valid[:, 0]).tolist() == [12]


def test_pixels_are_kept_where_the_sensor_gave_them(tmp_path):
    text = clip_text([[(1, person(t))] for t in range(5)]).splitlines()
    text[4] = "0 1 3 1 2 -1.#IND 5 0 0 0 1 2"
    (tmp_path / f"{NAME}.skeleton").write_text("\n".join(text))
    write_video(tmp_path / f"{NAME}_rgb.avi", PICTURES)
    clip = Ntu().read(Ntu().list_clips(str(tmp_path))[0])
    assert np.isnan(clip.pixels[0, 0, 0]).all()
    np.testing.assert_allclose(clip.pixels[1:], 1000 * clip.xyz[1:, ..., :2], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("text", ["2\n0\n0\n", clip_text([[(1, np.full((V, 3), np.nan))]])])
def test_a_clip_without_a_body_is_refused(read, text):
    with pytest.raises(BadClip, match=r"no body in any of its \d frames"):
        read(text)


def fill(folder: Path, names, videos=()):
    folder.mkdir(parents=True, exist_ok=True)
    text = clip_text([[(1, person(t))] for t in range(5)])
    for name in names:
        (folder / f"{name}.skeleton").write_text(text)
    for name in videos:
        write_video(folder / f"{name}_rgb.avi", PICTURES)


def test_video_and_skeleton_pair_by_name_not_by_order(tmp_path):
    names = [f"S001C001P001R001A00{n}" for n in (1, 2, 3)]
    fill(tmp_path / "skeletons", names)
    fill(tmp_path / "videos", [], [names[2], "S001C001P001R001A009"])
    clips = Ntu().list_clips(str(tmp_path))
    assert [clip.name for clip in clips] == names
    assert [clip.video is not None for clip in clips] == [False, False, True]
    assert Path(clips[2].video.uri).name == f"{names[2]}_rgb.avi"
    assert pickle.loads(pickle.dumps(clips)) == clips


def test_archives_read_like_folders(tmp_path):
    name = "S001C001P001R001A001"
    fill(tmp_path / "plain", [name], [name])
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "skeletons.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "plain" / f"{name}.skeleton", f"nturgb+d_skeletons/{name}.skeleton")
    with zipfile.ZipFile(tmp_path / "zipped" / "videos.zip", "w") as archive:
        archive.write(tmp_path / "plain" / f"{name}_rgb.avi", f"rgb/{name}_rgb.avi")
    plain, zipped = (Ntu().read(Ntu().list_clips(str(tmp_path / folder))[0]) for folder in ("plain", "zipped"))
    np.testing.assert_array_equal(plain.xyz, zipped.xyz)
    assert plain.video.size == zipped.video.size == (48, 64)
    np.testing.assert_array_equal(list(plain.video.frames()), list(zipped.video.frames()))
    alone = Ntu().list_clips(str(tmp_path / "zipped" / "skeletons.zip"))
    assert [clip.video for clip in alone] == [None]


def test_frames_are_rgb_and_scaled(tmp_path):
    fill(tmp_path, [NAME], [NAME])
    video = Ntu().read(Ntu().list_clips(str(tmp_path))[0]).video
    frames = np.stack(list(video.frames()))
    assert frames.shape == (5, 48, 64, 3)
    assert np.abs(frames[0].mean((0, 1)) - [250, 20, 0]).max() < 12  # red first: the codec is lossy
    assert next(video.frames((24, 32))).shape == (24, 32, 3)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no video at all" * 99, lambda data: data[:200]])
def test_a_damaged_video_is_refused(tmp_path, damage):
    fill(tmp_path, [NAME], [NAME])
    path = tmp_path / f"{NAME}_rgb.avi"
    path.write_bytes(damage(path.read_bytes()))
    clip = Ntu().read(Ntu().list_clips(str(tmp_path))[0])
    with pytest.raises(BadClip) as caught:
        list(clip.video.frames())
    assert caught.value.file == str(path)


def test_a_file_that_was_removed_is_refused(tmp_path):
    gone = ClipRef(name=NAME, skeleton=FileRef(uri=str(tmp_path / f"{NAME}.skeleton")))
    with pytest.raises(BadClip, match="does not exist any more"):
        Ntu().read(gone)


def test_a_bad_clip_can_be_pickled():
    error = pickle.loads(pickle.dumps(BadClip("a.skeleton", "is bad", 7)))
    assert str(error) == "a.skeleton:7: is bad"
    assert (error.file, error.reason, error.line) == ("a.skeleton", "is bad", 7)


def test_the_largest_action_number_tells_ntu_60_from_120(tmp_path):
    fill(tmp_path, ["S001C001P001R001A060"])
    small = Ntu().at(str(tmp_path))
    assert (len(small.classes), small.default_protocol, small.has_video) == (60, "ntu60/cs", False)
    fill(tmp_path, ["S018C001P041R001A061"], ["S018C001P041R001A061"])
    large = Ntu().at(str(tmp_path))
    assert (len(large.classes), large.default_protocol, large.has_video) == (120, "ntu120/csub", True)
    assert large.classes[:60] == small.classes


def test_a_generated_set_names_its_classes_and_has_no_missing_list(tmp_path):
    listed = missing_names()[0]
    fill(tmp_path, [listed, "S001C001P001R001A002"])
    assert list(Ntu().missing(str(tmp_path))) == [listed]
    description = {"classes": ["wave", "push"], "default_protocol": "synthetic/cs", "persons": 2, "generator": {}}
    (tmp_path / "coablate_set.json").write_text(json.dumps(description))
    reader = READERS["ntu"].at(str(tmp_path))
    assert reader.classes == ("wave", "push")
    assert reader.default_protocol == "synthetic/cs"
    assert reader.missing(str(tmp_path)) == {}
    with pytest.raises(BadClip, match="action 8 is none of the set's 2 classes"):
        reader.read(next(clip for clip in reader.list_clips(str(tmp_path)) if clip.name.endswith("A008")))


def test_a_generated_set_in_a_subfolder_is_not_read_as_the_published_set(tmp_path):
    (tmp_path / "set").mkdir()
    fill(tmp_path / "set", [NAME])
    (tmp_path / "set" / "coablate_set.json").write_text("{}")
    with pytest.raises(InputError, match=r"lies in a subfolder or archive \(.*set/coablate_set\.json\)"):
        Ntu().at(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected classes, default_protocol and persons"),
        ('{"classes": []}', "expected classes, default_protocol and persons"),
        (
            '{"classes": ["a"], "default_protocol": "synthetic/cd", "persons": 2}',
            r"no protocol 'synthetic/cd' \(did you mean 'synthetic/c[sv]'",
        ),
        ('{"classes": ["a"], "default_protocol": "synthetic/cs", "persons": 0}', "persons is 0"),
        ('{"classes": ["a"], "default_protocol": [], "persons": 2}', "no protocol"),
        ('{"classes": ["a"], "default_protocol": "synthetic/cs", "persons": true}', "persons is True"),
        ('{"classes": ["a"], "default_protocol": "synthetic/cs", "persons": 1000000000}', "persons is 1000000000"),
        ('{"classes": "abc", "default_protocol": "synthetic/cs", "persons": 2}', "classes is abc, not a list of names"),
        (
            '{"classes": [1], "default_protocol": "synthetic/cs", "persons": 2}',
            r"classes is \[1\], not a list of names",
        ),
    ],
)
def test_a_malformed_description_is_refused(tmp_path, content, message):
    fill(tmp_path, [NAME])
    (tmp_path / "coablate_set.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Ntu().at(str(tmp_path))


def test_videos_without_a_skeleton_are_listed_as_missing(tmp_path):
    listed, alone = missing_names()[0], "S001C001P001R001A009"
    fill(tmp_path, [NAME], [NAME, listed, alone])
    missing = Ntu().missing(str(tmp_path))
    assert missing[alone] == "no skeleton"
    assert "official list" in missing[listed]
    assert sorted(missing) == list(missing) == sorted([alone, listed])


def test_a_folder_without_clips_is_refused_with_the_expected_names(tmp_path):
    with pytest.raises(InputError, match=r"expected NTU RGB\+D files named like S001C001P001R001A001\.skeleton"):
        Ntu().list_clips(str(tmp_path))
    with pytest.raises(InputError, match="no such file or folder"):
        Ntu().list_clips(str(tmp_path / "nowhere"))
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"broken\.zip: not a readable zip archive"):
        Ntu().list_clips(str(tmp_path))


def test_a_clip_that_appears_twice_is_refused(tmp_path):
    fill(tmp_path / "a", [NAME])
    fill(tmp_path / "b", [NAME])
    with pytest.raises(InputError, match=f"clip {NAME} appears twice"):
        Ntu().list_clips(str(tmp_path))


def test_the_lists_of_classes_and_missing_samples_are_complete():
    assert len(class_names()) == len(set(class_names())) == 120
    assert (class_names()[0], class_names()[49]) == ("drink water", "punching/slapping other person")
    assert len(set(missing_names())) == 535
    assert sum(name <= "S017Z" for name in missing_names()) == 302
