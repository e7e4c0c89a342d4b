"""Reads PKU-MMD II: skeletons of long recordings, of which every labelled interval is a clip."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.bodies import motion
from coablate_platform.data.formats.clip import (
    NO_SKELETON,
    BadClip,
    ClipRef,
    FileRef,
    RawClip,
    Recipe,
    to_float32,
    tracked_frames,
)
from coablate_platform.data.formats.files import add_once, parts_of, read_bytes, read_text, walk
from coablate_platform.data.joints import KINECT_V2, JointLayout
from coablate_platform.data.sides import code_of
from coablate_platform.study.errors import InputError

CLASSES = (
    *("bow", "brushing hair", "brushing teeth", "check time (from watch)", "cheer up", "clapping"),
    *("cross hands in front (say stop)", "drink water", "drop", "eat meal/snack", "falling"),
    *("giving something to other person", "hand waving", "handshaking", "hopping (one foot jumping)"),
    *("hugging other person", "jump up", "kicking other person", "kicking something"),
    *("make a phone call/answer phone", "pat on back of other person", "pickup", "playing with phone/tablet"),
    *("point finger at the other person", "pointing to something with finger", "punching/slapping other person"),
    *("pushing other person", "put on a hat/cap", "put something inside pocket", "reading"),
    *("rub two hands together", "salute", "sitting down", "standing up", "take off a hat/cap", "take off glasses"),
    *("take off jacket", "take out something from pocket", "taking a selfie", "tear up paper", "throw"),
    *("touch back (backache)", "touch chest (stomachache/heart pain)", "touch head (headache)"),
    *("touch neck (neckache)", "typing on a keyboard", "use a fan (with hand or paper)/feeling warm", "wear jacket"),
    *("wear on glasses", "wipe face", "writing"),
)
NO_LABELS = "no label file"
"""Reason for which a recording without a label file is left out."""
NUMBERS = 150
"""Numbers in a line of a skeleton file: x, y and z of 25 joints of two bodies."""
HELD_OUT = slice(1, None, 5)
"""The training subjects, in the order of their numbers, who are held out."""

_RECORDING = r"A(\d+)N(\d+)-([LMR])"
_FILE = re.compile(rf"({_RECORDING})\.txt", re.IGNORECASE | re.ASCII)
_LISTS = {"cross-subject": "cross_subject_v2.txt", "cross-view": "cross_view_v2.txt"}
_LISTED = re.compile(rf"(train)|(valid|test)|({_RECORDING})", re.IGNORECASE | re.ASCII)
_INTERVAL = re.compile(r"(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,.+", re.ASCII)
_CAMERAS = {"L": 1, "M": 2, "R": 3}


@dataclass(frozen=True, kw_only=True)
class IntervalRef(ClipRef):
    """A reference to a labelled interval of a recording.

    Args:
        recording: name of the recording.
        labels: its label file.
        line: number of the interval's line in that file, from 1.
        text: the line.
    """

    recording: str
    labels: FileRef
    line: int
    text: str

    @property
    def files(self) -> list[FileRef]:
        """The skeleton's file and the label file."""
        return [*super().files, self.labels]


