"""Reads JHMDB's split files, and holds training clips out by their source video."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coablate_platform.data.formats.clip import FileRef
from coablate_platform.data.formats.files import read_text
from coablate_platform.data.sides import code_of
from coablate_platform.study.errors import InputError

CLASSES = (
    *("brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour", "pullup", "push"),
    *("run", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand", "swing_baseball", "throw", "walk", "wave"),
)
"""The 21 classes, which are the names of folders."""
SPLITS = (1, 2, 3)
"""Numbers of the published splits."""
HELD_OUT = 0.2
"""Largest share of a class's training clips that is held out."""

_NAME = re.compile(rf"(.+)_(?:{'|'.join(CLASSES)})_[a-z]+_[a-z]+_np\d.*")
_LINE = re.compile(r"(.+)\.avi\s+([12])", re.IGNORECASE)
_SIDES = {"1": "train", "2": "test"}

Sides = dict[str, str]
"""``train`` or ``test`` by the clip's name."""


@dataclass(frozen=True, kw_only=True)
class ClipLists:
    """What the split files say of the clips.

    Args:
        setups: code of a clip's sides in the three splits, by its name; see :mod:`coablate_platform.data.sides`.
        subjects: number of a clip's source video, by the clip's name, from 1.
        digest: the beginning of a SHA-256 of the lists; other lists have another one.
    """

    setups: Mapping[str, int] = field(default_factory=dict)
    subjects: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""


def read_lists(path: str, files: Mapping[str, FileRef], classes: Sequence[str]) -> ClipLists:
    """Read the three split files of every class.

    Only clips that all three splits divide get a code.

    Args:
        path: the set's folder in error messages.
        files: the split files by their names.
        classes: the classes that have clips.

    Raises:
        InputError: a file is missing, cannot be read or has a line of another form.
    """
    wanted = {number: {label: f"{label}_test_split{number}.txt" for label in classes} for number in SPLITS}
    lost = [name for names in wanted.values() for name in names.values() if name not in files]
    if lost:
        raise InputError(
            f"{path}: {len(lost)} of JHMDB's split files are missing, the first: {lost[0]}; put the set's folder "
            "splits, with three files a class, beside joint_positions"
        )
    said = [{label: _read_sides(files[name]) for label, name in wanted[number].items()} for number in SPLITS]
    divided = [_with_validation(sides) for sides in said]
    names = sorted(set.intersection(*map(set, divided)))
    numbers = {source: number for number, source in enumerate(sorted(set(map(source_of, names))), start=1)}
    lines = [f"{label} {name} {side}" for sides in said for label in classes for name, side in sides[label].items()]
    return ClipLists(
        setups={name: code_of([sides[name] for sides in divided]) for name in names},
        subjects={name: numbers[source_of(name)] for name in names},
        digest=hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16],
    )


def _read_sides(file: FileRef) -> Sides:
    """Read one split file: a line is ``NAME.avi 1`` (train) or ``NAME.avi 2`` (test)."""
    sides: Sides = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(f"{file}:{number}: expected NAME.avi 1 (train) or NAME.avi 2 (test), found {line[:60]!r}")
        name, side = match[1], _SIDES[match[2]]
        if sides.setdefault(name, side) != side:
            raise InputError(f"{file}:{number}: clip {name} is on both sides of the split")
    return sides


def _with_validation(sides: Mapping[str, Sides]) -> Sides:
    """Return the side of every clip in one split, given by class; held-out training clips are on ``validation``."""
    training = {label: [name for name, side in said.items() if side == "train"] for label, said in sides.items()}
    held = held_out_sources(training)
    return {
        name: "validation" if side == "train" and source_of(name) in held else side
        for said in sides.values()
        for name, side in said.items()
    }


def source_of(name: str) -> str:
    """Return the key of the video that a clip was cut from: the letters of its title, in lower case.

    The title is what stands before the class, the visible body part, the camera's motion and the number of persons, as
    in ``TITLE_pour_u_cm_np1_fr_med_0``. Takes and parts of one video differ in numbers and signs, and get one key. A
    name of another form is a title as a whole.
    """
    match = _NAME.fullmatch(name)
    return "".join(filter(str.isalpha, match[1] if match else name)).lower()


def held_out_sources(training: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the source videos to hold out of one split's training clips, as a whole and in all classes at once.

    Up to 20 clips come from one video, many of one take, so that clips held out at random would be known from training.
    The videos are taken in the order of their keys' SHA-256. One is held out unless some class would then lose more
    than :data:`HELD_OUT` of its training clips, rounded.

    Args:
        training: names of the training clips by class.
    """
    clips = {label: Counter(map(source_of, names)) for label, names in training.items()}
    room = {label: round(HELD_OUT * count.total()) for label, count in clips.items()}
    held: set[str] = set()
    for source in sorted({key for count in clips.values() for key in count}, key=_rank):
        if all(count[source] <= room[label] for label, count in clips.items()):
            held.add(source)
            room = {label: left - clips[label][source] for label, left in room.items()}
    return held


def _rank(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
