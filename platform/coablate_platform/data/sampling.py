"""Makes samples from stored clips: pure functions of a clip and a transform.

The origin of the skeleton is the layout's centre joint of person 0. The papers that this project follows say "centred
on joint 1 of person 0", but not whether once per clip or in every frame. Therefore it is a setting, ``data.centring``:

=========  =====================================================  ===============================
setting    origin                                                 what the sample keeps
=========  =====================================================  ===============================
``first``  the joint's first position in the window               the pose and the person's path
``every``  the joint's position in each frame                     the pose alone
=========  =====================================================  ===============================

Absent joints are exactly zero in the clip and in the sample: they are never interpolated, moved or jittered.

The video shows a square, the same one in every frame of a clip, so that walking remains visible. The papers do not say
either from which region it is taken. This is the setting ``data.framing``:

===========  ======================================================================================
setting      region
===========  ======================================================================================
``frame``    the whole frame; evaluation takes the square in its middle, as large as its short side
``persons``  the square around all joints of the whole clip, an eighth of their extent wider on each side
===========  ======================================================================================
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from coablate_platform.data.augment import Transform
from coablate_platform.data.joints import JointLayout
from coablate_platform.data.store import StoredClip, StoredVideo
from coablate_platform.study.config import DataConfig

# T skeleton frames · M persons · V joints · C = 3 channels · F video frames · S pixels of a side

Sample = dict[str, torch.Tensor]
MODALITIES = ("video", "skeleton")

_MARGIN = 1 / 8  # of the joints' extent, on each side: the hands and the top of the head lie beyond their joints


class Region(NamedTuple):
    """A rectangle in pixels of a video frame; it may reach beyond the frame."""

    top: int
    left: int
    height: int
    width: int


def transform_clip(
    clip: StoredClip,
    transform: Transform,
    config: DataConfig,
    layout: JointLayout,
    persons: int,
    modalities: tuple[str, ...] = MODALITIES,
) -> Sample:
    """Make a sample: both modalities come from the same time window and are mirrored together.

    Args:
        clip: a clip of the store.
        transform: from :func:`~coablate_platform.data.augment.random_transform` in training,
            :func:`~coablate_platform.data.augment.evaluation_transform` in evaluation.
        config: sizes, framing, centring, and the standard deviation of the noise on the joints.
        layout: the joints of the store's skeletons.
        persons: number of persons M in the sample; a clip with fewer is filled up with zeros.
        modalities: the modalities to make; without ``video`` no frame is decoded.

    Returns:
        ``video`` (3, F, S, S) float32 in [-1, 1] where the clip has one, ``skeleton`` (3, T', V, M) float32.

    Raises:
        VideoError: the stored video is damaged.
    """
    sample: Sample = {}
    if "video" in modalities and clip.video is not None:
        region = _persons_region(clip, clip.video.size) if config.framing == "persons" else None
        video = transform_video(clip.video, transform, config.size, region)
        sample["video"] = frame_differences(video) if config.motion else video
    if "skeleton" in modalities:
        xyz = transform_skeleton(clip.xyz, transform, config, layout)
        padded = np.zeros((3, config.skeleton_frames, xyz.shape[2], persons), dtype=np.float32)
        padded[..., : xyz.shape[1]] = xyz.transpose(3, 0, 2, 1)[..., :persons]
        sample["skeleton"] = torch.from_numpy(padded)
    return sample


def frame_numbers(count: int, transform: Transform) -> list[int]:
    """Choose one frame in each of equal segments of the time window.

    Args:
        count: number of frames of the clip.
        transform: the window, and the position of the frame in each segment.

    Returns:
        Ascending frame numbers, one per segment; they repeat where the window has fewer frames.
    """
    segments = len(transform.frame_offsets)
    fractions = transform.start + transform.length * (np.arange(segments) + transform.frame_offsets) / segments
    return np.minimum((fractions * count).astype(np.int64), count - 1).tolist()  # type: ignore[no-any-return]


def transform_video(video: StoredVideo, transform: Transform, size: int, region: Region | None = None) -> torch.Tensor:
    """Decode the chosen frames, crop, scale and mirror them, and change their colours.

    Args:
        video: the video of a stored clip.
        transform: the parameters of the sample.
        size: side S of the result in pixels.
        region: the part of the frames that the crop is taken from; None takes it from the whole frame. Beyond the
            frame the result is black.

    Returns:
        (3, F, S, S) float32 in [-1, 1].
    """
    numbers = frame_numbers(len(video.packets), transform)
    top, left, height, width = region or Region(0, 0, *video.size)
    side = max(1, round(transform.crop_side * min(height, width)))
    square = Region(
        top + round(transform.crop_y * (height - side)), left + round(transform.crop_x * (width - side)), side, side
    )
    frames = np.stack([_crop(frame, square) for frame in video.decode(numbers)])
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)  # a view with channels last: torch's fast path for uint8
    if side != size:
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=side > size)
    if transform.flip:
        pixels = pixels.flip(3)
    gain = transform.contrast / 127.5
    result = torch.empty((3, len(numbers), size, size))
    result.copy_(pixels.transpose(0, 1))
    return result.mul_(gain).add_(transform.brightness - transform.contrast).clamp_(-1.0, 1.0)


def frame_differences(video: torch.Tensor) -> torch.Tensor:
    """Return half the difference of each frame to the next.

    Args:
        video: (3, F + 1, S, S) in [-1, 1].

    Returns:
        (3, F, S, S) in [-1, 1].

    Source: the RGB difference of temporal segment networks (Wang et al., ECCV 2016), halved to keep the range.
    """
    return (video[:, 1:] - video[:, :-1]) / 2


def _persons_region(clip: StoredClip, size: tuple[int, int]) -> Region | None:
    """Return the square around all joints that lie on the frames (H, W), with a margin; None without such a joint."""
    if clip.pixels is None:
        return None
    joints = clip.pixels[clip.pixels.any(-1)]  # (J, 2), x then y
    inside = ((joints >= 0) & (joints < (size[1], size[0]))).all(-1)  # False where unknown: NaN
    if not inside.any():
        return None
    low, high = joints[inside].min(0), joints[inside].max(0)
    side = max(1, math.ceil((1 + 2 * _MARGIN) * float((high - low).max())))
    left, top = np.rint((low + high - side) / 2).astype(int).tolist()
    return Region(top, left, side, side)


def _crop(frame: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    """Crop a region from a frame (H, W, 3); what lies beyond the frame is black."""
    top, left, height, width = region
    inner = frame[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inner.shape[:2] == (height, width):
        return inner
    cropped = np.zeros((height, width, 3), dtype=np.uint8)
    first_row, first_column = max(-top, 0), max(-left, 0)
    cropped[first_row : first_row + inner.shape[0], first_column : first_column + inner.shape[1]] = inner
    return cropped


def transform_skeleton(
    xyz: NDArray[np.float32], transform: Transform, config: DataConfig, layout: JointLayout
) -> NDArray[np.float32]:
    """Resample the time window, centre, rotate, scale and mirror the skeleton, and add noise.

    Args:
        xyz: joints (T, M, V, 3) in metres, zeros where absent.
        transform: the parameters of the sample.
        config: length T' of the result, centring, and the standard deviation of the noise in metres.
        layout: the centre joint, and each joint's mirror image.

    Returns:
        (T', M, V, 3), exactly zero where absent.
    """
    last = xyz.shape[0] - 1
    positions = np.linspace(transform.start * last, (transform.start + transform.length) * last, config.skeleton_frames)
    moved, present = _resample(xyz, positions)
    origins = _origins(moved, present, layout.centre)
    if config.centring == "first":
        origins = origins[:1]
    moved = np.asarray((moved - origins[:, None, None]) @ _rotation(transform), dtype=np.float32)
    if transform.flip:
        mirror = list(layout.mirror)
        moved, present = moved[:, :, mirror], present[:, :, mirror]
        moved[..., 0] *= -1
    if transform.noise_seed is not None:
        noise = np.random.Generator(np.random.PCG64(transform.noise_seed)).standard_normal(
            moved.shape, dtype=np.float32
        )
        moved += np.float32(config.jitter) * noise
    moved[~present] = 0.0
    return moved


def _resample(
    xyz: NDArray[np.float32], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Interpolate linearly between two frames; a joint that is absent in one of them is taken from the other.

    Args:
        xyz: joints (T, M, V, 3), zeros where absent.
        positions: frame numbers (T',), fractions included.

    Returns:
        Joints (T', M, V, 3), and whether each is present (T', M, V).
    """
    before = np.floor(positions).astype(np.int64)
    after = np.minimum(before + 1, len(xyz) - 1)
    weight = (positions - before).astype(np.float32)[:, None, None]
    first, second = xyz[before], xyz[after]
    in_first, in_second = first.any(-1), second.any(-1)
    weight = np.where(in_first & in_second, weight, in_second.astype(np.float32))
    mixed = first + (second - first) * weight[..., None]
    # At a whole position the second frame has no weight: the joint is present only if the first frame has it.
    present = np.where(positions[:, None, None] == before[:, None, None], in_first, in_first | in_second)
    return mixed, present


def _origins(xyz: NDArray[np.float32], present: NDArray[np.bool_], centre: int) -> NDArray[np.float32]:
    """Return the position of person 0's centre joint in each frame (T', 3).

    Where the joint is absent, its last position counts; before its first position, the first. If it is absent in all
    frames, all of them get the mean of all present joints, or zero without any.
    """
    tracked = present[:, 0, centre]
    if tracked.any():
        last = np.maximum.accumulate(np.where(tracked, np.arange(len(xyz)), int(tracked.argmax())))
        return np.asarray(xyz[last, 0, centre])
    mean = xyz[present].mean(0) if present.any() else np.zeros(3)
    return np.broadcast_to(np.asarray(mean, dtype=np.float32), (len(xyz), 3))


def _rotation(transform: Transform) -> NDArray[np.float32]:
    """Return the matrix (3, 3) that rotates row vectors about y, then about x, and scales them."""
    cos, sin = math.cos(transform.rotation), math.sin(transform.rotation)
    about_y = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    cos, sin = math.cos(transform.tilt), math.sin(transform.tilt)
    about_x = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    return np.asarray(transform.scale * about_y @ about_x, dtype=np.float32)