@dataclass(frozen=True, kw_only=True)
class PkuMmd:
    """Reads ``Skeleton/AaaNnn-V.txt`` and ``Label/AaaNnn-V.txt`` of phase II, with the lists ``cross_…_v2.txt``.

    A file is told by the nearest folder or archive above it with ``skeleton`` or ``label`` in its name.

    A line of a skeleton file is a frame of 150 numbers: x, y and z in metres of the 25 joints of one body, then of
    another, which is all zeros where it is absent. A line of a label file is ``class,start,end,confidence``. Our
    reading: classes and frames count from 1, and ``end`` is the last frame of the interval. The confidence is not used.
    An interval that reaches beyond the recording is a bad clip.

    A clip is named by its recording and the number of its line in the label file, as in ``A01N02L_003``. The subject is
    the number after ``A``, the replication that after ``N``. The views L, M and R are cameras 1, 2 and 3.

    Args:
        setups: code of the sides in cross-subject and cross-view, by recording; empty before :meth:`at`.
        digest: the beginning of a SHA-256 of the two lists.
    """

    name: str = "pku_mmd"
    layout: JointLayout = KINECT_V2
    persons: int = 2
    classes: tuple[str, ...] = CLASSES
    default_protocol: str = "pku_mmd/cs"
    has_video: bool = False
    setups: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""

    @property
    def reading(self) -> Recipe:
        """The reader's version, and a digest of the lists, since the store holds each clip's sides."""
        return {"reader": 1, "lists": self.digest}

    def at(self, path: str) -> "PkuMmd":
        """Return this reader with the splits of the set under ``path``.

        Raises:
            InputError: there is no clip, or a list is missing or malformed.
        """
        self.list_clips(path)
        lists = _find_lists(path)
        said = [_read_sides(lists[name]) for name in _LISTS]
        divided = [_with_validation(sides) for sides in said]
        recordings = sorted(set.intersection(*map(set, divided)))
        lines = [f"{name} {side}" for sides in said for name, side in sides.items()]
        return replace(
            self,
            setups={name: code_of([sides[name] for sides in divided]) for name in recordings},
            digest=hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16],
        )

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the labelled intervals under ``path``, sorted by name; label files are read, skeletons are not.

        Raises:
            InputError: there is no interval, a file appears twice, or a label file cannot be read.
        """
        skeletons, labels = _find(path)
        clips: list[ClipRef] = [
            IntervalRef(
                name=f"{recording.replace('-', '')}_{number:03}",
                recording=recording,
                skeleton=skeletons[recording],
                labels=labels[recording],
                line=number,
                text=line.strip(),
            )
            for recording in skeletons.keys() & labels.keys()
            for number, line in enumerate(read_text(labels[recording]).splitlines(), start=1)
            if line.strip()
        ]
        if not clips:
            raise InputError(
                f"{path}: no labelled interval found; expected PKU-MMD II files named like Skeleton/A01N01-L.txt and "
                "Label/A01N01-L.txt"
            )
        return sorted(clips, key=lambda clip: clip.name)

    def missing(self, path: str) -> dict[str, str]:
        """Return the recordings that lack a skeleton or a label file: the data set has no list of unusable ones."""
        skeletons, labels = _find(path)
        lost = dict.fromkeys(labels.keys() - skeletons.keys(), NO_SKELETON)
        lost |= dict.fromkeys(skeletons.keys() - labels.keys(), NO_LABELS)
        return dict(sorted(lost.items()))

    def read(self, ref: ClipRef) -> RawClip:
        """Read one interval of a recording.

        Raises:
            BadClip: the interval or its part of the skeleton file is malformed, or a list lacks the recording.
            OSError: the system could not read the file.
        """
        assert isinstance(ref, IntervalRef)
        xyz, label = _read_interval(ref)
        subject, replication, view = re.findall(r"\d+|[LMR]", ref.recording)
        if ref.recording not in self.setups:
            raise BadClip(str(ref.skeleton), f"{ref.recording} is not in {' and in '.join(_LISTS.values())}")
        xyz, valid = _people(xyz, str(ref.skeleton))
        return RawClip(
            name=ref.name,
            label=label,
            subject=int(subject),
            camera=_CAMERAS[view],
            setup=self.setups[ref.recording],
            replication=int(replication),
            xyz=xyz,
            pixels=None,
            valid=valid,
            video=None,
        )


def _read_interval(ref: IntervalRef) -> tuple[NDArray[np.float32], int]:
    """Return the joints (T, 2, 25, 3) of an interval, and its class, from 0."""
    match = _INTERVAL.fullmatch(ref.text)
    if match is None:
        reason = f"expected class,start,end,confidence, found {ref.text[:60]!r}"
        raise BadClip(str(ref.labels), reason, ref.line)
    label, start, end = map(int, match.groups())
    if not 1 <= label <= len(CLASSES):
        raise BadClip(str(ref.labels), f"class {label} is none of the set's {len(CLASSES)} classes", ref.line)
    frames = read_bytes(ref.skeleton).splitlines()
    if not 1 <= start <= end <= len(frames):
        reason = f"frames {start} to {end} are no part of the {len(frames)} frames of {ref.skeleton}"
        raise BadClip(str(ref.labels), reason, ref.line)
    rows = [_numbers(frame, str(ref.skeleton), line) for line, frame in enumerate(frames[start - 1 : end], start=start)]
    return to_float32(np.array(rows)).reshape(len(rows), 2, len(KINECT_V2.joints), 3), label - 1


def _numbers(frame: bytes, file: str, line: int) -> list[float]:
    fields = frame.split()
    if len(fields) != NUMBERS:
        raise BadClip(file, f"expected {NUMBERS} numbers, found {len(fields)}", line)
    try:
        return [float(field) for field in fields]
    except ValueError:
        raise BadClip(file, "a coordinate is not a number", line) from None


def _people(xyz: NDArray[np.float32], file: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the joints (T, M, V, 3) of the bodies that are tracked in any frame, and in which frames they are (T, M).

    The body that moves most comes first.
    """
    if not np.isfinite(xyz).all():
        raise BadClip(file, "a joint is not a finite number")
    valid = tracked_frames(xyz, file)
    order = sorted(np.flatnonzero(valid.any(0)), key=lambda body: -motion(xyz[valid[:, body], body]))
    return xyz[:, order], valid[:, order]


