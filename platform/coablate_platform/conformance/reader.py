"""What every reader of a data set must do. See :class:`~coablate_platform.data.formats.clip.Reader`.

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

READ, LOOKED_AT = 60, 3
"""Clips of a folder that are read, spread evenly over it; and of those, the ones whose video is decoded."""
SMALLEST, LARGEST = 0.2, 4.0
"""Metres that a body's largest extent has in most frames."""
DAMAGED = {"empty": b"", "noise": bytes(range(256)) * 16}


@dataclass(frozen=True, kw_only=True)
class ReaderSubject:
    """A reader, and a folder of its data set; without one, only the reader itself is looked at.

    Args:
        reader: the reader.
        folder: where clips of its format lie.
    """

    reader: Reader
    folder: Path | None = None

    @cached_property
    def here(self) -> Reader:
        """The reader as it describes the folder's clips."""
        return self.reader if self.folder is None else self.reader.at(str(self.folder.absolute()))

    @cached_property
    def refs(self) -> list[ClipRef]:
        """The folder's clips."""
        return [] if self.folder is None else self.here.list_clips(str(self.folder.absolute()))

    @cached_property
    def clips(self) -> list[tuple[ClipRef, RawClip]]:
        """Some of them, read; without those that the set itself calls unusable, and bad ones."""
        assert self.folder is not None
        missing = self.here.missing(str(self.folder.absolute()))
        refs = [ref for ref in self.refs if ref.name not in missing]
        found, bad = [], []
        for ref in refs[:: max(len(refs) // READ, 1)]:
            try:
                found.append((ref, self.here.read(ref)))
            except BadClip as error:
                bad.append(error)
        expect(bool(found), f"{self.folder}: no clip can be read: {bad[0] if bad else 'all are called unusable'}")
        return found

    @property
    def protocol(self) -> Protocol:
        """The reader's default protocol."""
        default = self.here.default_protocol
        return get_protocol(default) if isinstance(default, str) else default


def describes_its_set(subject: ReaderSubject) -> None:
    """Check the name, classes, number of persons, and whether there is video."""
    reader = subject.here
    expect(bool(reader.name) and isinstance(reader.name, str), f"name is {reader.name!r}, expected a word")
    classes = reader.classes
    expect(isinstance(classes, tuple) and bool(classes), f"classes is {classes!r}, expected a tuple of names by label")
    expect(len(set(classes)) == len(classes), "a class stands twice")
    expect(type(reader.persons) is int and reader.persons > 0, f"persons is {reader.persons!r}, expected at least 1")
    expect(type(reader.has_video) is bool, f"has_video is {reader.has_video!r}, expected True or False")


def joins_its_joints_to_a_body(subject: ReaderSubject) -> None:
    """Check that bones are a tree over all joints, and that mirroring swaps joints in pairs."""
    layout = subject.here.layout
    count = len(layout.joints)
    expect(len(set(layout.joints)) == count, f"layout {layout.name}: a joint stands twice")
    expect(0 <= layout.centre < count, f"layout {layout.name}: centre is {layout.centre} of {count} joints")
    twice = [layout.mirror[joint] for joint in layout.mirror] if sorted(layout.mirror) == list(range(count)) else []
    expect(twice == list(range(count)), f"layout {layout.name}: mirrored twice, joints are not where they were")
    expect(layout.mirror[layout.centre] == layout.centre, f"layout {layout.name}: the centre has no mirror image")
    for name in ("bones", "official_bones"):
        bones = getattr(layout, name)
        _check_tree(f"layout {layout.name}: {name}", bones, count)
        mirrored = {(layout.mirror[child], layout.mirror[parent]) for child, parent in bones}
        expect(mirrored == set(bones), f"layout {layout.name}: {name} mirrored are others")


def says_what_decides_how_it_reads(subject: ReaderSubject) -> None:
    """Check that ``reading`` holds plain values; a store is refused where they have changed since."""
    reading = subject.here.reading
    expect(json.loads(json.dumps(reading)) == reading, f"reading is {reading!r}, expected plain values by name")
    expect(type(reading.get("reader")) is int, f"reading is {reading!r}, expected a whole number 'reader' in it")


def travels_to_other_processes(subject: ReaderSubject) -> None:
    """Check that the reader can be pickled."""
    back = pickle.loads(pickle.dumps(subject.here))
    expect(back.name == subject.here.name, "it does not come back from pickle")


def refers_to_clips_by_small_values(subject: ReaderSubject) -> None:
    """Check that references to clips can be pickled."""
    for ref in subject.refs[:READ]:
        expect(pickle.loads(pickle.dumps(ref)) == ref, f"{ref.name}: its reference does not come back from pickle")


def names_a_protocol_of_its_own(subject: ReaderSubject) -> None:
    """Check that the default protocol exists and divides this reader's clips."""
    protocol, name = subject.protocol, subject.here.name
    expect(protocol.source == name, f"protocol {protocol.name} divides {protocol.source!r}, the reader is {name!r}")
    for check in PROTOCOL.first:
        check(ProtocolSubject(protocol=protocol))


def refuses_an_empty_folder(subject: ReaderSubject) -> None:
    """Check that an empty folder is an InputError."""
    with tempfile.TemporaryDirectory() as empty:
        try:
            subject.reader.at(empty)
        except InputError:
            return
    expect(False, "at(folder) of an empty folder: expected InputError, found none")


def lists_clips_by_name(subject: ReaderSubject) -> None:
    """Check that each clip is listed once, in the order of names or of the numbers in them."""
    names = [ref.name for ref in subject.refs]
    expect(bool(names), f"{subject.folder}: no clip found")
    twice = [name for name, after in itertools.pairwise(sorted(names)) if name == after]
    expect(not twice, f"{subject.folder}: clip {twice[:1]} is listed twice")
    by_number = sorted(names, key=lambda name: [(len(part), part) for part in re.split(r"(\d+)", name)])
    expect(names in (sorted(names), by_number), f"{subject.folder}: clips are not sorted by name")


def reads_clips_in_the_one_convention(subject: ReaderSubject) -> None:
    """Check shapes, types and ranges of :class:`~coablate_platform.data.formats.clip.RawClip`."""
    for ref, clip in subject.clips:
        expect(clip.name == ref.name, f"{ref.name}: the clip calls itself {clip.name}")
        _check_numbers(subject.here, clip)
        _check_joints(subject.here, clip)


def measures_bodies_in_metres(subject: ReaderSubject) -> None:
    """Check that bodies are as large as people are."""
    for _, clip in subject.clips:
        bodies = clip.xyz[clip.valid]
        extent = float(np.median((bodies.max(1) - bodies.min(1)).max(1)))
        expect(
            SMALLEST <= extent <= LARGEST,
            f"{clip.name}: a body measures {extent:.3g} in its largest direction, expected {SMALLEST} to {LARGEST} m",
        )


def shows_videos_that_fit_their_skeletons(subject: ReaderSubject) -> None:
    """Check that videos are RGB frames, and as long as their skeletons."""
    if not subject.here.has_video:
        return
    for _, clip in [pair for pair in subject.clips if pair[1].video is not None][:LOOKED_AT]:
        assert clip.video is not None
        frames = list(clip.video.frames())
        shape = (*clip.video.size, 3)
        wrong = [frame for frame in frames if frame.shape != shape or frame.dtype != np.uint8]
        expect(
            not wrong, f"{clip.name}: frames are to be {shape} uint8, found {[(f.shape, f.dtype) for f in wrong[:1]]}"
        )
        apart = abs(len(frames) - len(clip.xyz))
        allowed = LENGTH_TOLERANCE + LENGTH_TOLERANCE_SHARE * len(clip.xyz)
        expect(apart <= allowed, f"{clip.name}: {len(frames)} frames of video, {len(clip.xyz)} of skeleton")


def leaves_clips_to_train_and_to_test(subject: ReaderSubject) -> None:
    """Check that the default protocol divides the folder's clips."""
    clips = [clip for _, clip in subject.clips]
    rows = {name: np.array([getattr(clip, name) for clip in clips]) for name in ("subject", "camera", "setup")}
    divided = ProtocolSubject(protocol=subject.protocol, rows=rows | {"name": np.array([clip.name for clip in clips])})
    for check in PROTOCOL.checks:
        try:
            check(divided)
        except Exception as error:
            expect(False, f"protocol {subject.protocol.name}: {name_of(check)}: {error}")


def calls_damaged_files_bad_clips(subject: ReaderSubject) -> None:
    """Check that a damaged file is a BadClip: it is left out of a store with its reason, and stops nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, content in DAMAGED.items():
            ref = subject.refs[0]
            file = Path(folder) / kind / Path(ref.skeleton.member or ref.skeleton.uri).name
            file.parent.mkdir()
            file.write_bytes(content)
            try:
                subject.here.read(dataclasses.replace(ref, skeleton=FileRef(uri=str(file)), video=None))
            except BadClip:
                continue
            except Exception as error:
                expect(False, f"{kind} file: expected BadClip, found {type(error).__name__}: {error}")
            expect(False, f"{kind} file: expected BadClip, but it was read as a clip")


READER: Suite[ReaderSubject] = Suite(
    first=(describes_its_set, joins_its_joints_to_a_body, names_a_protocol_of_its_own),
    then=(says_what_decides_how_it_reads, travels_to_other_processes, refuses_an_empty_folder),
)
"""The checks of a reader itself."""
CLIPS: Suite[ReaderSubject] = Suite(
    first=(lists_clips_by_name, reads_clips_in_the_one_convention),
    then=(
        refers_to_clips_by_small_values,
        measures_bodies_in_metres,
        shows_videos_that_fit_their_skeletons,
        leaves_clips_to_train_and_to_test,
        calls_damaged_files_bad_clips,
    ),
)
"""The checks of how it reads the clips in a folder."""


def _check_tree(what: str, bones: tuple[tuple[int, int], ...], count: int) -> None:
    parents = dict(bones)
    expect(len(parents) == len(bones) == count - 1, f"{what}: {len(bones)} bones, expected one for all joints but one")
    known = set(range(count))
    expect(set(parents) | set(parents.values()) <= known, f"{what}: a bone is of a joint that there is not")
    for start in known:
        joint, steps = start, 0
        while joint in parents and steps <= count:
            joint, steps = parents[joint], steps + 1
        expect(steps <= count, f"{what}: they go in a circle at joint {start}")


def _check_numbers(reader: Reader, clip: RawClip) -> None:
    expect(
        isinstance(clip.label, int) and 0 <= clip.label < len(reader.classes),
        f"{clip.name}: label is {clip.label!r}, expected a whole number from 0 to {len(reader.classes) - 1}",
    )
    for name, least in (("subject", 1), ("camera", 1), ("setup", 1), ("replication", 0)):
        value = getattr(clip, name)
        expect(
            isinstance(value, int) and value >= least, f"{clip.name}: {name} is {value!r}, expected at least {least}"
        )


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
    expect(bool(clip.valid.any()), f"{clip.name}: valid is False everywhere: nobody is in it")
    expect(not clip.xyz[~clip.valid].any(), f"{clip.name}: xyz is not zero where valid says that nobody is")
