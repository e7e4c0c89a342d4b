"""What is drawn for one sample: every random number that decides how a clip is cut, before a pixel is touched.

All numbers are drawn in one fixed order whatever modalities are read, so an arm that looks at the skeleton alone sees
the same windows, flips and rotations as one that also looks at the video.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coablate_platform.study.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class Transform:
    """How one sample is cut from a clip. Shares are in [0, 1].

    Args:
        start: where the time window begins, as a share of the clip; the same for both modalities.
        length: how long it is, as a share of the clip.
        moments: where in its segment each video frame is taken: one a frame, and one more where their differences are
            shown.
        side: side of the square cut from what the video shows, as a share of that region's short side.
        across: where that square lies along the region's width, 0 left to 1 right.
        down: where it lies along its height.
        flip: whether video and skeleton are mirrored.
        brightness: added to the video, whose range is [-1, 1].
        contrast: factor on the video.
        rotation: about the vertical, in radians.
        tilt: about the x axis, in radians.
        scale: factor on the skeleton.
        noise: seed of the joints' noise; None adds none.
    """

    start: float
    length: float
    moments: NDArray[np.float64]
    side: float
    across: float
    down: float
    flip: bool
    brightness: float
    contrast: float
    rotation: float
    tilt: float
    scale: float
    noise: int | None


def evaluation_transform(config: DataConfig) -> Transform:
    """Return the cut of evaluation: the whole clip, the middle of segments and frames, nothing changed."""
    return Transform(
        start=0.0,
        length=1.0,
        moments=np.full(_taken(config), 0.5),
        side=1.0,
        across=0.5,
        down=0.5,
        flip=False,
        brightness=0.0,
        contrast=1.0,
        rotation=0.0,
        tilt=0.0,
        scale=1.0,
        noise=None,
    )


def random_transform(config: DataConfig, generator: np.random.Generator) -> Transform:
    """Draw the cut of a training sample.

    Args:
        config: the ranges.
        generator: belongs to this sample of this epoch alone.
    """
    uniform = generator.uniform
    length = uniform(config.crop_ratio, 1.0)
    return Transform(
        length=length,
        start=uniform(0.0, 1.0 - length),
        side=uniform(config.spatial_crop, 1.0),
        across=uniform(),
        down=uniform(),
        flip=bool(uniform() < config.flip),
        brightness=uniform(-config.colour, config.colour),
        contrast=1.0 + uniform(-config.colour, config.colour),
        rotation=uniform(-config.rotation, config.rotation),
        tilt=uniform(-config.tilt, config.tilt),
        scale=1.0 + uniform(-config.scale, config.scale),
        noise=int(generator.integers(2**63)) if config.jitter > 0 else None,
        moments=generator.random(_taken(config)),  # last: their number differs between settings
    )


def _taken(config: DataConfig) -> int:
    """Return how many frames are taken from a clip."""
    return config.frames + config.motion