def _find(path: str) -> tuple[dict[str, FileRef], dict[str, FileRef]]:
    """Return the skeleton files and the label files under a path by recording.

    Raises:
        InputError: a recording has two files of one kind.
    """
    found: dict[str, dict[str, FileRef]] = {"skeleton": {}, "label": {}}
    for name, file in walk(path):
        if match := _FILE.fullmatch(name):
            folders = [*parts_of(replace(file, member=None)), *parts_of(file)][:-1]
            kinds = [kind for folder in folders[::-1] for kind in found if kind in folder.lower()]
            if kinds:
                add_once(found[kinds[0]], match[1].upper(), file, path)
    return found["skeleton"], found["label"]


def _find_lists(path: str) -> dict[str, FileRef]:
    """Return the files with the two splits, by the split's name; a hyphen for the first underscore is accepted."""
    found: dict[str, FileRef] = {}
    for name, file in walk(path):
        for split, expected in _LISTS.items():
            if name.lower().replace("-", "_") == expected:
                add_once(found, split, file, path)
    if lost := [expected for split, expected in _LISTS.items() if split not in found]:
        raise InputError(
            f"{path}: {' and '.join(lost)} missing; the data set's publishers give these lists of who trains, in their "
            "folder Split: put them beside Skeleton and Label"
        )
    return found


def _read_sides(file: FileRef) -> dict[str, str]:
    """Return ``train`` or ``test`` by recording: the names after ``Training videos:`` and ``Validataion videos:``."""
    sides: dict[str, str] = {}
    side = ""
    for match in _LISTED.finditer(read_text(file)):
        if match[3] is None:
            side = "train" if match[1] else "test"
        elif side and sides.setdefault(match[3].upper(), side) != side:
            raise InputError(f"{file}: {match[3]} is on both sides of the split")
    if lost := sorted({"train", "test"} - set(sides.values())):
        raise InputError(
            f"{file}: no recording found that {lost[-1]}s; expected names like A01N01-L after 'Training videos:' and "
            "after 'Validataion videos:'"
        )
    return sides


def _with_validation(sides: Mapping[str, str]) -> dict[str, str]:
    """Return the side of every recording, with those of the held-out training subjects on ``validation``."""
    subjects = {name: int(name[1 : name.index("N")]) for name in sides}
    held = sorted({subjects[name] for name, side in sides.items() if side == "train"})[HELD_OUT]
    return {name: "validation" if side == "train" and subjects[name] in held else side for name, side in sides.items()}
