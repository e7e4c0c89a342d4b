"""Video inside the store: MPEG-4 part 2, cut into packets so that any frame is near a keyframe and no file is opened.

The bytes are a plain elementary stream (any player shows them); the packets' sizes stand beside them, so that a
reader seeks by itself. Without B frames the order of packets is the order of frames.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

# H, W pixels; a frame is (H, W, 3) uint8 RGB

Resize = Literal["crop", "squash", "pad"]

_INTER_FRAME = 0xB6  # last byte of the start code of a packet that is a frame and nothing else; a keyframe has a header


class VideoError(Exception):
    """A stored or source video that cannot be encoded or decoded: what is wrong, in one line."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a source frame is placed in a stored one.

    Args:
        inner: height and width that the source's frame is scaled to; even.
        outer: height and width of the stored frame; ``inner`` is centred in it on black.
        scale: stored pixels a source pixel, along x and y.
    """

    inner: tuple[int, int]
    outer: tuple[int, int]
    scale: tuple[float, float]

    @property
    def offset(self) -> tuple[int, int]:
        """Rows above and columns left of the inner frame."""
        return (self.outer[0] - self.inner[0]) // 2, (self.outer[1] - self.inner[1]) // 2

    def pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry positions (…, 2), x then y, of source pixels over; an absent joint stays exactly (0, 0)."""
        moved = pixels * np.array(self.scale, np.float32) + np.array(self.offset[::-1], np.float32)
        return np.where((pixels == 0).all(-1, keepdims=True), np.float32(0), moved)


def fit(size: tuple[int, int], short_side: int, resize: Resize) -> Fit:
    """Say how frames of ``size`` (height, width) are stored; nothing is ever enlarged, an odd side loses a pixel.

    ``crop`` keeps the whole frame at its aspect, the short side scaled down, and leaves square cuts to sampling;
    ``squash`` scales to a square, aspect lost; ``pad`` scales the long side and fills up to a square with black.
    """
    height, width = size
    if resize == "squash":
        side = _even(min(short_side, height, width), min(size))
        inner = (side, side)
    else:
        ratio = min(1.0, short_side / (max if resize == "pad" else min)(size))
        inner = (_even(height * ratio, height), _even(width * ratio, width))
    outer = (max(inner), max(inner)) if resize == "pad" else inner
    return Fit(inner=inner, outer=outer, scale=(inner[1] / width, inner[0] / height))


