"""Renders figures to small video frames: shaded, anti-aliased capsules and quadrilaterals, the farthest first.

Only joints 0 to 20 are read, so the fingers have no influence on the video.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.synthetic.figure import Array, unit
from coablate_platform.data.synthetic.motion import Held

Image = NDArray[np.float32]
Colour = tuple[float, float, float]

FOCAL = 1.0013
"""Focal length of the Kinect v2 colour camera in units of the picture's height (1081.4 of 1080 pixels)."""

LIMBS = (
    (12, 13, 0.085, "trousers"),
    (13, 14, 0.065, "trousers"),
    (14, 15, 0.05, "shoes"),
    (16, 17, 0.085, "trousers"),
    (17, 18, 0.065, "trousers"),
    (18, 19, 0.05, "shoes"),
    (12, 16, 0.10, "trousers"),
    (0, 20, 0.15, "shirt"),
    (4, 8, 0.08, "shirt"),
    (4, 5, 0.06, "shirt"),
    (8, 9, 0.06, "shirt"),
    (5, 6, 0.048, "sleeve"),
    (9, 10, 0.048, "sleeve"),
    (6, 7, 0.05, "skin"),
    (10, 11, 0.05, "skin"),
    (20, 3, 0.06, "skin"),
    (3, 3, 0.115, "skin"),
)
"""First joint, last joint, radius in metres, key in ``Look.colours``."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A person's appearance: colours of the parts, and a factor ``stout`` on the thickness of limbs."""

    colours: dict[str, Colour]
    stout: float


@dataclass(frozen=True, kw_only=True)
class HeldObject:
    """A held object over T frames.

    Args:
        kind: the kind of object.
        size: factor on the kind's usual size.
        hue: hue of its colour, 0 to 1.
        centre: (T, 3) in metres, camera coordinates.
        right: (T, 3) unit vector along its width.
    """

    kind: Held
    size: float
    hue: float
    centre: Array
    right: Array


