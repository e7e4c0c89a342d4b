"""Makes samples from stored clips: pure functions of a clip and a transform.

The video shows a square, the same one in every frame of a clip, so that walking remains visible. The papers do not say
either from which region it is taken. This is the setting ``data.framing``:

===========  ======================================================================================
setting      region
===========  ======================================================================================
``frame``    the whole frame; evaluation takes the square in its middle, as large as its short side
``persons``  the square around all joints of the whole clip, an eighth of their extent wider on each side
===========  ======================================================================================
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from coablate_platform.data.augment import Transform
from coablate_platform.data.joints import JointLayout
from coablate_platform.data.pixel_sampling import Region, joint_pixels, persons_region
from coablate_platform.data.skeleton_sampling import transform_skeleton, window_positions
from coablate_platform.data.store import StoredClip, StoredVideo
from coablate_platform.study.config import DataConfig

# T skeleton frames · M persons · V joints · C = 3 channels · F video frames · S pixels of a side

Sample = dict[str, torch.Tensor]
MODALITIES = ("video", "skeleton", "frame_skeleton", "pixels", "visible")
"""The tensors of a sample; see :class:`~coablate_platform.study.model.ModelConfig`."""
OF_FRAMES = frozenset({"frame_skeleton", "pixels", "visible"})
"""Those that need the numbers of the video's frames, and so a video."""
DEFAULT_MODALITIES = ("video", "skeleton")


def transform_clip(
    clip: StoredClip,
    transform: Transform,
    config: DataConfig,
    layout: JointLayout,
    persons: int,
    modalities: tuple[str, ...] = DEFAULT_MODALITIES,
    pixels_of: StoredClip | None = None,
) -> Sample:
    """Make a sample: all modalities come from the same time window and are mirrored together.

    Args:
        clip: a clip of the store.
        transform: from :func:`~coablate_platform.data.augment.random_transform` in training,
            :func:`~coablate_platform.data.augment.evaluation_transform` in evaluation.
        config: sizes, framing, centring, and the noise on the joints and on their pixels.
        layout: the joints of the store's skeletons.
        persons: number of persons M in the sample; a clip with fewer is filled up with zeros.
        modalities: the tensors to make; without ``video`` no frame is decoded.
        pixels_of: the clip whose joints are looked up in this clip's frames; None: this clip.

    Returns:
        The tensors that ``modalities`` names, without the axis of clips; of a clip without a video, ``skeleton`` alone.

    Raises:
        VideoError: the stored video is damaged.
    """
    sample: Sample = {}
    if "skeleton" in modalities:
        positions = window_positions(len(clip.xyz), transform, config.skeleton_frames)
        xyz = transform_skeleton(clip.xyz, positions, transform, config, layout)
        sample["skeleton"] = _persons_last(xyz, persons)
    if clip.video is None:
        return sample
    square = _square(clip, clip.video, transform, config)
    numbers = frame_numbers(len(clip.video.packets), transform)
    if "video" in modalities:
        video = transform_video(clip.video, numbers, square, transform, config.size)
        sample["video"] = frame_differences(video) if config.motion else video
    if OF_FRAMES.intersection(modalities):
        shown = np.minimum(np.asarray(numbers[: config.frames]), len(clip.xyz) - 1)
        if "frame_skeleton" in modalities:
            xyz = transform_skeleton(clip.xyz, shown.astype(np.float64), transform, config, layout)
            sample["frame_skeleton"] = _persons_last(xyz, persons)
        pixels, visible = joint_pixels(pixels_of or clip, clip, shown, square, transform, config, layout)
        if "pixels" in modalities:
            sample["pixels"] = _persons_last(pixels, persons)
        if "visible" in modalities:
            sample["visible"] = _persons_last(visible[..., None], persons)[0]
    return sample


def _persons_last(array: NDArray[Any], persons: int) -> torch.Tensor:
    """Return an array (T, M, V, C) as (C, T, V, persons), filled up with zeros."""
    padded = np.zeros((array.shape[3], array.shape[0], array.shape[2], persons), dtype=array.dtype)
    padded[..., : array.shape[1]] = array.transpose(3, 0, 2, 1)[..., :persons]
    return torch.from_numpy(padded)


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


def _square(clip: StoredClip, video: StoredVideo, transform: Transform, config: DataConfig) -> Region:
    """Return the square of the frames that a sample shows."""
    region = persons_region(clip, video.size) if config.framing == "persons" else None
    top, left, height, width = region or Region(0, 0, *video.size)
    side = max(1, round(transform.crop_side * min(height, width)))
    return Region(
        top + round(transform.crop_y * (height - side)), left + round(transform.crop_x * (width - side)), side, side
    )


def transform_video(
    video: StoredVideo, numbers: list[int], square: Region, transform: Transform, size: int
) -> torch.Tensor:
    """Decode the chosen frames, crop, scale and mirror them, and change their colours.

    Args:
        video: the video of a stored clip.
        numbers: numbers of the F frames.
        square: the part of the frames to show. Beyond the frame the result is black.
        transform: the parameters of the sample.
        size: side S of the result in pixels.

    Returns:
        (3, F, S, S) float32 in [-1, 1].
    """
    frames = np.stack([_crop(frame, square) for frame in video.decode(numbers)])
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)  # a view with channels last: torch's fast path for uint8
    if square.height != size:
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=square.height > size)
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