def _even(length: float, source: int) -> int:
    """Return the nearest even number that is no more than the source's, at least 2: the codec halves colour planes."""
    return max(2, 2 * min(round(length / 2), source // 2))


@dataclass(frozen=True, kw_only=True)
class EncodedVideo:
    """An encoded clip.

    Args:
        data: the elementary stream.
        packets: bytes of each frame's packet, (F,) int32.
        size: height and width of a frame.
    """

    data: bytes
    packets: NDArray[np.int32]
    size: tuple[int, int]


def encode(frames: Iterable[NDArray[np.uint8]], fit: Fit, *, gop: int, quality: int) -> EncodedVideo:
    """Encode frames with a keyframe every ``gop`` frames and no B frames.

    Args:
        frames: frames of ``fit.inner``; they are taken one at a time.
        fit: from :func:`fit`.
        gop: frames from one keyframe to the next.
        quality: the quantiser, 1 (best) to 31.

    Raises:
        VideoError: there is no frame, or the encoder fails.
    """
    packets: list[bytes] = []
    try:
        codec = _encoder(fit.outer, gop, quality)
        convert = VideoReformatter()
        for number, frame in enumerate(_placed(frames, fit)):
            source = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture = convert.reformat(source, format="yuv420p", threads=1)
            picture.pts = number
            packets += [bytes(packet) for packet in codec.encode(picture)]
        packets += [bytes(packet) for packet in codec.encode(None)] if packets else []
    except av.error.FFmpegError as error:
        raise VideoError(f"cannot be encoded: {error}") from error
    if not packets:
        raise VideoError("has no frames")
    sizes = np.array([len(packet) for packet in packets], dtype=np.int32)
    return EncodedVideo(data=b"".join(packets), packets=sizes, size=fit.outer)


def _encoder(size: tuple[int, int], gop: int, quality: int) -> Any:
    codec = av.CodecContext.create("mpeg4", "w")
    codec.height, codec.width = size
    codec.pix_fmt = "yuv420p"
    codec.time_base = Fraction(1, 30)
    codec.gop_size = gop
    codec.max_b_frames = 0
    codec.thread_count = 1
    # A constant quantiser and no keyframes at scene changes: seeking counts on every gop-th frame alone. ``bitexact``
    # leaves the encoder's version out of the bytes, so that equal frames have equal digests.
    codec.options = {
        "flags": "+bitexact",
        "qmin": str(quality),
        "qmax": str(quality),
        "sc_threshold": "1000000000",
    }
    return codec


def _placed(frames: Iterable[NDArray[np.uint8]], fit: Fit) -> Iterator[NDArray[np.uint8]]:
    top, left = fit.offset
    for frame in frames:
        if frame.shape[:2] != fit.inner:
            raise VideoError(f"changes its frame size: {frame.shape[:2]} after {fit.inner}")
        if fit.inner == fit.outer:
            yield frame
        else:
            yield np.pad(frame, ((top, top), (left, left), (0, 0)))


def decode(data: Any, packets: NDArray[np.int32], wanted: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Decode chosen frames, each from the keyframe before it, on the calling thread (the GIL is released).

    Args:
        data: the elementary stream, any buffer.
        packets: bytes of each frame's packet.
        wanted: ascending frame numbers; one may repeat.

    Returns:
        One frame (H, W, 3) a number.

    Raises:
        VideoError: the stream is damaged.
    """
    stream = memoryview(data)
    ends = np.cumsum(packets)
    starts = ends - packets
    if not len(packets) or ends[-1] != len(stream) or packets.min() < 4:
        raise VideoError("does not match its packet sizes")
    keyframes = np.flatnonzero(np.frombuffer(stream, np.uint8)[starts + 3] != _INTER_FRAME)
    chosen = np.asarray(wanted)
    nearest = np.searchsorted(keyframes, chosen, side="right") - 1
    if nearest.min(initial=0) < 0 or chosen.max(initial=0) >= len(packets):
        raise VideoError(f"has no frame or no keyframe for one of {list(wanted)}")
    codec = av.CodecContext.create("mpeg4", "r")
    codec.thread_count = 1
    codec.options = {"flags": "+low_delay", "err_detect": "explode"}
    convert = VideoReformatter()
    found: list[NDArray[np.uint8]] = []
    following, previous = 0, -1
    for number, keyframe in zip(chosen.tolist(), keyframes[nearest].tolist(), strict=True):
        if number != previous:
            for position in range(max(following, keyframe), number + 1):
                picture = _decode_one(codec, stream[starts[position] : ends[position]])
            following, previous = number + 1, number
            # Small pictures: waking the scaler's own threads takes ten times as long as the work.
            found.append(_pixels(convert.reformat(picture, format="rgb24", threads=1)))
        else:
            found.append(found[-1])
    return found


def _pixels(picture: Any) -> NDArray[np.uint8]:
    return picture.to_ndarray()  # type: ignore[no-any-return]


def _decode_one(codec: Any, content: memoryview) -> Any:
    packet = av.Packet(len(content))  # FFmpeg reads past the end: a packet of its own memory has zeros there,
    packet.update(bytes(content))  # one that only borrows the buffer has whatever lies behind it
    try:
        pictures = codec.decode(packet)
    except av.error.FFmpegError as error:
        raise VideoError(f"is damaged: {error}") from error
    if len(pictures) != 1:
        raise VideoError("is damaged: a packet without a frame")
    return pictures[0]
