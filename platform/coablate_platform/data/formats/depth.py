"""Renders UTD-MHAD's depth videos to three channels."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy import ndimage

from coablate_platform.data.formats.clip import BadClip, FileRef, Recipe, to_float32
from coablate_platform.data.formats.files import read_bytes

HEIGHT, WIDTH = 240, 320
CROP_LEFT = 40
"""Columns cropped on the left, and as many on the right, which leaves a square of 240×240. In the 861 clips, figures
lie in columns 77-246 and touch rows 0 and 239, so no smaller centred square holds them all."""

FOCAL = 280.0
"""Focal length of the depth camera in pixels."""
_HALF_RANGE = 800.0  # mm in front of and behind the figure's median depth
_SMOOTH = 5  # pixels: at 3 m the sensor's depth steps are larger than the width that a pixel covers

RENDERING: Recipe = {
    "crop_left": CROP_LEFT,
    "focal": FOCAL,
    "half_range": _HALF_RANGE,
    "smooth": _SMOOTH,
}
"""The settings of the rendering as a store's recipe records them."""


@dataclass(frozen=True, kw_only=True)
class DepthVideo:
    """A depth video as RGB frames of 240×240.

    The background is black (0). On the figure, values are 1 to 255:

    =======  ============================================================================================
    channel  value on the figure
    =======  ============================================================================================
    red      nearness: 1 at 0.8 m behind the figure's median depth over the clip, 255 at 0.8 m in front
    green    horizontal component of the surface normal, -1 to 1
    blue     vertical component of the surface normal, -1 to 1
    =======  ============================================================================================

    Nearness is relative to the median, so it shows how limbs move along the line of sight, not where the person stands.
    The normals are those of the depth averaged over 5×5 pixels; they show limbs in front of the trunk, which a
    silhouette does not. The rendering depends on the clip alone.
    """

    file: FileRef

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the rendered frame in pixels."""
        return HEIGHT, WIDTH - 2 * CROP_LEFT

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield RGB frames (H, W, 3), scaled to ``size`` (height, width) where given.

        Raises:
            BadClip: the file is not a Matlab file with depths ``d_depth`` (240, 320, T), or shows no figure.
            OSError: the system could not read the file.
        """
        depth = load_matrix(self.file, "d_depth")
        if depth.ndim != 3 or depth.shape[:2] != (HEIGHT, WIDTH) or not depth.shape[2]:
            raise BadClip(str(self.file), f"expected d_depth of shape ({HEIGHT}, {WIDTH}, T), found {depth.shape}")
        depth = to_float32(depth[:, CROP_LEFT : WIDTH - CROP_LEFT])
        if not np.isfinite(depth).all() or depth.min() < 0:
            raise BadClip(str(self.file), "a depth is not a finite number of millimetres, 0 or more")
        if not depth.any():
            raise BadClip(str(self.file), "the depth video shows no figure: all depths are 0")
        median = float(np.median(depth[depth > 0]))
        box = _figure_box(depth)
        for number in range(depth.shape[2]):
            picture = np.zeros((*self.size, 3), dtype=np.uint8)
            picture[box] = render_depth(depth[(*box, number)], median)
            if size is not None and size != self.size:
                picture = _scale(picture, size)
            yield picture


def render_depth(depth: NDArray[np.float32], median: float) -> NDArray[np.uint8]:
    """Render one frame.

    Args:
        depth: (H, W) in mm, 0 outside the figure.
        median: the depth in mm that becomes the middle of the first channel.

    Returns:
        (H, W, 3), channels as in :class:`DepthVideo`: 1-255 on the figure and 0 elsewhere.
    """
    figure = depth > 0
    share = ndimage.uniform_filter(figure.astype(np.float32), _SMOOTH)
    smooth = ndimage.uniform_filter(depth, _SMOOTH) / np.maximum(share, 1e-6)
    down, right = np.gradient(smooth)
    pitch = np.maximum(depth, 1.0) / FOCAL  # mm that a pixel covers at that depth
    down, right = down / pitch, right / pitch
    length = np.sqrt(down**2 + right**2 + 1)
    channels = np.stack([(median - depth) / _HALF_RANGE, -right / length, -down / length], axis=-1)
    return np.where(figure[..., None], np.clip(128 + 127 * channels, 1, 255), 0).astype(np.uint8)


def _figure_box(depth: NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the rows and columns that the figure touches in any frame, widened by the reach of the smoothing."""
    reach = _SMOOTH // 2 + 1
    box = []
    for axes in ((1, 2), (0, 2)):
        touched = np.flatnonzero(depth.any(axis=axes))
        box.append(slice(max(int(touched[0]) - reach, 0), int(touched[-1]) + reach + 1))
    return box[0], box[1]


def _scale(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    scaled = frame.to_ndarray(format="rgb24", height=size[0], width=size[1], interpolation="AREA")
    return np.asarray(scaled, dtype=np.uint8)


def load_matrix(file: FileRef, name: str) -> NDArray[np.number]:
    """Read one array of a Matlab file.

    Raises:
        BadClip: the file is not a Matlab file, or has no array of numbers of that name.
        OSError: the system could not read the file.
    """
    content = io.BytesIO(read_bytes(file))
    try:
        found = scipy.io.loadmat(content, variable_names=[name])
    except Exception as error:  # scipy raises errors of many kinds, also those of zlib and struct
        raise BadClip(str(file), f"not a readable Matlab file: {error}") from None
    if name not in found:
        raise BadClip(str(file), f"has no array {name}")
    array: NDArray[np.number] = found[name]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        raise BadClip(str(file), f"{name} is not an array of numbers")
    return array
