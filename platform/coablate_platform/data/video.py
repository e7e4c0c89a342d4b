"""Encodes and decodes the store's videos: MPEG-4 part 2 with frequent keyframes.

A video is an elementary stream, which any player can show, and the sizes of its packets. The sizes let the decoder seek
to a keyframe without a container. There are no B frames, so packets are in the order of frames.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

import av
import numpy as np
import pyarrow as pa
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

# H, W pixels; a frame is (H, W, 3) uint8 RGB

Resize = Literal["crop", "squash", "pad"]

Buffer: TypeAlias = bytes | memoryview | pa.Buffer

_FRAME_START_CODE = 0xB6  # fourth byte of a packet that begins with a frame; a keyframe's packet begins with a header


class VideoError(Exception):
    """A video that cannot be encoded or decoded. The message continues a sentence that begins with the video."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How an original frame is scaled and padded to a stored frame.

    Args:
        inner: height and width that the original frame is scaled to, in pixels; both are even.
        outer: height and width of the stored frame; the scaled frame is in its centre, the rest is black.
        scale: stored pixels per original pixel, along x and y.
    """

    inner: tuple[int, int]
    outer: tuple[int, int]
    scale: tuple[float, float]

    @property
    def offset(self) -> tuple[int, int]:
        """Number of black rows above and of black columns left of the scaled frame."""
        return (self.outer[0] - self.inner[0]) // 2, (self.outer[1] - self.inner[1]) // 2

    def stored_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert joints (…, 2), x then y, from original to stored pixels; an absent joint stays exactly (0, 0)."""
        moved = pixels * np.array(self.scale, np.float32) + np.array(self.offset[::-1], np.float32)
        return np.where((pixels == 0).all(-1, keepdims=True), np.float32(0), moved)


