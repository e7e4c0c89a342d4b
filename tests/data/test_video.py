"""Encoding and decoding of the store's videos, and seeking to any frame."""

import numpy as np
import pytest

from coablate_platform.data.video import VideoError, decode, encode, fit


def _clip(count: int = 30, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    ground = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8) // 32 * 32
    return [np.roll(ground, number, axis=1) for number in range(count)]


def test_a_single_frame_decodes_as_in_the_whole_video():
    video = encode(_clip(), fit((48, 64), 48, "crop"), gop=7, quality=3)
    every = decode(video.data, video.packets, range(30))
    for wanted in ([0], [29], [6, 7, 8], [3, 3, 20], [13, 29]):
        for frame, number in zip(decode(video.data, video.packets, wanted), wanted, strict=True):
            np.testing.assert_array_equal(frame, every[number])


@pytest.mark.parametrize("following", [0x00, 0x55, 0xAA, 0xFF])
def test_bytes_after_the_stream_do_not_matter(following):
    video = encode(_clip(13), fit((48, 64), 48, "crop"), gop=12, quality=3)
    memory = video.data + bytes([following]) * 64
    for last in (11, 12):
        (frame,) = decode(memoryview(memory)[: len(video.data)], video.packets, [last])
        np.testing.assert_array_equal(frame, decode(video.data, video.packets, [last])[0])


def test_a_keyframe_begins_every_group():
    video = encode(_clip(), fit((48, 64), 48, "crop"), gop=7, quality=3)
    starts = np.cumsum(video.packets) - video.packets
    keyframes = [number for number, start in enumerate(starts) if video.data[start + 3] != 0xB6]
    assert keyframes == [0, 7, 14, 21, 28]


@pytest.mark.parametrize(
    ("size", "resize", "inner", "outer"),
    [
        ((1080, 1920), "crop", (256, 456), (256, 456)),
        ((1080, 1920), "squash", (256, 256), (256, 256)),
        ((1080, 1920), "pad", (144, 256), (256, 256)),
        ((120, 160), "crop", (120, 160), (120, 160)),  # never enlarged
        ((120, 160), "pad", (120, 160), (160, 160)),
        ((121, 161), "crop", (120, 160), (120, 160)),  # even
        ((123, 163), "crop", (122, 162), (122, 162)),
        ((123, 163), "squash", (122, 122), (122, 122)),
    ],
)
def test_fit_gives_scaled_and_stored_sizes(size, resize, inner, outer):
    fitted = fit(size, 256, resize)
    assert (fitted.inner, fitted.outer) == (inner, outer)


def test_padding_moves_the_joints_with_the_picture():
    fitted = fit((100, 200), 50, "pad")
    frame = np.zeros((*fitted.inner, 3), np.uint8)
    frame[10:14, 20:24] = 255
    video = encode([frame], fitted, gop=12, quality=1)
    (stored,) = decode(video.data, video.packets, [0])
    joint = fitted.stored_pixels(
        np.float32([[88, 48], [0, 0]])
    )  # the patch's centre in original pixels; an absent joint
    assert stored.shape == (50, 50, 3)
    x, y = joint[0].round().astype(int)
    assert stored[y, x].min() > 200
    assert stored[y + 6, x].max() < 60
    np.testing.assert_array_equal(joint[1], [0, 0])


def test_damage_is_an_error():
    video = encode(_clip(), fit((48, 64), 48, "crop"), gop=7, quality=3)
    damaged = bytearray(video.data)
    damaged[600:640] = np.random.default_rng(1).bytes(40)
    with pytest.raises(VideoError, match="damaged"):
        decode(bytes(damaged), video.packets, range(30))
    with pytest.raises(VideoError, match="packet sizes"):
        decode(video.data[:-1], video.packets, [0])
    with pytest.raises(VideoError, match="no frame"):
        decode(video.data, video.packets, [30])


def test_what_cannot_be_encoded_is_an_error():
    with pytest.raises(VideoError, match="no frames"):
        encode([], fit((48, 64), 48, "crop"), gop=12, quality=3)
    with pytest.raises(VideoError, match="frame size"):
        encode(
            [np.zeros((48, 64, 3), np.uint8), np.zeros((40, 64, 3), np.uint8)],
            fit((48, 64), 48, "crop"),
            gop=12,
            quality=3,
        )


def test_equal_frames_have_equal_bytes():
    one, two = (encode(_clip(), fit((48, 64), 48, "crop"), gop=12, quality=3) for _ in range(2))
    assert one.data == two.data
