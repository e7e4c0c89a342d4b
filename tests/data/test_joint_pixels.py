"""The joints move with the pixels of the video, and what is off the frame or unknown is not visible."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coablate_platform.data.augment import evaluation_transform
from coablate_platform.data.clips import ClipData
from coablate_platform.data.joints import KINECT_V1
from coablate_platform.data.protocols import get_protocol
from coablate_platform.data.sampling import MODALITIES, frame_numbers, transform_clip
from coablate_platform.study.config import DataConfig

CONFIG = DataConfig(frames=6, size=40, skeleton_frames=16)
PLAIN = evaluation_transform(CONFIG)
TRANSFORMS = {
    "whole": PLAIN,
    "crop": replace(PLAIN, crop_side=0.75, crop_x=0.25, crop_y=0.75),
    "flip": replace(PLAIN, flip=True),
    "crop and flip": replace(PLAIN, crop_side=0.75, crop_x=0.25, crop_y=0.75, flip=True),
    "part of the clip": replace(PLAIN, start=0.25, length=0.5),
}


def _sample(clip, transform=PLAIN, **settings) -> dict[str, torch.Tensor]:
    return transform_clip(clip, transform, replace(CONFIG, **settings), KINECT_V1, 2, MODALITIES)


@pytest.mark.parametrize("size", [40, 96])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_video_is_bright_where_the_joint_is(store, transform, size):
    clip = store.clip(10)  # its video has a white square on joint 0, which is its own mirror image
    sample = _sample(clip, transform, size=size)
    seen = 0
    for frame in range(CONFIG.frames):
        if sample["visible"][frame, 0, 0]:
            x, y = sample["pixels"][:, frame, 0, 0].round().int().tolist()
            assert sample["video"][:, frame, y, x].min() > 0.6
            seen += 1
    assert seen >= 3


def test_left_and_right_swap_with_a_flip(store):
    clip = store.clip(10)
    plain, mirrored = _sample(clip), _sample(clip, TRANSFORMS["flip"])
    mirror = list(KINECT_V1.mirror)
    assert torch.equal(mirrored["visible"], plain["visible"][:, mirror])
    expected = torch.where(plain["visible"], CONFIG.size - 1 - plain["pixels"][0], 0.0)[:, mirror]
    torch.testing.assert_close(mirrored["pixels"][0], expected)


def test_joints_off_the_frame_and_unknown_ones_are_not_visible(store):
    clip = store.clip(10)
    pixels = clip.pixels.copy()
    height, width = clip.video.size
    pixels[:, 0, :5] = [[width / 2, height / 2], [-9, 5], [width / 2, height + 3], [np.nan, np.nan], [0, 0]]
    sample = _sample(replace(clip, pixels=pixels))
    assert sample["visible"][:, :5, 0].tolist() == [[True, False, False, False, False]] * CONFIG.frames
    assert not sample["pixels"][:, :, 1:5, 0].any()
    assert not sample["visible"][..., 1].any()  # there is no second person
    assert sample["pixels"].isfinite().all()


def test_the_skeleton_at_the_frames_is_that_of_the_same_moments(store):
    clip = store.clip(10)
    line = np.ones_like(clip.xyz) * np.arange(1, len(clip.xyz) + 1, dtype=np.float32)[:, None, None, None]
    sample = _sample(replace(clip, xyz=line), jitter=0.0)
    shown = np.minimum(frame_numbers(len(clip.video.packets), PLAIN), len(line) - 1)
    np.testing.assert_allclose(sample["frame_skeleton"][0, :, 3, 0], shown - shown[0], atol=1e-5)


def test_a_poor_pose_estimator_jitters_and_loses_joints(store):
    clip = store.clip(10)
    plain, noisy = _sample(clip), _sample(clip, pixel_jitter=0.05, pixel_dropout=0.5)
    kept = noisy["visible"] & plain["visible"]
    assert 0.2 < kept.sum() / plain["visible"].sum() < 0.6
    moved = (noisy["pixels"] - plain["pixels"])[:, kept]
    assert 0.5 * 0.05 * CONFIG.size < moved.std() < 1.5 * 0.05 * CONFIG.size
    assert torch.equal(noisy["pixels"], _sample(clip, pixel_jitter=0.05, pixel_dropout=0.5)["pixels"])
    other = _sample(clip, replace(PLAIN, pixel_seed=1), pixel_jitter=0.05, pixel_dropout=0.5)
    assert not torch.equal(noisy["visible"], other["visible"])
    assert torch.equal(noisy["video"], plain["video"])


def test_the_control_takes_the_joints_of_another_clip_of_the_class(store):
    def batches(pixels_of):
        config = replace(CONFIG, pixels_of=pixels_of)
        data = ClipData(store, config, get_protocol("utd/cs"), (1, 2), modalities=MODALITIES)
        return list(data.evaluate("test", 4))

    changed = 0
    for own, other in zip(batches("clip"), batches("class"), strict=True):
        assert torch.equal(own["video"], other["video"])
        assert torch.equal(own["skeleton"], other["skeleton"])
        changed += int((own["pixels"] != other["pixels"]).flatten(1).any(1).sum())
    assert changed > 10
