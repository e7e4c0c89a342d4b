"""Each check of a reader fails where a reader does not do what it is about, in one line that says so."""

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
        label, subject = (int(part) for part in ref.name.split("_"))
        xyz = {"metres": 1000 * xyz, "type": xyz.astype(np.float64), "nan": xyz * np.nan}.get(self.fault, xyz)
        bodies = 2 if self.fault == "persons" else 1
        valid = np.full((len(xyz), bodies), self.fault != "absent")
        return RawClip(
            name="other" if self.fault == "name" else ref.name,
            label=label + (self.fault == "label"),
            subject=subject - (self.fault == "subject"),
            camera=1,
            setup=1,
            replication=1,
            xyz=np.repeat(xyz[:, None], bodies, axis=1),
            pixels=None,
            valid=valid,
            video=None,
        )


def joined(**changes: Any) -> Lines:
    """The reader with another layout."""
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
        (Lines(name=""), "describes its set"),
        (Lines(classes=("wave", "wave")), "describes its set"),
        (Lines(persons=0), "describes its set"),
        (joined(mirror=(1, *range(1, 20))), "joins its joints to a body"),
        (joined(mirror=(*range(4), 9, *range(5, 9), 4, *range(10, 20))), "joins its joints to a body"),
        (joined(bones=KINECT_V1.bones[1:]), "joins its joints to a body"),
        (joined(bones=((1, 2), *KINECT_V1.bones[1:])), "joins its joints to a body"),
        (Lines(default_protocol="utd/cs"), "names a protocol of its own"),
        (Lines(default_protocol="mine/gone"), "names a protocol of its own"),
        (Lines(reading={}), "says what decides how it reads"),
        (Lines(reading={"reader": 1, "how": print}), "says what decides how it reads"),
        (Lines(fault="empty"), "refuses an empty folder"),
        (Lines(fault="order"), "lists clips by name"),
        (Lines(fault="twice"), "lists clips by name"),
        (Lines(fault="name"), "reads clips in the one convention"),
        (Lines(fault="label"), "reads clips in the one convention"),
        (Lines(fault="subject"), "reads clips in the one convention"),
        (Lines(fault="type"), "reads clips in the one convention"),
        (Lines(fault="nan"), "reads clips in the one convention"),
        (Lines(fault="absent"), "reads clips in the one convention"),
        (Lines(fault="persons"), "reads clips in the one convention"),
        (Lines(fault="metres"), "measures bodies in metres"),
        (Lines(default_protocol=of(Protocol, test=Rule(subjects=frozenset({9})))), "leaves clips to train and to test"),
        (Lines(fault="damaged"), "calls damaged files bad clips"),
    ],
)
def test_what_a_reader_does_not_do_is_said(reader: Lines, check: str, folder: Path) -> None:
    subject = ReaderSubject(reader=reader, folder=folder)
    found = failures(READER, subject) | failures(CLIPS, subject)
    assert check in found
    assert "\n" not in "".join(found.values())


def test_a_reader_without_a_fault_passes(folder: Path) -> None:
    subject = ReaderSubject(reader=Lines(), folder=folder)
    assert failures(READER, subject) | failures(CLIPS, subject) == {}


def test_a_clip_that_is_bad_spoils_no_set(folder: Path) -> None:
    (folder / "0_1.npy").write_bytes(b"damaged")
    subject = ReaderSubject(reader=Lines(), folder=folder)
    assert failures(CLIPS, subject) == {}
    for file in folder.glob("*.npy"):
        file.write_bytes(b"damaged")
    assert (
        "no clip can be read"
        in failures(CLIPS, ReaderSubject(reader=Lines(), folder=folder))["reads clips in the one convention"]
    )
