"""Makes skeletons of samples: resampled in time, centred, augmented. Pure functions of a clip and a transform.

The origin of the skeleton is the layout's centre joint of person 0. The papers that this project follows say "centred
on joint 1 of person 0", but not whether once per clip or in every frame. Therefore it is a setting, ``data.centring``:

=========  =====================================================  ===============================
setting    origin                                                 what the sample keeps
=========  =====================================================  ===============================
``first``  the joint's first position in the window               the pose and the person's path
``every``  the joint's position in each frame                     the pose alone
=========  =====================================================  ===============================

Absent joints are exactly zero in the clip and in the sample: they are never interpolated, moved or jittered.

Shapes: T frames of the clip, T' of the sample, M persons, V joints.
"""

import math

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.augment import Transform
from coablate_platform.data.joints import JointLayout
from coablate_platform.study.config import DataConfig


def window_positions(frames: int, transform: Transform, count: int) -> NDArray[np.float64]:
    """Return positions that divide the time window evenly, as frame numbers of a skeleton, fractions included.

    Args:
        frames: number of frames T of the skeleton.
        transform: the window.
        count: number of positions T'.
    """
    last = frames - 1
    return np.linspace(transform.start * last, (transform.start + transform.length) * last, count)


def transform_skeleton(
    xyz: NDArray[np.float32],
    positions: NDArray[np.float64],
    transform: Transform,
    config: DataConfig,
    layout: JointLayout,
) -> NDArray[np.float32]:
    """Resample, centre, rotate, scale, mirror and deform the skeleton, and add noise.

    Args:
        xyz: joints (T, M, V, 3) in metres, zeros where absent.
        positions: frame numbers (T',) of the result, fractions included.
        transform: the parameters of the sample.
        config: centring, and the standard deviation of the noise in metres.
        layout: the centre joint, and each joint's mirror image.

    Returns:
        (T', M, V, 3), exactly zero where absent.
    """
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
    _deform(moved, present, transform)
    moved[~present] = 0.0
    return moved


def _deform(moved: NDArray[np.float32], present: NDArray[np.bool_], transform: Transform) -> None:
    """Shear all joints and corrupt some, in place; joints that are corrupted to zero become absent."""
    if transform.shear is not None:
        moved[:] = moved @ transform.shear.astype(np.float32)
    if transform.corruption is not None:
        joints = list(transform.corrupted)
        moved[:, :, joints] = moved[:, :, joints] @ transform.corruption.astype(np.float32)
        present[:, :, joints] &= bool(transform.corruption.any())


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
