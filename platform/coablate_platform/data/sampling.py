"""From a stored clip to what a model sees: pure functions of the clip and the cut.

The skeleton is centred on the layout's centre joint of person 0. The ancestors say "centred on joint 1 of person 0";
whether once or in every frame they leave open, so it is a setting: ``first`` takes the joint where it is first tracked
in the window and moves all frames alike, so that walking stays walking; ``every`` takes it anew in every frame, which
leaves the pose alone. Absent joints are exactly zero before, in every step, and after: they are never interpolated
from, moved or jittered.

The video shows a square of the frame, in evaluation the one in its middle that is as large as its short side, or,
``persons``, the square around all joints of the whole clip, an eighth of its side wider on each side: the same square
in every frame, so that walking stays walking. The papers leave this open too.
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

_MARGIN = 1 / 8  # of the joints' extent, on each side: hands and the crown of the head lie beyond their joints


class Region(NamedTuple):
    """A rectangle of a video frame, in pixels; it may reach beyond the frame."""

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
    """Transform a sample: both modalities from the same window, mirrored together.

    Args:
        clip: from the store.
        transform: from :func:`~coablate_platform.data.augment.random_transform` in training,
            :func:`~coablate_platform.data.augment.evaluation_transform` in evaluation.
        config: sizes, what the video shows, where the skeleton is centred, and the strength of the joints' noise.
        layout: the clip's joints.
        persons: persons of the sample M; missing ones are zeros.
        modalities: which to make; a video that is not asked for is not decoded.

    Returns:
        ``video`` (3, F, S, S) float32 in [-1, 1] where the clip has one, ``skeleton`` (3, T', V, M) float32.

    Raises:
        VideoError: the stored video is damaged.
    """
    sample: Sample = {}
    if "video" in modalities and clip.video is not None:
        region = _around_persons(clip, clip.video.size) if config.framing == "persons" else None
        video = transform_video(clip.video, transform, config.size, region)
        sample["video"] = differences(video) if config.motion else video
    if "skeleton" in modalities:
        xyz = transform_skeleton(clip.xyz, transform, config, layout)
        padded = np.zeros((3, config.skeleton_frames, xyz.shape[2], persons), dtype=np.float32)
        padded[..., : xyz.shape[1]] = xyz.transpose(3, 0, 2, 1)[..., :persons]
        sample["skeleton"] = torch.from_numpy(padded)
    return sample


def frame_numbers(count: int, transform: Transform) -> list[int]:
    """Take one frame from each of equal segments of the window.

    Args:
        count: frames of the clip.
        cut: window and moments.

    Returns:
        Ascending frame numbers, one a moment; they repeat where the window is shorter than that.
    """
    segments = len(transform.moments)
    shares = transform.start + transform.length * (np.arange(segments) + transform.moments) / segments
    return np.minimum((shares * count).astype(np.int64), count - 1).tolist()  # type: ignore[no-any-return]


def transform_video(video: StoredVideo, transform: Transform, size: int, region: Region | None = None) -> torch.Tensor:
    """Decode, crop, scale, mirror and recolour.

    Args:
        video: the stored clip.
        transform: how the sample departs from the stored clip.
        size: side S of the result in pixels.
        region: what of the frames is shown; None shows all. Where it reaches beyond the frame it is black.

    Returns:
        (3, F, S, S) float32 in [-1, 1].
    """
    numbers = frame_numbers(len(video.packets), transform)
    top, left, height, width = region or Region(0, 0, *video.size)
    side = max(1, round(transform.side * min(height, width)))
    square = Region(
        top + round(transform.down * (height - side)), left + round(transform.across * (width - side)), side, side
    )
    frames = np.stack([_shown(frame, square) for frame in video.decode(numbers)])
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)  # channels last in memory: torch's fast path for uint8
    if side != size:
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=side > size)
    if transform.flip:
        pixels = pixels.flip(3)
    gain = transform.contrast / 127.5
    made = torch.empty((3, len(numbers), size, size))
    made.copy_(pixels.transpose(0, 1))
    return made.mul_(gain).add_(transform.brightness - transform.contrast).clamp_(-1.0, 1.0)


def differences(video: torch.Tensor) -> torch.Tensor:
    """Return what changes from each frame to the next: (3, F + 1, S, S) in [-1, 1] to (3, F, S, S) in [-1, 1].

    Source: the RGB difference of temporal segment networks (Wang et al., ECCV 2016), halved to keep the range.
    """
    return (video[:, 1:] - video[:, :-1]) / 2


def _around_persons(clip: StoredClip, size: tuple[int, int]) -> Region | None:
    """Return the square around the joints that lie on the frames (H, W), with a margin; None where none is known."""
    if clip.pixels is None:
        return None
    joints = clip.pixels[clip.pixels.any(-1)]  # (J, 2), x then y
    inside = ((joints >= 0) & (joints < (size[1], size[0]))).all(-1)  # never of the unknown, which are NaN
    if not inside.any():
        return None
    least, most = joints[inside].min(0), joints[inside].max(0)
    side = max(1, math.ceil((1 + 2 * _MARGIN) * float((most - least).max())))
    left, top = np.rint((least + most - side) / 2).astype(int).tolist()
    return Region(top, left, side, side)


def _shown(frame: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    """Transform a region from a frame (H, W, 3); what lies beyond the frame is black."""
    top, left, height, width = region
    inner = frame[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inner.shape[:2] == (height, width):
        return inner
    shown = np.zeros((height, width, 3), dtype=np.uint8)
    above, before = max(-top, 0), max(-left, 0)
    shown[above : above + inner.shape[0], before : before + inner.shape[1]] = inner
    return shown


def transform_skeleton(
    xyz: NDArray[np.float32], transform: Transform, config: DataConfig, layout: JointLayout
) -> NDArray[np.float32]:
    """Resample the window, centre, turn, scale, mirror and jitter.

    Args:
        xyz: (T, M, V, 3) in metres, zeros where absent.
        transform: how the sample departs from the stored clip.
        config: length T' of the result, centring, and the standard deviation of the noise in metres.
        layout: names the centre and each joint's mirror image.

    Returns:
        (T', M, V, 3), exactly zero where absent.
    """
    last = xyz.shape[0] - 1
    positions = np.linspace(transform.start * last, (transform.start + transform.length) * last, config.skeleton_frames)
    moved, present = _resample(xyz, positions)
    origins = _origins(moved, present, layout.centre)
    if config.centring == "first":
        origins = origins[:1]
    moved = np.asarray((moved - origins[:, None, None]) @ _turn(transform), dtype=np.float32)
    if transform.flip:
        mirror = list(layout.mirror)
        moved, present = moved[:, :, mirror], present[:, :, mirror]
        moved[..., 0] *= -1
    if transform.noise is not None:
        noise = np.random.Generator(np.random.PCG64(transform.noise)).standard_normal(moved.shape, dtype=np.float32)
        moved += np.float32(config.jitter) * noise
    moved[~present] = 0.0
    return moved


def _resample(
    xyz: NDArray[np.float32], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Interpolate linearly between frames; a joint that only one of the two has is taken from that one."""
    before = np.floor(positions).astype(np.int64)
    after = np.minimum(before + 1, len(xyz) - 1)
    share = (positions - before).astype(np.float32)[:, None, None]
    first, second = xyz[before], xyz[after]
    here, there = first.any(-1), second.any(-1)
    share = np.where(here & there, share, there.astype(np.float32))
    mixed = first + (second - first) * share[..., None]
    # At a whole position the later frame has no weight: the joint is there if the frame itself has it.
    present = np.where(positions[:, None, None] == before[:, None, None], here, here | there)
    return mixed, present


def _origins(xyz: NDArray[np.float32], present: NDArray[np.bool_], centre: int) -> NDArray[np.float32]:
    """Return the centre joint of person 0 in each frame (T', 3); where it is not tracked, that of the frame before.

    Frames before the first have the first's. Where it never is, all have the mean of what is there, else zero.
    """
    tracked = present[:, 0, centre]
    if tracked.any():
        newest = np.maximum.accumulate(np.where(tracked, np.arange(len(xyz)), int(tracked.argmax())))
        return np.asarray(xyz[newest, 0, centre])
    mean = xyz[present].mean(0) if present.any() else np.zeros(3)
    return np.broadcast_to(np.asarray(mean, dtype=np.float32), (len(xyz), 3))


def _turn(transform: Transform) -> NDArray[np.float32]:
    """Return the matrix (3, 3) that row vectors are multiplied with: about y, then about x, then scaled."""
    cos, sin = math.cos(transform.rotation), math.sin(transform.rotation)
    about_y = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    cos, sin = math.cos(transform.tilt), math.sin(transform.tilt)
    about_x = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    return np.asarray(transform.scale * about_y @ about_x, dtype=np.float32)
