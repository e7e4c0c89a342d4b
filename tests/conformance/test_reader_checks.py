"""Each check of a reader fails for a reader with the fault that it is for, with a message in one line."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_protocol import HALVES, of
from suites import failures

from coablate_platform.conformance.reader import CLIPS, READER, ReaderSubject
from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef, RawClip
from coablate_platform.data.joints import KINECT_V1
from coablate_platform.data.protocols import Protocol, Rule
from coablate_platform.study.errors import InputError

NOBODY_TESTS = of(Protocol, test=Rule(subjects=frozenset({9})))


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A made-up format: a clip is an ``.npy`` file of joints (T, V, 3), named ``label_subject``."""

    fault: str = ""
    name: str = "mine"
    layout: Any = KINECT_V1
    persons: int = 1
    classes: Any = ("wave", "sit")
    default_protocol: Any = HALVES
    has_video: bool = False
    reading: Any = dataclasses.field(default_factory=lambda: {"reader": 1})

    def at(self, path: str) -> "Lines":
        if self.fault != "empty" and not list(Path(path).glob("*.npy")):
            raise InputError(f"{path}: nothing here")
        return self

    def list_clips(self, path: str) -> list[ClipRef]:
        files = sorted(Path(path).glob("*.npy"))
        files = {"order": files[::-1], "twice": [*files, files[-1]]}.get(self.fault, files)
        return [ClipRef(name=file.stem, skeleton=FileRef(uri=str(file))) for file in files]

    def missing(self, path: str) -> dict[str, str]:
        return {}

    def read(self, ref: ClipRef) -> RawClip:
        try:
            xyz = np.load(ref.skeleton.uri)
        except Exception as error:
            if self.fault == "damaged":
                raise
            raise BadClip(str(ref.skeleton), str(error)) from None
        if self.fault == "zeros":
            xyz[0] = 0
        label, subject = (int(part) for part in ref.name.split("_"))
        xyz = {"metres": 1000 * xyz, "type": xyz.astype(np.float64), "nan": xyz * np.nan}.get(self.fault, xyz)
        bodies = 2 if self.fault == "persons" else 1
        valid = np.full((len(xyz), bodies), self.fault != "absent")
        return RawClip(
            name="other" if self.fault == "name" else ref.name,
            label=bool(label) if self.fault == "bool label" else label + (self.fault == "label"),
            subject=subject - (self.fault == "subject"),
            camera=1,
            setup=1,
            replication=1,
            xyz=np.repeat(xyz[:, None], bodies, axis=1),
            pixels=None,
            valid=valid,
            video=None,
        )


def with_layout(**changes: Any) -> Lines:
    """The reader with changes of its joint layout."""
    return Lines(layout=dataclasses.replace(KINECT_V1, **changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for label in (0, 1):
        for subject in (1, 2, 3, 4):
            xyz = draw.normal([0, 0, 2.5], 0.3, (6, 20, 3)).astype(np.float32)
            np.save(tmp_path / f"{label}_{subject}.npy", xyz)
    return tmp_path


@pytest.mark.parametrize(
    ("reader", "check"),
    [
        (Lines(name=""), "the description is complete"),
        (Lines(classes=("wave", "wave")), "the description is complete"),
        (Lines(persons=0), "the description is complete"),
        (with_layout(mirror=(1, *range(1, 20))), "the joint layout is consistent"),
        (with_layout(mirror=(*range(4), 9, *range(5, 9), 4, *range(10, 20))), "the joint layout is consistent"),
        (with_layout(bones=KINECT_V1.bones[1:]), "the joint layout is consistent"),
        (with_layout(bones=((1, 2), *KINECT_V1.bones[1:])), "the joint layout is consistent"),
        (Lines(default_protocol="utd/cs"), "the default protocol is for this set"),
        (Lines(default_protocol="mine/gone"), "the default protocol is for this set"),
        (Lines(reading={}), "the reading settings are plain values"),
        (Lines(reading={"reader": 1, "how": print}), "the reading settings are plain values"),
        (Lines(fault="empty"), "an empty folder is refused"),
        (Lines(fault="order"), "clips are listed once and sorted"),
        (Lines(fault="twice"), "clips are listed once and sorted"),
        (Lines(fault="name"), "clips follow the convention"),
        (Lines(fault="label"), "clips follow the convention"),
        (Lines(fault="subject"), "clips follow the convention"),
        (Lines(fault="type"), "clips follow the convention"),
        (Lines(fault="nan"), "clips follow the convention"),
        (Lines(fault="absent"), "clips follow the convention"),
        (Lines(fault="zeros"), "clips follow the convention"),
        (Lines(fault="bool label"), "clips follow the convention"),
        (Lines(fault="persons"), "clips follow the convention"),
        (Lines(fault="metres"), "joints are in metres"),
        (Lines(default_protocol=NOBODY_TESTS), "the default protocol divides the clips"),
        (Lines(fault="damaged"), "damaged files are bad clips"),
    ],
)
def test_a_faulty_reader_fails_the_check_for_its_fault(reader: Lines, check: str, folder: Path) -> None:
    subject = ReaderSubject(reader=reader, folder=folder)
    found = failures(READER, subject) | failures(CLIPS, subject)
    assert check in found
    assert "\n" not in "".join(found.values())


def test_a_reader_without_a_fault_passes(folder: Path) -> None:
    subject = ReaderSubject(reader=Lines(), folder=folder)
    assert failures(READER, subject) | failures(CLIPS, subject) == {}


def test_bad_clips_are_skipped_unless_all_are_bad(folder: Path) -> None:
    (folder / "0_1.npy").write_bytes(b"damaged")
    subject = ReaderSubject(reader=Lines(), folder=folder)
    assert failures(CLIPS, subject) == {}
    for file in folder.glob("*.npy"):
        file.write_bytes(b"damaged")
    assert (
        "no clip can be read"
        in failures(CLIPS, ReaderSubject(reader=Lines(), folder=folder))["clips follow the convention"]
    )
