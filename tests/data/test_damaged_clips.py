"""A bad clip never stops a shard: it is listed with its file and the reason, and tried again where that may help."""

import zlib
from dataclasses import replace

import pytest

from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef
from coablate_platform.data.shard import PrepareOptions, clip_stamp, read_shard, write_shard

OPTIONS = PrepareOptions(short_side=48)


@pytest.fixture
def write(tmp_path, make_reader):
    """A function that writes a shard of three clips; its argument replaces the second clip."""

    def write(replacement):
        class ReplacingReader(make_reader):
            def read(self, ref):
                clip = super().read(ref)
                return replacement(clip) if ref.name == "c001" else clip

        reader = ReplacingReader(clips=3)
        (tmp_path / "1_rgb.avi").write_bytes(b"12345")
        refs = [replace(ref, video=FileRef(uri=str(tmp_path / "1_rgb.avi"))) for ref in reader.refs()]
        return read_shard(write_shard(reader, refs, tmp_path, OPTIONS)), refs

    return write


def fail(error):
    def read(clip):
        raise error

    return read


@pytest.mark.parametrize(
    ("error", "file", "reason"),
    [
        (BadClip("/a.skeleton", "is cut", 7), "/a.skeleton:7", "is cut"),
        (OSError(24, "Too many open files", "/a.avi"), "/a.avi", "cannot be read: Too many open files"),
        (KeyError("x"), "/nowhere/1 or {video}", "cannot be read: KeyError: 'x'"),
        (RecursionError("too\n deep"), "/nowhere/1 or {video}", "cannot be read: RecursionError: too deep"),
    ],
)
def test_a_clip_that_fails_is_listed_and_the_others_are_kept(write, error, file, reason):
    shard, refs = write(fail(error))
    assert list(shard.digests) == ["c000", "c002"]
    (bad,) = shard.bad
    assert (bad.name, bad.file, bad.reason) == ("c001", file.format(video=refs[1].video), reason)


def test_only_a_failure_of_the_files_keeps_a_clip_from_being_tried_again(write):
    shard, refs = write(fail(BadClip("/a.skeleton", "is cut")))
    assert shard.bad[0].stamp == clip_stamp(refs[1]) != ""
    for error in (OSError(110, "Connection timed out"), MemoryError(), AssertionError("a fault of the program")):
        shard, _ = write(fail(error))
        assert shard.bad[0].stamp == ""


@pytest.mark.parametrize("more", [-4, 0, 4])
def test_video_and_skeleton_may_differ_by_a_few_frames(write, more):
    shard, _ = write(lambda clip: replace(clip, video=replace(clip.video, count=len(clip.xyz) + more)))
    assert len(shard.digests) == 3


@pytest.mark.parametrize("more", [-5, 5])
def test_a_clip_whose_video_and_skeleton_differ_by_more_is_bad(write, more):
    shard, refs = write(lambda clip: replace(clip, video=replace(clip.video, count=len(clip.xyz) + more)))
    assert list(shard.digests) == ["c000", "c002"]
    reason = f"the video has {21 + more} frames and the skeleton 21: one of them is incomplete"
    assert shard.bad[0][1:3] == (str(refs[1].video), reason)


def test_a_long_clip_may_differ_by_a_share_of_its_length(write, make_reader):
    """Clip 180 has 200 frames: 5 % of them and 3 more are allowed."""
    for more, kept in ((13, 1), (14, 0)):
        clip = make_reader(clips=200).read(ClipRef(name="c180", skeleton=FileRef(uri="")))
        clip = replace(clip, name="c001", video=replace(clip.video, count=200 + more, size=(48, 512)))
        shard, _ = write(lambda _, clip=clip: clip)
        assert ("c001" in shard.digests) == kept


def test_a_shard_holds_the_fingerprints_of_its_clips_files(tmp_path, make_reader):
    (tmp_path / "0").write_bytes(b"123")
    refs = [replace(ref, skeleton=FileRef(uri=str(tmp_path / ref.name[3:]))) for ref in make_reader(clips=2).refs()]
    shard = read_shard(write_shard(make_reader(clips=2), refs, tmp_path, OPTIONS))
    assert list(shard.digests) == ["c000", "c001"]
    (found,) = shard.fingerprints.pop("c000")
    assert (found.size, found.checksum, shard.fingerprints) == (3, zlib.crc32(b"123"), {})
