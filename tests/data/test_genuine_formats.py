"""The published files of four data sets, where they are available."""

import numpy as np
import pytest

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.ntu import class_names, missing_names
from coablate_platform.data.protocols import get_protocol

pytestmark = pytest.mark.data


def open_set(name, folder):
    return READERS[name].at(str(folder)), READERS[name].list_clips(str(folder))


def test_ntu_clips_have_the_known_lengths(genuine_data):
    reader, refs = open_set("ntu", genuine_data / "ntu")
    clips = {ref.name: reader.read(ref) for ref in refs}
    frames = {"A001": 103, "A002": 158, "A003": 104, "A004": 99, "A005": 54, "A011": 82, "A050": 74}
    assert {name[-4:]: len(clip.xyz) for name, clip in clips.items()} == frames
    assert {name[-4:]: clip.xyz.shape[1] for name, clip in clips.items()} == {**dict.fromkeys(frames, 1), "A050": 2}
    assert all(clip.valid.all() for clip in clips.values())
    assert [name for name, clip in clips.items() if clip.video] == ["S001C001P001R001A001"]


def test_the_ntu_pair_is_of_one_length(genuine_data):
    reader, refs = open_set("ntu", genuine_data / "ntu")
    pair = reader.read(refs[0])
    assert sum(1 for _ in pair.video.frames((27, 48))) == len(pair.xyz) == 103
    assert pair.video.size == (1080, 1920)
    np.testing.assert_array_equal(pair.pixels[0, 0, 0], np.float32([1036.233, 519.1677]))
    np.testing.assert_array_equal(pair.xyz[0, 0, 0], np.float32([0.2181153, 0.1725972, 3.785547]))


def test_ntu_facts_equal_the_official_lists(genuine_data):
    folder = genuine_data / "ntu"
    assert set(missing_names()) == set((folder / "missing_skeletons_ntu120.txt").read_text().split())
    small = set((folder / "missing_skeletons_ntu60.txt").read_text().split())
    assert {name for name in missing_names() if name <= "S017Z"} == small
    lines = (folder / "action_names.tsv").read_text().splitlines()
    assert class_names() == tuple(line.split("\t")[1] for line in lines)


def test_utd_has_861_clips_split_by_subject(genuine_data):
    reader, refs = open_set("utd_mhad", genuine_data / "utd_mhad")
    assert len({ref.name for ref in refs}) == 861
    fields = [[int(part[1:]) for part in ref.name.split("_")] for ref in refs]
    assert len({action for action, _, _ in fields}) == len(reader.classes) == 27
    rows = {name: np.array([subject for _, subject, _ in fields]) for name in ("subject", "camera", "setup")}
    assert len(get_protocol("utd/cs").split(rows, hold_out=False)["train"]) == 431
    assert len(get_protocol("utd/cs").split(rows)["test"]) == 430


def test_utd_joints_lie_on_the_rendered_figure(genuine_data):
    reader, refs = open_set("utd_mhad", genuine_data / "utd_mhad")
    clip = reader.read(refs[400])
    frames = np.stack(list(clip.video.frames()))
    assert frames.shape == (len(clip.xyz), *clip.video.size, 3) == (len(clip.xyz), 240, 240, 3)
    u, v = np.moveaxis(clip.pixels[:, 0].round().astype(int), -1, 0)
    trunk = [reader.layout.joints.index(name) for name in ("spine", "shoulder centre", "left hip", "right hip", "head")]
    on_figure = frames[np.arange(len(frames))[:, None], v[:, trunk], u[:, trunk]].any(-1)
    assert on_figure.mean() > 0.95
    # Upright: the head above the spine, the feet below, in metres (y up) and in pixels (y down).
    head, spine, foot = (reader.layout.joints.index(name) for name in ("head", "spine", "left foot"))
    assert (clip.xyz[:, 0, head, 1] > clip.xyz[:, 0, spine, 1]).all()
    assert (clip.pixels[:, 0, head, 1] < clip.pixels[:, 0, spine, 1]).all()
    assert (clip.pixels[:, 0, foot, 1] > clip.pixels[:, 0, spine, 1]).all()


