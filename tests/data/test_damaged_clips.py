"""One clip never stops a shard: it is left out, with its file and a reason, and tried again where that may help."""

import zlib
from dataclasses import replace

import pytest

from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef
from coablate_platform.data.shard import PrepareOptions, read_shard, stamp, write_shard

OPTIONS = PrepareOptions(short_side=48)


@pytest.fixture
def write(tmp_path, make_reader):
    """Write a shard of three clips, the one in the middle read by a function of what it should be."""

    def write(odd):
        class Odd(make_reader):
            def read(self, ref):
                clip = super().read(ref)
                return odd(clip) if ref.name == "c001" else clip

        source = Odd(clips=3)
        (tmp_path / "1_rgb.avi").write_bytes(b"12345")
        refs = [replace(ref, video=FileRef(uri=str(tmp_path / "1_rgb.avi"))) for ref in source.refs()]
        return read_shard(write_shard(source, refs, tmp_path, OPTIONS)), refs

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


def test_only_what_the_files_are_guilty_of_is_remembered_against_them(write):
    shard, refs = write(fail(BadClip("/a.skeleton", "is cut")))
    assert shard.bad[0].stamp == stamp(refs[1]) != ""
    for error in (OSError(110, "Connection timed out"), MemoryError(), AssertionError("a fault of the program")):
        shard, _ = write(fail(error))
        assert shard.bad[0].stamp == ""


@pytest.mark.parametrize("more", [-4, 0, 4])
def test_video_and_skeleton_may_differ_by_a_few_frames(write, more):
    shard, _ = write(lambda clip: replace(clip, video=replace(clip.video, count=len(clip.xyz) + more)))
    assert len(shard.digests) == 3


@pytest.mark.parametrize("more", [-5, 5])
def test_video_and_skeleton_that_differ_by_more_are_not_of_one_clip(write, more):
    shard, refs = write(lambda clip: replace(clip, video=replace(clip.video, count=len(clip.xyz) + more)))
    assert list(shard.digests) == ["c000", "c002"]
    reason = f"the video has {21 + more} frames, its skeleton 21: one lacks a part"
    assert shard.bad[0][1:3] == (str(refs[1].video), reason)


def test_a_long_clip_may_differ_by_a_share_of_its_length(write, make_reader):
    """Of clip 180's 200 frames, 5 % are 10."""
    for more, kept in ((13, 1), (14, 0)):
        long = make_reader(clips=200).read(ClipRef(name="c180", skeleton=FileRef(uri="")))
        odd = replace(long, name="c001", video=replace(long.video, count=200 + more, size=(48, 512)))
        shard, _ = write(lambda _, odd=odd: odd)
        assert ("c001" in shard.digests) == kept


def test_a_shard_knows_the_files_of_its_clips(tmp_path, make_reader):
    (tmp_path / "0").write_bytes(b"123")
    refs = [replace(ref, skeleton=FileRef(uri=str(tmp_path / ref.name[3:]))) for ref in make_reader(clips=2).refs()]
    shard = read_shard(write_shard(make_reader(clips=2), refs, tmp_path, OPTIONS))
    assert list(shard.digests) == ["c000", "c001"]
    (measured,) = shard.files.pop("c000")
    assert (measured.size, measured.checksum, shard.files) == (3, zlib.crc32(b"123"), {})
