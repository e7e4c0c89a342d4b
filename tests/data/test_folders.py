"""Folders as people keep them: links, other capitals and containers, archives of old .NET, unreadable folders."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.clip import NO_SKELETON, NO_VIDEO
from coablate_platform.data.synthetic.write import write_video
from coablate_platform.study.errors import InputError

NTU, UTD, UCLA = READERS["ntu"], READERS["utd_mhad"], READERS["nw_ucla"]
ONE, TWO, THREE = (f"S001C001P001R001A00{number}" for number in (1, 2, 3))
PICTURES = np.full((5, 48, 64, 3), 90, dtype=np.uint8)


@pytest.fixture
def published(tmp_path, write_walk) -> Path:
    """Two clips with video, as published."""
    folder = tmp_path / "published"
    for name in (ONE, TWO):
        write_walk(folder, name, frames=5)
        write_video(folder / f"{name}_rgb.avi", PICTURES)
    return folder


def _pairs(folder: Path) -> dict[str, bool]:
    """Name of each clip, and whether it has a video that can be decoded."""
    return {
        ref.name: ref.video is not None and len(list(NTU.read(ref).video.frames())) == 5
        for ref in NTU.list_clips(str(folder))
    }


def test_links_to_folders_are_followed(tmp_path, published):
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "all").symlink_to(published)
    assert _pairs(whole) == {ONE: True, TWO: True}
    part = tmp_path / "part"
    part.mkdir()
    for file in published.glob("*.skeleton"):
        file.rename(part / file.name)
    (part / "nturgb+d_rgb").symlink_to(published, target_is_directory=True)
    assert NTU.at(str(part)).has_video
    assert _pairs(part) == {ONE: True, TWO: True}


def test_links_to_files_are_read_by_their_own_names(tmp_path, published):
    links = tmp_path / "links"
    links.mkdir()
    for number, file in enumerate(sorted(published.iterdir())):
        content = file.rename(published / f"blob{number}")
        (links / file.name).symlink_to(content)
    assert _pairs(links) == {ONE: True, TWO: True}


def test_circles_of_links_end(published):
    (published / "self").symlink_to(published)
    (published / "above").symlink_to(published.parent)
    (published / "deep").mkdir()
    (published / "deep" / "back").symlink_to("..")
    (published / "a.txt").symlink_to("b.txt")
    (published / "b.txt").symlink_to("a.txt")
    (published.parent / "other").mkdir()
    (published.parent / "other" / f"{THREE}.skeleton").write_text("a neighbour's, which is not below the folder")
    assert _pairs(published) == {ONE: True, TWO: True}


def test_a_folder_or_file_that_two_links_lead_to_is_read_once(tmp_path, published):
    for name in ("first", "second"):
        (tmp_path / "twice" / name).mkdir(parents=True)
        (tmp_path / "twice" / name / "all").symlink_to(published)
    assert _pairs(tmp_path / "twice") == {ONE: True, TWO: True}
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("a", "b"):
        (copies / name).mkdir()
        (copies / name / f"{ONE}.skeleton").symlink_to(published / f"{ONE}.skeleton")
    assert list(_pairs(copies)) == [ONE]
    (copies / "b" / f"{ONE}.skeleton").unlink()
    (copies / "b" / f"{ONE}.skeleton").write_bytes((published / f"{ONE}.skeleton").read_bytes())
    with pytest.raises(InputError, match=f"clip {ONE} appears twice"):
        NTU.list_clips(str(copies))


@pytest.mark.parametrize(
    "name", ["_rgb.AVI", "_rgb.Avi", "_RGB.avi", "_rgb.mp4", "_rgb.MP4", "_rgb.mkv", "_rgb.mov", ".avi", ".mp4"]
)
def test_videos_may_have_other_capitals_and_containers(published, name):
    for clip in (ONE, TWO):
        (published / f"{clip}_rgb.avi").rename(published / f"{clip}{name}")
    assert NTU.at(str(published)).has_video
    assert _pairs(published) == {ONE: True, TWO: True}


@pytest.mark.parametrize("name", ["_ir.avi", "_depth.mp4", "_rgb.avi.part", "_rgb.txt", "_rgb_avi"])
def test_other_files_are_no_colour_videos(published, name):
    for clip in (ONE, TWO):
        (published / f"{clip}_rgb.avi").rename(published / f"{clip}{name}")
    assert not NTU.at(str(published)).has_video
    assert _pairs(published) == {ONE: False, TWO: False}


def test_two_videos_of_a_clip_are_refused(published):
    (published / f"{ONE}_rgb.mp4").write_bytes(b"another")
    with pytest.raises(InputError, match=rf"clip {ONE} appears twice: .*_rgb\.avi and .*_rgb\.mp4"):
        NTU.list_clips(str(published))


def test_clips_in_small_letters_or_capitals_have_their_usual_names(tmp_path, published, write_clip):
    for file in sorted(published.iterdir()):
        file.rename(published / file.name.lower())
    assert _pairs(published) == {ONE: True, TWO: True}
    write_clip(tmp_path / "utd", 1, 2)
    for file in sorted((tmp_path / "utd").rglob("*.mat")):
        file.rename(file.with_name(file.name.upper()))
    assert [(ref.name, ref.video is not None) for ref in UTD.list_clips(str(tmp_path / "utd"))] == [("a1_s2_t1", True)]
    (tmp_path / "ucla").mkdir()
    (tmp_path / "ucla" / "A01_S01_E00_V01.JSON").write_text("{}")
    assert [ref.name for ref in UCLA.list_clips(str(tmp_path / "ucla"))] == ["a01_s01_e00_v01"]


def test_an_archive_of_old_net_separates_folders_by_backslashes(tmp_path, published):
    with zipfile.ZipFile(tmp_path / "old.ZIP", "w") as archive:
        for file in published.iterdir():
            archive.writestr(f"set\\inner\\{file.name}", file.read_bytes())
    assert _pairs(tmp_path / "old.ZIP") == {ONE: True, TWO: True}
    unpacked = tmp_path / "unpacked"  # as unpacked where a backslash is a letter like others
    unpacked.mkdir()
    for file in published.iterdir():
        (unpacked / f"set\\{file.name}").write_bytes(file.read_bytes())
    assert _pairs(unpacked) == {ONE: True, TWO: True}


@pytest.mark.parametrize("folder", ["inner", ""])
def test_a_folder_that_cannot_be_read_is_said(published, monkeypatch, folder):
    (published / "inner").mkdir()
    closed, scan = published / folder, os.scandir

    def scandir(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(InputError, match=rf"{closed}: this folder cannot be read \(Permission denied\)"):
        NTU.at(str(published))


def test_a_link_to_a_folder_that_is_gone_is_said(published):
    """As of a disk that is not mounted: its clips would be lost."""
    (published / "nturgb+d_rgb").symlink_to("/nowhere/rgb")
    with pytest.raises(InputError, match=r"nturgb\+d_rgb: this folder cannot be read \(No such file or directory\)"):
        NTU.at(str(published))


def test_a_pipe_is_not_waited_for(published):
    os.mkfifo(published / f"{THREE}.skeleton")
    assert list(_pairs(published)) == [ONE, TWO]


def test_clips_without_a_video_are_left_out_by_name(published, write_walk, write_clip, tmp_path):
    write_walk(published, THREE)
    write_video(published / "S001C001P001R001A009_rgb.avi", PICTURES)
    assert NTU.at(str(published)).missing(str(published)) == {THREE: NO_VIDEO, "S001C001P001R001A009": NO_SKELETON}
    for subject in (1, 2):
        write_clip(tmp_path / "utd", 1, subject)
    (tmp_path / "utd" / "Depth" / "a1_s2_t1_depth.mat").unlink()
    assert UTD.missing(str(tmp_path / "utd")) == {"a1_s2_t1": NO_VIDEO}


def test_a_set_of_skeletons_alone_lacks_nothing(published):
    for video in published.glob("*.avi"):
        video.unlink()
    reader = NTU.at(str(published))
    assert not reader.has_video
    assert reader.missing(str(published)) == {}