@dataclass(frozen=True, kw_only=True)
class Capsule:
    """A capsule in pixels: the shape of a limb. ``start`` and ``end`` are (x, y)."""

    start: Array
    end: Array
    radius: float
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Quad:
    """A convex quadrilateral in pixels; its corners (4, 2) go around it in order."""

    corners: Array
    colour: Colour


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Convert a hue (modulo 1), a saturation and a value, both 0 to 1, to an RGB colour in [0, 1]."""
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def sample_look(rng: np.random.Generator, outfit: np.random.Generator, stout: float) -> Look:
    """Draw a person's appearance in muted colours.

    Args:
        rng: the performer's random stream: skin, hair and length of the sleeves.
        outfit: the outfit's random stream: shirt, trousers and shoes.
        stout: factor on the thickness of limbs.
    """
    skin = hsv(rng.uniform(0.04, 0.09), rng.uniform(0.3, 0.55), rng.uniform(0.55, 0.95))
    hair = hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.6), rng.uniform(0.08, 0.5))
    long_sleeves = rng.random() < 0.5
    shirt = hsv(outfit.random(), outfit.uniform(0.05, 0.45), outfit.uniform(0.3, 0.9))
    trousers = hsv(outfit.uniform(0.5, 0.72), outfit.uniform(0.1, 0.5), outfit.uniform(0.15, 0.5))
    colours = {
        "skin": skin,
        "hair": hair,
        "shirt": shirt,
        "sleeve": shirt if long_sleeves else skin,
        "trousers": trousers,
        "shoes": hsv(outfit.random(), 0.2, outfit.uniform(0.1, 0.8)),
    }
    return Look(colours=colours, stout=stout)


def project(points: Array, size: int) -> Array:
    """Project camera coordinates (..., 3) in metres to pixels (..., 2) of a square frame: x to the right, y down."""
    centre = size / 2
    scale = FOCAL * size / np.maximum(points[..., 2:], 0.3)
    return np.concatenate([centre + scale * points[..., :1], centre - scale * points[..., 1:2]], axis=-1)


def blend(image: Image, window: tuple[slice, slice], alpha: Image, colour: Image) -> None:
    """Blend a colour into a window of an image, in place."""
    part = image[window]
    part += alpha[..., None] * (colour - part)


def window_of(points: Array, margin: float, size: int) -> tuple[int, int, int, int]:
    """Return the bounds y0, y1, x0, x1 of the pixels within ``margin`` of points (n, 2), given as (x, y)."""
    low = np.clip(np.floor(points.min(axis=0) - margin - 1), 0, size).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin + 1), 0, size).astype(int)
    return int(low[1]), int(high[1]), int(low[0]), int(high[0])


def paint_capsule(image: Image, shape: Capsule) -> None:
    """Draw a capsule in place; it is darker towards its rim."""
    y0, y1, x0, x1 = window_of(np.stack([shape.start, shape.end]), shape.radius, len(image))
    if y0 >= y1 or x0 >= x1:
        return
    x = np.arange(x0, x1, dtype=np.float32)[None] + np.float32(0.5 - shape.start[0])
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - shape.start[1])
    dx, dy = (np.float32(v) for v in shape.end - shape.start)
    t = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    distance = np.hypot(x - t * dx, y - t * dy)
    alpha = np.clip(np.float32(shape.radius + 0.5) - distance, 0, 1)
    shade = 1 - 0.35 * np.minimum(distance / np.float32(shape.radius), 1) ** 2
    blend(image, (slice(y0, y1), slice(x0, x1)), alpha, shade[..., None] * np.array(shape.colour, np.float32))


def paint_quad(image: Image, shape: Quad) -> None:
    """Draw a quadrilateral in place; its corners may go around it in either direction."""
    y0, y1, x0, x1 = window_of(shape.corners, 0, len(image))
    if y0 >= y1 or x0 >= x1:
        return
    x = np.arange(x0, x1, dtype=np.float32)[None] + 0.5
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5
    edges = np.roll(shape.corners, -1, axis=0) - shape.corners
    area = np.sum(shape.corners[:, 0] * np.roll(shape.corners[:, 1], -1))
    area -= np.sum(shape.corners[:, 1] * np.roll(shape.corners[:, 0], -1))
    inside = np.full((y1 - y0, x1 - x0), 1.0, dtype=np.float32)
    for (px, py), (ex, ey) in zip(shape.corners, np.sign(area) * edges, strict=True):
        distance = (ex * (y - py) - ey * (x - px)) / max(np.hypot(ex, ey), 1e-6)
        inside = np.minimum(inside, np.clip(distance + 0.5, 0, 1)).astype(np.float32)
    blend(image, (slice(y0, y1), slice(x0, x1)), inside, np.array(shape.colour, np.float32))


def limbs(body: Array, pixels: Array, look: Look, size: int) -> list[tuple[float, Capsule]]:
    """Return the limbs of a person in one frame, each with its depth in metres.

    Args:
        body: joints (25, 3) in camera coordinates.
        pixels: joints (25, 2) in pixels.
        look: the person's appearance.
        size: side of the frame in pixels.
    """
    parts = []
    for start, end, radius, part in LIMBS:
        depth = float(body[start, 2] + body[end, 2]) / 2
        width = FOCAL * size * radius * look.stout / max(depth, 0.3)
        shape = Capsule(start=pixels[start], end=pixels[end], radius=width, colour=look.colours[part])
        parts.append((depth - radius / 2, shape))
    depth, head = parts[-1]
    up = np.array([0, -0.45 * head.radius])
    hair = Capsule(start=head.start + up, end=head.end + up, radius=0.8 * head.radius, colour=look.colours["hair"])
    return [*parts, (depth - 0.001, hair)]


OUTLINES: dict[Held, tuple[tuple[float, float, float, float, str], ...]] = {
    "nothing": (),
    "cup": ((0.0, 0.0, 0.21, 0.26, "strong"), (0.0, 0.09, 0.21, 0.07, "white")),
    "tablet": ((0.0, 0.0, 0.22, 0.36, "black"), (0.0, 0.0, 0.16, 0.28, "strong")),
    "book": ((0.0, 0.0, 0.50, 0.32, "strong"), (0.0, 0.0, 0.06, 0.32, "white")),
    "parcel": ((0.0, 0.0, 0.32, 0.28, "strong"), (0.0, 0.0, 0.06, 0.28, "white")),
}
"""Faces of each kind of object: offset of the centre to the right and up, width and height in metres, colour."""

HUES: dict[Held, float] = {"nothing": 0.0, "cup": 0.0, "tablet": 0.52, "book": 0.30, "parcel": 0.83}
"""Usual hue of each kind of object."""


def faces(held: HeldObject, frame: int, size: int) -> list[tuple[float, Quad]]:
    """Return the faces of a held object in one frame, each with its depth in metres."""
    paint = {"strong": hsv(held.hue, 0.9, 0.95), "white": (0.95, 0.95, 0.92), "black": (0.06, 0.06, 0.08)}
    centre, right = held.centre[frame], held.right[frame]
    up = unit(np.array([0, 1.0, 0]) - right[1] * right)
    parts = []
    for order, (x, y, width, height, colour) in enumerate(OUTLINES[held.kind]):
        middle = centre + held.size * (x * right + y * up)
        half_x, half_y = 0.5 * held.size * width * right, 0.5 * held.size * height * up
        corners = np.stack([middle - half_x - half_y, middle + half_x - half_y])
        corners = np.concatenate([corners, [middle + half_x + half_y, middle - half_x + half_y]])
        parts.append(
            (float(centre[2]) - 0.12 - 0.001 * order, Quad(corners=project(corners, size), colour=paint[colour]))
        )
    return parts


def background(rng: np.random.Generator, size: int, clutter: float) -> Image:
    """Draw a room (size, size, 3): wall, floor, and on average ``6 * clutter`` boxes and blobs in muted colours."""
    rows = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    wall = np.array(hsv(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.4, 0.9)), np.float32)
    floor = np.array(hsv(rng.uniform(0, 0.15), rng.uniform(0, 0.3), rng.uniform(0.25, 0.7)), np.float32)
    horizon = rng.uniform(0.65, 0.8)
    image = np.where(rows < horizon, wall * (1.05 - 0.2 * rows), floor * (0.6 + 0.5 * rows))
    image = np.broadcast_to(image, (size, size, 3)).astype(np.float32)
    for _ in range(rng.poisson(6 * clutter)):
        place = rng.uniform(0, 1, 2) * size
        colour = hsv(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.2, 0.9))
        half = rng.uniform(0.03, 0.14, 2) * size
        if rng.random() < 0.7:
            corners = place + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
            paint_quad(image, Quad(corners=corners, colour=colour))
        else:
            paint_capsule(image, Capsule(start=place, end=place + half, radius=float(half[0]), colour=colour))
    return image


def render(
    bodies: list[Array], looks: list[Look], objects: list[HeldObject], room: Image, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Render a clip.

    Args:
        bodies: joints (T, 25, 3) of each person, camera coordinates in metres.
        looks: appearance of each person.
        objects: held objects.
        room: background (S, S, 3) in [0, 1].
        rng: random stream of the sensor's noise.

    Returns:
        (T, S, S, 3) RGB.
    """
    size, frames = len(room), len(bodies[0])
    pixels = [project(body, size) for body in bodies]
    video = np.empty((frames, size, size, 3), dtype=np.uint8)
    for frame in range(frames):
        image = room.copy()
        parts: list[tuple[float, Capsule | Quad]] = []
        for body, projected, look in zip(bodies, pixels, looks, strict=True):
            parts += limbs(body[frame], projected[frame], look, size)
        for held in objects:
            parts += faces(held, frame, size)
        for _, shape in sorted(parts, key=lambda part: -part[0]):
            if isinstance(shape, Capsule):
                paint_capsule(image, shape)
            else:
                paint_quad(image, shape)
        image += rng.normal(0, 0.012, (size, size, 1)).astype(np.float32)
        video[frame] = np.clip(255 * image + 0.5, 0, 255).astype(np.uint8)
    return video