def test_ucla_is_split_by_view(genuine_data):
    reader, refs = open_set("nw_ucla", genuine_data / "nw_ucla")
    clips = [reader.read(ref) for ref in refs[::25]]
    assert len(refs) == 1484
    assert {clip.xyz.shape[1:] for clip in clips} == {(1, 20, 3)}
    assert {clip.label for clip in clips} == set(range(10))
    views = np.array([int(ref.name[-2:]) for ref in refs])
    rows = {"camera": views, "subject": np.ones_like(views), "setup": np.ones_like(views)}
    sizes = {name: len(part) for name, part in get_protocol("ucla/cv").split(rows, hold_out=False).items()}
    assert sizes == {"train": 1020, "validation": 0, "test": 464}


def test_kinect_v1_sets_share_one_order_of_joints(genuine_data):
    """The order in the files differs; with a wrong order, bones would be too long."""
    lengths = {}
    for name in ("utd_mhad", "nw_ucla"):
        reader, refs = open_set(name, genuine_data / name)
        xyz = np.concatenate([reader.read(ref).xyz[:, 0] for ref in refs[::100]])
        child, parent = np.array(reader.layout.bones).T
        lengths[name] = np.median(np.linalg.norm(xyz[:, child] - xyz[:, parent], axis=-1), axis=0)
    assert max(lengths["utd_mhad"].max(), lengths["nw_ucla"].max()) < 0.6
    np.testing.assert_allclose(lengths["utd_mhad"], lengths["nw_ucla"], atol=0.12)


def test_jhmdb_has_three_splits_and_holds_out_source_videos(genuine_data):
    reader, refs = open_set("jhmdb", genuine_data / "jhmdb")
    assert len(refs) == 609
    assert ",".join(reader.classes) == "catch,clap,golf,jump,pick,pour,pullup,push,run,sit,stand,throw,walk,wave"
    assert reader.missing(str(genuine_data / "jhmdb")) == {}
    clips = [reader.read(ref) for ref in refs]
    assert np.bincount([clip.label for clip in clips]).tolist() == [
        48,
        44,
        42,
        39,
        40,
        55,
        55,
        42,
        40,
        39,
        36,
        46,
        41,
        42,
    ]
    rows = {name: np.array([getattr(clip, name) for clip in clips]) for name in ("subject", "camera", "setup")}
    sizes = {1: (433, 84, 176), 2: (433, 87, 176), 3: (434, 89, 175)}
    for number, (train, validation, test) in sizes.items():
        parts = get_protocol(f"jhmdb/split{number}").split(rows)
        found = {name: len(part) for name, part in parts.items()}
        assert found == {"train": train - validation, "validation": validation, "test": test}
        assert not set(rows["subject"][parts["train"]]) & set(rows["subject"][parts["validation"]])


def test_jhmdb_joints_lie_on_the_person(genuine_data):
    """In the picture (u right, v down) as in space (y up), and both streams have as many frames."""
    reader, refs = open_set("jhmdb", genuine_data / "jhmdb")
    clips = [reader.read(ref) for ref in refs[::40]]
    assert {clip.xyz.shape[1:] for clip in clips} == {(1, 15, 3)}
    assert all(clip.valid.all() and clip.xyz.any(-1).all() and clip.pixels.any(-1).all() for clip in clips)
    for clip in clips[:4]:
        assert sum(1 for _ in clip.video.frames()) == len(clip.xyz)
    for clip in clips:
        x, y = np.moveaxis(clip.xyz[0, 0, :, :2], -1, 0)
        u, v = np.moveaxis(clip.pixels[0, 0], -1, 0)
        assert np.corrcoef(x, u)[0, 1] > 0.999
        assert np.corrcoef(y, v)[0, 1] < -0.999
        # The origin is the picture's middle, so its pixel follows from the two scales.
        slope, middle = np.polyfit(x, u, 1)
        assert abs(middle - (clip.video.size[1] - 1) / 2) < 0.5 + 0.02 * slope
