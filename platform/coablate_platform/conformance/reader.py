"""Checks for readers of data sets. See :class:`~coablate_platform.data.formats.clip.Reader`.

Shapes: T frames, M persons, V joints, H and W pixels.
"""

import dataclasses
import itertools
import json
import pickle
import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from coablate_platform.conformance.protocol import PROTOCOL, ProtocolSubject
from coablate_platform.conformance.suite import Suite, expect, name_of
from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef, RawClip, Reader
from coablate_platform.data.protocols import Protocol, get_protocol
from coablate_platform.data.shard import LENGTH_TOLERANCE, LENGTH_TOLERANCE_SHARE
from coablate_platform.study.errors import InputError

READ = 60
"""About how many clips of a folder are read, spread evenly over its list."""
DECODED = 3
"""Number of those clips whose video is decoded."""
SMALLEST, LARGEST = 0.2, 4.0
"""Range of the median over frames of a body's largest extent, in metres."""
DAMAGED_FILES = {"empty": b"", "noise": bytes(range(256)) * 16}


@dataclass(frozen=True, kw_only=True)
class ReaderSubject:
    """A reader and, for the checks of clips, a folder of its data set.

    Args:
        reader: the reader.
        folder: holds clips in the reader's format; None: no clips are read.
    """

    reader: Reader
    folder: Path | None = None

    @cached_property
    def reader_at_folder(self) -> Reader:
        """The reader with the folder's values, as ``at`` returns it."""
        return self.reader if self.folder is None else self.reader.at(str(self.folder.absolute()))

    @cached_property
    def refs(self) -> list[ClipRef]:
        """References to the folder's clips."""
        return [] if self.folder is None else self.reader_at_folder.list_clips(str(self.folder.absolute()))

    @cached_property
    def clips(self) -> list[tuple[ClipRef, RawClip]]:
        """A sample of the folder's clips, without those on the set's list of missing clips and those that are bad."""
        assert self.folder is not None
        missing = self.reader_at_folder.missing(str(self.folder.absolute()))
        refs = [ref for ref in self.refs if ref.name not in missing]
        found, bad = [], []
        for ref in refs[:: max(len(refs) // READ, 1)]:
            try:
                found.append((ref, self.reader_at_folder.read(ref)))
            except BadClip as error:
                bad.append(error)
        expect(bool(found), f"{self.folder}: no clip can be read: {bad[0] if bad else 'all are listed as missing'}")
        return found

    @property
    def protocol(self) -> Protocol:
        """The reader's default protocol."""
        default = self.reader_at_folder.default_protocol
        return get_protocol(default) if isinstance(default, str) else default


def the_description_is_complete(subject: ReaderSubject) -> None:
    """Check the name, the classes, the number of persons and ``has_video``."""
    reader = subject.reader_at_folder
    expect(bool(reader.name) and isinstance(reader.name, str), f"name is {reader.name!r}, expected text")
    classes = reader.classes
    expect(isinstance(classes, tuple) and bool(classes), f"classes is {classes!r}, expected a tuple of class names")
    expect(len(set(classes)) == len(classes), "classes holds a name twice")
    expect(type(reader.persons) is int and reader.persons > 0, f"persons is {reader.persons!r}, expected at least 1")
    expect(type(reader.has_video) is bool, f"has_video is {reader.has_video!r}, expected True or False")


def the_joint_layout_is_consistent(subject: ReaderSubject) -> None:
    """Check that the bones are a tree over all joints, and that mirroring swaps joints in pairs and keeps the bones."""
    layout = subject.reader_at_folder.layout
    count = len(layout.joints)
    expect(len(set(layout.joints)) == count, f"layout {layout.name}: a joint's name occurs twice")
    expect(0 <= layout.centre < count, f"layout {layout.name}: centre is {layout.centre}, expected 0 to {count - 1}")
    twice = [layout.mirror[joint] for joint in layout.mirror] if sorted(layout.mirror) == list(range(count)) else []
    expect(twice == list(range(count)), f"layout {layout.name}: mirroring twice does not restore the order of joints")
    expect(layout.mirror[layout.centre] == layout.centre, f"layout {layout.name}: the centre has another mirror image")
    for name in ("bones", "official_bones"):
        bones = getattr(layout, name)
        _check_tree(f"layout {layout.name}: {name}", bones, count)
        mirrored = {(layout.mirror[child], layout.mirror[parent]) for child, parent in bones}
        expect(mirrored == set(bones), f"layout {layout.name}: mirroring gives other {name}")


def the_reading_settings_are_plain_values(subject: ReaderSubject) -> None:
    """Check that ``reading`` holds JSON values and a version; a store is refused after they change."""
    reading = subject.reader_at_folder.reading
    expect(json.loads(json.dumps(reading)) == reading, f"reading is {reading!r}, expected JSON values by name")
    expect(type(reading.get("reader")) is int, f"reading is {reading!r}, expected an integer 'reader' in it")


def the_reader_can_be_pickled(subject: ReaderSubject) -> None:
    """Check that the reader can be sent to other processes."""
    back = pickle.loads(pickle.dumps(subject.reader_at_folder))
    expect(back.name == subject.reader_at_folder.name, "unpickled, it has another name")


def clip_references_can_be_pickled(subject: ReaderSubject) -> None:
    """Check that references to clips can be sent to other processes."""
    for ref in subject.refs[:READ]:
        expect(pickle.loads(pickle.dumps(ref)) == ref, f"{ref.name}: unpickled, its reference is not equal to itself")


def the_default_protocol_is_for_this_set(subject: ReaderSubject) -> None:
    """Check that the default protocol exists and that its source is this reader."""
    protocol, name = subject.protocol, subject.reader_at_folder.name
    expect(protocol.source == name, f"the source of protocol {protocol.name} is {protocol.source!r}, expected {name!r}")
    for check in PROTOCOL.prerequisites:
        check(ProtocolSubject(protocol=protocol))


def an_empty_folder_is_refused(subject: ReaderSubject) -> None:
    """Check that ``at`` raises an InputError for an empty folder."""
    with tempfile.TemporaryDirectory() as empty:
        try:
            subject.reader.at(empty)
        except InputError:
            return
    expect(False, "at(folder) returned for an empty folder, expected an InputError")


def clips_are_listed_once_and_sorted(subject: ReaderSubject) -> None:
    """Check that each clip is listed once, sorted by name, as text or by the numbers in it."""
    names = [ref.name for ref in subject.refs]
    expect(bool(names), f"{subject.folder}: no clip found")
    twice = [name for name, after in itertools.pairwise(sorted(names)) if name == after]
    expect(not twice, f"{subject.folder}: clip {''.join(twice[:1])} is listed twice")
    by_number = sorted(names, key=lambda name: [(len(part), part) for part in re.split(r"(\d+)", name)])
    expect(names in (sorted(names), by_number), f"{subject.folder}: clips are not sorted by name")


def clips_follow_the_convention(subject: ReaderSubject) -> None:
    """Check the shapes, types and ranges that :class:`~coablate_platform.data.formats.clip.RawClip` defines."""
    for ref, clip in subject.clips:
        expect(clip.name == ref.name, f"{ref.name}: the clip's name is {clip.name}")
        _check_numbers(subject.reader_at_folder, clip)
        _check_joints(subject.reader_at_folder, clip)


def joints_are_in_metres(subject: ReaderSubject) -> None:
    """Check that bodies have a human size."""
    for _, clip in subject.clips:
        bodies = clip.xyz[clip.valid]
        extent = float(np.median((bodies.max(1) - bodies.min(1)).max(1)))
        expect(
            SMALLEST <= extent <= LARGEST,
            f"{clip.name}: a body's largest extent is {extent:.3g}, expected {SMALLEST} to {LARGEST} m",
        )


def videos_fit_their_skeletons(subject: ReaderSubject) -> None:
    """Check that videos have RGB frames and about as many as their skeletons."""
    if not subject.reader_at_folder.has_video:
        return
    for _, clip in [pair for pair in subject.clips if pair[1].video is not None][:DECODED]:
        assert clip.video is not None
        frames = list(clip.video.frames())
        shape = (*clip.video.size, 3)
        wrong = [frame for frame in frames if frame.shape != shape or frame.dtype != np.uint8]
        found = ", ".join(f"{frame.shape} {frame.dtype}" for frame in wrong[:1])
        expect(not wrong, f"{clip.name}: a frame is {found}, expected {shape} uint8")
        apart = abs(len(frames) - len(clip.xyz))
        allowed = LENGTH_TOLERANCE + LENGTH_TOLERANCE_SHARE * len(clip.xyz)
        expect(apart <= allowed, f"{clip.name}: {len(frames)} frames of video, {len(clip.xyz)} of skeleton")


def the_default_protocol_divides_the_clips(subject: ReaderSubject) -> None:
    """Check that the default protocol passes its checks on the folder's clips."""
    clips = [clip for _, clip in subject.clips]
    rows = {name: np.array([getattr(clip, name) for clip in clips]) for name in ("subject", "camera", "setup")}
    divided = ProtocolSubject(protocol=subject.protocol, rows=rows | {"name": np.array([clip.name for clip in clips])})
    for check in PROTOCOL.checks:
        try:
            check(divided)
        except Exception as error:
            expect(False, f"protocol {subject.protocol.name}: {name_of(check)}: {error}")


def damaged_files_are_bad_clips(subject: ReaderSubject) -> None:
    """Check that a damaged file raises BadClip, so that its clip is left out of a store and the others are read."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, content in DAMAGED_FILES.items():
            ref = subject.refs[0]
            file = Path(folder) / kind / Path(ref.skeleton.member or ref.skeleton.uri).name
            file.parent.mkdir()
            file.write_bytes(content)
            try:
                subject.reader_at_folder.read(dataclasses.replace(ref, skeleton=FileRef(uri=str(file)), video=None))
            except BadClip:
                continue
            except Exception as error:
                expect(False, f"{kind} file: expected BadClip, found {type(error).__name__}: {error}")
            expect(False, f"{kind} file: expected BadClip, but a clip was read")


READER: Suite[ReaderSubject] = Suite(
    prerequisites=(the_description_is_complete, the_joint_layout_is_consistent, the_default_protocol_is_for_this_set),
    independent=(the_reading_settings_are_plain_values, the_reader_can_be_pickled, an_empty_folder_is_refused),
)
"""Checks of a reader without clips."""
CLIPS: Suite[ReaderSubject] = Suite(
    prerequisites=(clips_are_listed_once_and_sorted, clips_follow_the_convention),
    independent=(
        clip_references_can_be_pickled,
        joints_are_in_metres,
        videos_fit_their_skeletons,
        the_default_protocol_divides_the_clips,
        damaged_files_are_bad_clips,
    ),
)
"""Checks of the clips that it reads from a folder."""


def _check_tree(what: str, bones: tuple[tuple[int, int], ...], count: int) -> None:
    parents = dict(bones)
    expect(
        len(parents) == len(bones) == count - 1,
        f"{what}: found {len(bones)} bones with {len(parents)} different children, expected {count - 1} of each",
    )
    known = set(range(count))
    expect(set(parents) | set(parents.values()) <= known, f"{what}: a bone has a joint outside 0 to {count - 1}")
    for start in known:
        joint, steps = start, 0
        while joint in parents and steps <= count:
            joint, steps = parents[joint], steps + 1
        expect(steps <= count, f"{what}: they form a cycle above joint {start}")


def _check_numbers(reader: Reader, clip: RawClip) -> None:
    expect(
        _is_whole(clip.label) and 0 <= clip.label < len(reader.classes),
        f"{clip.name}: label is {clip.label!r}, expected an integer from 0 to {len(reader.classes) - 1}",
    )
    for name, least in (("subject", 1), ("camera", 1), ("setup", 1), ("replication", 0)):
        value = getattr(clip, name)
        expect(
            _is_whole(value) and value >= least,
            f"{clip.name}: {name} is {value!r}, expected an integer of at least {least}",
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_joints(reader: Reader, clip: RawClip) -> None:
    joints = len(reader.layout.joints)
    frames, persons = clip.xyz.shape[:2]
    for name, size, kind in (
        ("xyz", (joints, 3), np.float32),
        ("pixels", (joints, 2), np.float32),
        ("valid", (), bool),
    ):
        array = getattr(clip, name)
        if array is None and name == "pixels":
            continue
        expected = (frames, persons, *size)
        found = f"{array.shape} {array.dtype}"
        expect(
            array.shape == expected and array.dtype == kind,
            f"{clip.name}: {name} is {found}, expected {expected} {np.dtype(kind)}",
        )
    expect(frames > 0, f"{clip.name}: no frames")
    expect(1 <= persons <= reader.persons, f"{clip.name}: {persons} persons, expected 1 to {reader.persons}")
    expect(bool(np.isfinite(clip.xyz).all()), f"{clip.name}: a joint of xyz is not finite")
    expect(bool(clip.valid.any()), f"{clip.name}: valid is False everywhere, expected a body in some frame")
    expect(not clip.xyz[~clip.valid].any(), f"{clip.name}: xyz is not zero where valid is False")
    zeros = clip.valid & ~clip.xyz.any((2, 3))
    expect(not zeros.any(), f"{clip.name}: valid is True where all joints are zero, expected an untracked body")