def fit(size: tuple[int, int], short_side: int, resize: Resize) -> Fit:
    """Return how frames are resized. No frame is enlarged; an odd side loses a pixel, since the codec needs even ones.

    ==========  ==============================================================================================
    ``resize``  stored frame
    ==========  ==============================================================================================
    ``crop``    the whole frame in its aspect ratio, its short side scaled to ``short_side``; sampling crops it
    ``squash``  a square of side ``short_side``; the aspect ratio is lost
    ``pad``     a square: the long side is scaled to ``short_side``, the rest is black
    ==========  ==============================================================================================

    Args:
        size: height and width of the original frames in pixels.
        short_side: side to scale to, in pixels.
        resize: the way of resizing.
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


def _even(length: float, most: int) -> int:
    """Return the even number nearest to ``length``, from 2 to ``most``: the codec halves the colour planes."""
    return max(2, 2 * min(round(length / 2), most // 2))


@dataclass(frozen=True, kw_only=True)
class EncodedVideo:
    """An encoded video.

    Args:
        data: MPEG-4 part 2 elementary stream.
        packets: size of each frame's packet in bytes, (F,) int32.
        size: height and width of a frame in pixels.
    """

    data: bytes
    packets: NDArray[np.int32]
    size: tuple[int, int]


def encode(frames: Iterable[NDArray[np.uint8]], fit: Fit, *, gop: int, quality: int) -> EncodedVideo:
    """Encode frames with a keyframe every ``gop`` frames and no B frames.

    Args:
        frames: frames of size ``fit.inner``; they are read one at a time.
        fit: from :func:`fit`.
        gop: frames from one keyframe to the next.
        quality: the quantiser, from 1 (best) to 31.

    Raises:
        VideoError: there is no frame, a frame has another size, or the encoder fails.
    """
    packets: list[bytes] = []
    try:
        codec = _encoder(fit.outer, gop, quality)
        convert = VideoReformatter()
        for number, frame in enumerate(_padded(frames, fit)):
            picture = convert.reformat(av.VideoFrame.from_ndarray(frame, format="rgb24"), format="yuv420p", threads=1)
            picture.pts = number
            packets += [bytes(packet) for packet in codec.encode(picture)]
        packets += [bytes(packet) for packet in codec.encode(None)] if packets else []
    except av.error.FFmpegError as error:
        raise VideoError(f"cannot be encoded: {error}") from error
    if not packets:
        raise VideoError("has no frames")
    sizes = np.array([len(packet) for packet in packets], dtype=np.int32)
    return EncodedVideo(data=b"".join(packets), packets=sizes, size=fit.outer)


def _encoder(size: tuple[int, int], gop: int, quality: int) -> VideoCodecContext:
    codec = av.CodecContext.create("mpeg4", "w")
    codec.height, codec.width = size
    codec.pix_fmt = "yuv420p"
    codec.time_base = Fraction(1, 30)
    codec.gop_size = gop
    codec.max_b_frames = 0
    codec.thread_count = 1
    # The quantiser is constant, and scene changes get no keyframes of their own: every gop-th frame is a keyframe.
    # ``bitexact`` keeps the encoder's version out of the stream, so that equal frames have equal digests.
    codec.options = {
        "flags": "+bitexact",
        "qmin": str(quality),
        "qmax": str(quality),
        "sc_threshold": "1000000000",
    }
    return codec


def _padded(frames: Iterable[NDArray[np.uint8]], fit: Fit) -> Iterator[NDArray[np.uint8]]:
    """Yield frames padded with black to the stored size."""
    top, left = fit.offset
    for frame in frames:
        if frame.shape[:2] != fit.inner:
            raise VideoError(f"changes its frame size: {frame.shape[:2]} after {fit.inner}")
        if fit.inner == fit.outer:
            yield frame
        else:
            yield np.pad(frame, ((top, top), (left, left), (0, 0)))


def decode(data: Buffer, packets: NDArray[np.int32], wanted: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Decode chosen frames, each from the last keyframe at or before it, on the calling thread with the GIL released.

    Args:
        data: the elementary stream.
        packets: size of each frame's packet in bytes, (F,).
        wanted: ascending frame numbers; a number may repeat.

    Returns:
        One frame (H, W, 3) per number.

    Raises:
        VideoError: the stream is damaged, or a number is not that of a frame.
    """
    stream = memoryview(data)
    keyframes = _last_keyframes(stream, packets, wanted)
    ends = np.cumsum(packets)
    starts = ends - packets
    codec = av.CodecContext.create("mpeg4", "r")
    codec.thread_count = 1
    codec.options = {"flags": "+low_delay", "err_detect": "explode"}
    convert = VideoReformatter()
    found: list[NDArray[np.uint8]] = []
    undecoded = 0  # the first frame that the codec has not decoded yet
    for number, keyframe in zip(wanted, keyframes, strict=True):
        if number < undecoded:  # the same frame again
            found.append(found[-1])
            continue
        for position in range(max(undecoded, keyframe), number + 1):
            picture = _decode_packet(codec, stream[starts[position] : ends[position]])
        undecoded = number + 1
        # Frames are small: waking the scaler's own threads takes ten times as long as the work.
        pixels = convert.reformat(picture, format="rgb24", threads=1).to_ndarray()
        found.append(np.asarray(pixels, dtype=np.uint8))
    return found


def _last_keyframes(stream: memoryview, packets: NDArray[np.int32], wanted: Sequence[int]) -> list[int]:
    """Return the number of the last keyframe at or before each wanted frame.

    Raises:
        VideoError: the packets do not match the stream, or a number is not that of a frame.
    """
    if not len(packets) or packets.sum() != len(stream) or packets.min() < 4:
        raise VideoError("does not match its packet sizes")
    starts = np.cumsum(packets) - packets
    keyframes = np.flatnonzero(np.frombuffer(stream, np.uint8)[starts + 3] != _FRAME_START_CODE)
    nearest = np.searchsorted(keyframes, np.asarray(wanted), side="right") - 1
    if nearest.min(initial=0) < 0 or max(wanted, default=0) >= len(packets):
        raise VideoError(f"has no frame or no keyframe for one of {list(wanted)}")
    numbers: list[int] = keyframes[nearest].tolist()
    return numbers


def _decode_packet(codec: VideoCodecContext, content: memoryview) -> av.VideoFrame:
    """Decode a packet that holds one frame."""
    # The packet gets memory of its own, which ends in zeros: FFmpeg reads past the end, and behind a borrowed buffer
    # it would read whatever follows.
    packet = av.Packet(len(content))
    packet.update(bytes(content))
    try:
        pictures = codec.decode(packet)
    except av.error.FFmpegError as error:
        raise VideoError(f"is damaged: {error}") from error
    if len(pictures) != 1:
        raise VideoError("is damaged: a packet without a frame")
    return pictures[0]
