"""Augmentation: the parameters of one sample, drawn before any frame is decoded.

All random numbers are drawn in one fixed order, whatever modalities are read. An arm that reads the skeleton alone
therefore gets the same windows, flips and rotations as an arm that also reads the video.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coablate_platform.study.config import DataConfig

CORRUPTED = 0.6
"""Share of the joints that a corruption changes."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The parameters that make a sample from a clip. Fractions are in [0, 1].

    Args:
        start: start of the time window, as a fraction of the clip; both modalities have the same window.
        length: length of the time window, as a fraction of the clip.
        frame_offsets: position of each video frame within its segment, as a fraction of the segment: (F,), or (F + 1,)
            where the model gets frame differences.
        crop_side: side of the square crop, as a fraction of the short side of the region that it is taken from.
        crop_x: horizontal position of the crop in that region, from 0 (left) to 1 (right).
        crop_y: vertical position of the crop in that region, from 0 (top) to 1 (bottom).
        flip: whether video and skeleton are mirrored left to right.
        brightness: added to the video, whose range is [-1, 1].
        contrast: factor on the video.
        rotation: rotation of the skeleton about the vertical axis, in radians.
        tilt: rotation of the skeleton about the x axis, in radians.
        scale: factor on the skeleton.
        noise_seed: seed of the noise on the joints; None adds no noise.
        shear: matrix (3, 3) that the joints, as row vectors, are multiplied by; None leaves them.
        corrupted: numbers of the joints that are corrupted; empty for none.
        corruption: matrix (3, 3) that corrupted joints are multiplied by; zeros make them absent.
        pixel_seed: seed of the noise on the joints' pixels.
    """

    start: float
    length: float
    frame_offsets: NDArray[np.float64]
    crop_side: float
    crop_x: float
    crop_y: float
    flip: bool
    brightness: float
    contrast: float
    rotation: float
    tilt: float
    scale: float
    noise_seed: int | None
    shear: NDArray[np.float64] | None = None
    corrupted: tuple[int, ...] = ()
    corruption: NDArray[np.float64] | None = None
    pixel_seed: int = 0


def evaluation_transform(config: DataConfig) -> Transform:
    """Return the transform of evaluation: the whole clip, the middle frame of each segment, the centre crop."""
    return Transform(
        start=0.0,
        length=1.0,
        frame_offsets=np.full(_decoded_frames(config), 0.5),
        crop_side=1.0,
        crop_x=0.5,
        crop_y=0.5,
        flip=False,
        brightness=0.0,
        contrast=1.0,
        rotation=0.0,
        tilt=0.0,
        scale=1.0,
        noise_seed=None,
    )


def random_transform(
    config: DataConfig, generator: np.random.Generator, frames: int, joints: int, pixel_seed: int = 0
) -> Transform:
    """Draw the transform of a training sample.

    Args:
        config: the ranges to draw from.
        generator: used for this sample in this epoch only.
        frames: number of skeleton frames of the clip.
        joints: number of joints V.
        pixel_seed: seed of the noise on the joints' pixels.
    """
    uniform = generator.uniform
    shortest = min(max(config.crop_ratio, config.crop_frames / frames), 1.0)
    length = uniform(shortest, 1.0)
    return Transform(
        length=length,
        start=uniform(0.0, 1.0 - length),
        crop_side=uniform(config.spatial_crop, 1.0),
        crop_x=uniform(),
        crop_y=uniform(),
        flip=bool(uniform() < config.flip),
        brightness=uniform(-config.colour, config.colour),
        contrast=1.0 + uniform(-config.colour, config.colour),
        rotation=uniform(-config.rotation, config.rotation),
        tilt=uniform(-config.tilt, config.tilt),
        scale=1.0 + uniform(-config.scale, config.scale),
        noise_seed=int(generator.integers(2**63)) if config.jitter > 0 else None,
        frame_offsets=generator.random(_decoded_frames(config)),
        pixel_seed=pixel_seed,
        **_deformation(config, generator, joints),  # last, since only some settings draw for it
    )


def _deformation(config: DataConfig, generator: np.random.Generator, joints: int) -> dict[str, Any]:
    """Draw the shear and the corruption of a sample; nothing is drawn where both are switched off.

    Source: the augmentations of skeleton contrastive learning, as UmURL (Sun et al. 2023) has them: 15 of 25 joints.
    """
    drawn: dict[str, Any] = {}
    if config.shear > 0 and generator.random() < config.shear:
        shear = generator.uniform(-1, 1, (3, 3))
        np.fill_diagonal(shear, 1.0)
        drawn["shear"] = shear
    if config.corruption > 0 and generator.random() < config.corruption:
        drawn["corrupted"] = tuple(generator.permutation(joints)[: round(CORRUPTED * joints)].tolist())
        mixed = generator.random() < 0.5
        drawn["corruption"] = generator.uniform(-1, 1, (3, 3)) if mixed else np.zeros((3, 3))
    return drawn


def _decoded_frames(config: DataConfig) -> int:
    """Return how many frames are decoded from a clip: differences need one more than the model gets."""
    return config.frames + config.motion
