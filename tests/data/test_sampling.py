"""Samples are pure functions of clip and transform; absent joints stay zero; a flip mirrors both modalities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coablate_platform.data.augment import Transform, evaluation_transform, random_transform
from coablate_platform.data.joints import KINECT_V1, LAYOUTS, JointLayout
from coablate_platform.data.pixel_sampling import Region
from coablate_platform.data.sampling import frame_numbers, transform_clip, transform_video
from coablate_platform.data.skeleton_sampling import transform_skeleton, window_positions
from coablate_platform.data.store import StoredClip, StoredVideo
from coablate_platform.study.config import DataConfig
from coablate_platform.study.streams import stream, stream_seed

CONFIG = DataConfig(frames=6, size=40, skeleton_frames=16, flip=0.5)
PLAIN = replace(evaluation_transform(CONFIG), crop_side=1.0)


def _random(config: DataConfig, generator: np.random.Generator) -> Transform:
    return random_transform(config, generator, frames=24, joints=20)


def _skeleton(xyz, transform: Transform = PLAIN, layout: JointLayout = KINECT_V1, **settings):
    config = replace(CONFIG, **({"jitter": 0.0} | settings))
    positions = window_positions(len(xyz), transform, config.skeleton_frames)
    return transform_skeleton(np.asarray(xyz, np.float32), positions, transform, config, layout)


def _whole(clip: StoredClip) -> Region:
    """Return the square in the middle of the frame."""
    height, width = clip.video.size
    side = min(height, width)
    return Region(round((height - side) / 2), round((width - side) / 2), side, side)


def _video(video: StoredVideo, size: int, square: Region) -> torch.Tensor:
    return transform_video(video, frame_numbers(len(video.packets), PLAIN), square, PLAIN, size)


def _clip(frames: int = 24, persons: int = 2):
    return np.random.default_rng(3).normal(1.0, 1.0, (frames, persons, 20, 3)).astype(np.float32)


def test_a_stream_depends_on_its_keys_alone():
    assert stream(1, 2, "order", 3).integers(2**60) == stream(1, 2, "order", 3).integers(2**60)
    seeds = {stream_seed(1, 2), stream_seed(12), stream_seed("1", 2), stream_seed(2, 1), stream_seed("1,2")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_equal_generators_give_equal_samples(store):
    clip = store.clip(30)
    samples = [transform_clip(clip, _random(CONFIG, stream("a", key)), CONFIG, KINECT_V1, 2) for key in (1, 1, 2)]
    for name in ("video", "skeleton"):
        assert torch.equal(samples[0][name], samples[1][name])
        assert not torch.equal(samples[0][name], samples[2][name])


def test_modalities_do_not_change_each_other(store):
    clip, transform = store.clip(30), _random(CONFIG, stream("a", 1))
    both = transform_clip(clip, transform, CONFIG, KINECT_V1, 2)
    for name in ("video", "skeleton"):
        alone = transform_clip(clip, transform, CONFIG, KINECT_V1, 2, (name,))
        assert list(alone) == [name]
        assert torch.equal(alone[name], both[name])


def test_motion_gives_the_differences_of_one_frame_more(store):
    """The skeleton and all other random numbers stay the same."""
    clip, moving = store.clip(0), replace(CONFIG, motion=True)
    longer = replace(CONFIG, frames=CONFIG.frames + 1)
    sample = transform_clip(clip, _random(moving, stream(1)), moving, KINECT_V1, 2)
    frames = transform_clip(clip, _random(longer, stream(1)), longer, KINECT_V1, 2)
    assert sample["video"].shape == (3, 6, 40, 40)
    assert torch.equal(sample["video"], (frames["video"][:, 1:] - frames["video"][:, :-1]) / 2)
    assert 0 < sample["video"].abs().max() <= 1
    assert torch.equal(sample["skeleton"], frames["skeleton"])
    still = replace(evaluation_transform(moving), start=0.5, length=0.0)
    assert not transform_clip(clip, still, moving, KINECT_V1, 2)["video"].any()


def test_shapes_and_ranges(store):
    for transform in (evaluation_transform(CONFIG), *(_random(CONFIG, stream(seed)) for seed in range(5))):
        sample = transform_clip(store.clip(0), transform, CONFIG, KINECT_V1, 3)
        assert sample["video"].shape == (3, 6, 40, 40)
        assert sample["skeleton"].shape == (3, 16, 20, 3)
        assert sample["video"].abs().max() <= 1
        assert sample["skeleton"].isfinite().all()
        assert {tensor.dtype for tensor in sample.values()} == {torch.float32}
        assert all(tensor.is_contiguous() for tensor in sample.values())


def test_absent_persons_stay_exactly_zero():
    xyz = _clip()
    xyz[:, 1] = 0
    for seed in range(4):
        out = _skeleton(xyz, _random(CONFIG, stream(seed)), jitter=0.01)
        assert (out[:, 1] == 0).all()
        assert (out[:, 0] != 0).any(-1).all()


def test_a_gap_stays_a_gap_and_is_not_blended():
    xyz = _clip(9, 1)
    xyz[4:7] = 0
    out = _skeleton(xyz, skeleton_frames=17)  # every half frame
    absent = (out == 0).all((1, 2, 3))
    assert absent.nonzero()[0].tolist() == [8, 9, 10, 11, 12]
    origin = xyz[0, 0, KINECT_V1.centre]
    np.testing.assert_allclose(out[7], xyz[3] - origin, atol=1e-6)  # half way into the gap: the last position before it
    np.testing.assert_allclose(out[13], xyz[7] - origin, atol=1e-6)
    np.testing.assert_allclose(out[1], (xyz[0] + xyz[1]) / 2 - origin, atol=1e-6)


def test_the_centre_is_person_0_where_first_tracked():
    xyz = _clip()
    xyz[:3, 0] = 0
    out = _skeleton(xyz, skeleton_frames=24)
    np.testing.assert_array_equal(out[3, 0, KINECT_V1.centre], [0, 0, 0])
    np.testing.assert_allclose(out[0, 1], xyz[0, 1] - xyz[3, 0, KINECT_V1.centre], atol=1e-6)
    assert (out[:3, 0] == 0).all()


def test_centred_in_every_frame_the_centre_joint_does_not_move():
    xyz = _clip()
    out = _skeleton(xyz, skeleton_frames=24, centring="every")
    np.testing.assert_allclose(out, xyz - xyz[:, :1, KINECT_V1.centre, None], atol=1e-6)
    walking = xyz + np.linspace(0, 4, 24, dtype=np.float32)[:, None, None, None]
    np.testing.assert_allclose(_skeleton(walking, skeleton_frames=24, centring="every"), out, atol=1e-5)
    assert not np.allclose(_skeleton(walking, skeleton_frames=24), _skeleton(xyz, skeleton_frames=24), atol=1)


def test_an_absent_centre_joint_has_its_last_position():
    xyz = _clip()
    xyz[[0, 5, 6], 0, KINECT_V1.centre] = 0
    out = _skeleton(xyz, skeleton_frames=24, centring="every")
    for frame, origin in ((0, 1), (5, 4), (6, 4), (7, 7)):
        np.testing.assert_allclose(out[frame, 1], xyz[frame, 1] - xyz[origin, 0, KINECT_V1.centre], atol=1e-6)


@pytest.mark.parametrize("centring", ["first", "every"])
def test_an_empty_skeleton_stays_empty(centring):
    empty = np.zeros((5, 2, 20, 3))
    assert (_skeleton(empty, _random(CONFIG, stream(0)), jitter=0.1, centring=centring) == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_mirroring_twice_restores_the_skeleton(layout):
    xyz = np.random.default_rng(0).normal(size=(8, 2, len(layout.joints), 3)).astype(np.float32)
    flip = replace(PLAIN, flip=True)
    plain = _skeleton(xyz, PLAIN, layout, skeleton_frames=8)
    once = _skeleton(xyz, flip, layout, skeleton_frames=8)
    twice = _skeleton(once + 5, flip, layout, skeleton_frames=8)  # added so that no joint is zero, which means absent
    np.testing.assert_allclose(twice, plain, atol=1e-5)
    left = layout.joints.index("left wrist")
    right = layout.joints.index("right wrist")
    np.testing.assert_allclose(once[:, :, left, 1:], plain[:, :, right, 1:])


def test_a_flip_mirrors_the_video_about_the_same_axis(store):
    clip = store.clip(30)
    plain, mirrored = (
        transform_clip(clip, replace(PLAIN, flip=flip), CONFIG, KINECT_V1, 2, ("video",))["video"]
        for flip in (False, True)
    )
    assert torch.equal(mirrored, plain.flip(3))


def test_the_video_shows_where_the_joint_is(store):
    clip = store.clip(10)  # its video has a white square on joint 0
    transform = replace(PLAIN, crop_x=0.0)
    config = replace(CONFIG, size=48)  # the square of the whole height is not scaled
    out = transform_clip(clip, transform, config, KINECT_V1, 2, ("video",))["video"]
    for place, number in enumerate(frame_numbers(len(clip.video.packets), transform)):
        x, y = clip.pixels[number, 0, 0].astype(int)
        assert out[:, place, y, x].min() > 0.8
        assert out[:, place, y + 12, x].max() < 0.3


def test_framing_on_persons_shows_the_square_around_their_joints(store):
    clip, config = _marked(store), replace(CONFIG, framing="persons", size=40)
    whole_clip = transform_clip(clip, PLAIN, config, KINECT_V1, 2, ("video",))["video"]
    # Joints reach from (8, 10) to (40, 26): 32 pixels and an eighth on each side are 40 around (24, 18).
    assert torch.equal(whole_clip, _video(clip.video, 40, Region(-2, 4, 40, 40)))
    assert (whole_clip[:, :, :2] == -1).all()  # two rows above the frame
    assert (whole_clip[:, :, 2:] > -1).any()
    flipped = transform_clip(clip, replace(PLAIN, flip=True), config, KINECT_V1, 2, ("video",))["video"]
    assert torch.equal(flipped, whole_clip.flip(3))


def test_a_crop_is_taken_from_the_framed_region(store):
    clip, transform = _marked(store), replace(PLAIN, crop_side=0.5, crop_y=1.0, crop_x=0.0)
    config = replace(CONFIG, framing="persons", size=20)
    corner = transform_clip(clip, transform, config, KINECT_V1, 2, ("video",))["video"]
    assert torch.equal(corner, _video(clip.video, 20, Region(18, 4, 20, 20)))


@pytest.mark.parametrize("region", [Region(-30, -30, 20, 20), Region(500, 3, 20, 20), Region(3, 500, 20, 20)])
def test_beyond_the_frame_the_video_is_black(store, region):
    assert (_video(store.clip(10).video, 20, region) == -1).all()


@pytest.mark.parametrize("pixels", [0.0, np.nan, -5.0, 9e3], ids=["absent", "unknown", "left of it", "right of it"])
def test_without_a_joint_on_the_frames_the_whole_frame_is_shown(store, pixels):
    clip = store.clip(10)
    nowhere = replace(clip, pixels=np.full_like(clip.pixels, pixels))
    config = replace(CONFIG, framing="persons")
    shown = transform_clip(nowhere, PLAIN, config, KINECT_V1, 2, ("video",))["video"]
    assert torch.equal(shown, _video(clip.video, CONFIG.size, _whole(clip)))


def _marked(store):
    """Return a clip with two joints inside of the frame, and others absent, unknown or outside."""
    clip = store.clip(10)
    pixels = np.full_like(clip.pixels, np.nan)
    pixels[0, 0, :2] = [[8, 10], [40, 26]]
    pixels[1, 0, :3] = [[0, 0], [-400, 12], [20, 9e3]]
    return replace(clip, pixels=pixels)


def test_both_modalities_see_the_same_window():
    transform = replace(PLAIN, start=0.5, length=0.25)
    assert frame_numbers(100, transform) == [52, 56, 60, 64, 68, 72]
    line = np.ones((101, 1, 20, 3), np.float32) * np.arange(1, 102)[:, None, None, None]
    seen = _skeleton(line, transform)[:, 0, 0, 0]
    np.testing.assert_allclose(seen, np.linspace(0, 25, 16), atol=1e-4)


def test_short_clips_repeat_frames():
    assert frame_numbers(1, PLAIN) == [0] * 6
    assert frame_numbers(3, PLAIN) == [0, 0, 1, 1, 2, 2]
    assert _skeleton(_clip(1)).shape == (16, 2, 20, 3)


def test_rotation_keeps_lengths_and_the_vertical():
    xyz = _clip()
    plain = _skeleton(xyz)
    turned = _skeleton(xyz, replace(PLAIN, rotation=0.4))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(plain, axis=-1), rtol=1e-4)
    np.testing.assert_allclose(turned[..., 1], plain[..., 1], atol=1e-5)
    assert not np.allclose(turned[..., 0], plain[..., 0], atol=0.1)
    larger = _skeleton(xyz, replace(PLAIN, scale=1.1, tilt=0.2))
    np.testing.assert_allclose(np.linalg.norm(larger, axis=-1), 1.1 * np.linalg.norm(plain, axis=-1), rtol=1e-4)


def test_random_transforms_stay_in_their_ranges():
    transforms = [_random(CONFIG, stream("ranges", seed)) for seed in range(300)]
    assert all(
        0.5 <= transform.length <= 1 and 0 <= transform.start <= 1 - transform.length for transform in transforms
    )
    assert all(
        0.8 <= transform.crop_side <= 1 and abs(transform.rotation) <= 0.5 and 0.85 <= transform.scale <= 1.15
        for transform in transforms
    )
    assert 100 < sum(transform.flip for transform in transforms) < 200
    still = _random(
        DataConfig(crop_ratio=1, spatial_crop=1, flip=0, colour=0, rotation=0, tilt=0, scale=0, jitter=0), stream(0)
    )
    assert (still.start, still.length, still.crop_side, still.flip, still.noise_seed) == (0, 1, 1, False, None)
    assert (still.brightness, still.contrast, still.rotation, still.tilt, still.scale) == (0, 1, 0, 0, 1)
