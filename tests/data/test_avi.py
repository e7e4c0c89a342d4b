"""A video file is read to its last frame, or refused."""

import av
import numpy as np
import pytest

from coablate_platform.data.formats.avi import AviVideo
from coablate_platform.data.formats.clip import BadClip, FileRef
from coablate_platform.data.synthetic.write import write_video

FRAMES = 30


@pytest.fixture
def path(tmp_path):
    """A video with NTU's codec."""
    noise = np.random.default_rng(0).integers(0, 255, (FRAMES, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "clip_rgb.avi", noise)
    return tmp_path / "clip_rgb.avi"


def count(path):
    return sum(1 for _ in AviVideo(file=FileRef(uri=str(path))).frames((24, 32)))


def refused(path, reason):
    with pytest.raises(BadClip, match=reason) as caught:
        count(path)
    assert caught.value.file == str(path)


def test_a_complete_video_is_read_completely(path):
    assert count(path) == FRAMES


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_video_that_was_cut_short_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, r"the video is damaged or cut short at frame \d+")


def test_a_video_that_was_cut_between_frames_is_refused(path):
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux() if packet.pos]
    path.write_bytes(path.read_bytes()[: places[20]])
    refused(path, "only 20 of the 30 frames that its header announces can be decoded")


def test_a_video_with_a_hole_is_refused(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(content)
    refused(path, "the video is damaged")


def test_a_video_with_an_unknown_codec_is_refused(path):
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZQ1"))
    refused(path, "FFmpeg does not know the codec")
    with pytest.raises(BadClip, match="FFmpeg does not know the codec"):
        _ = AviVideo(file=FileRef(uri=str(path))).size


def test_a_failure_of_the_system_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match="directory"):
        count(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_a_genuine_video_that_was_cut_short_is_refused(genuine_data, tmp_path, share):
    content = (genuine_data / "ntu" / "S001C001P001R001A001_rgb.avi").read_bytes()
    (tmp_path / "clip_rgb.avi").write_bytes(content[: int(share * len(content))])
    refused(tmp_path / "clip_rgb.avi", "cut short")
