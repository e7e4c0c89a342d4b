"""Checks for protocols: a protocol divides the clips of its data set into disjoint splits."""

import itertools
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coablate_platform.conformance.suite import Suite, expect
from coablate_platform.data.protocols import SPLITS, Protocol

Rows = Mapping[str, NDArray[np.int64]]


def _all_combinations() -> Rows:
    """Return one clip for each combination of performer, camera and setup that occurs in published protocols."""
    subject, camera, setup = np.array(list(itertools.product(range(1, 107), (1, 2, 3), range(1, 33)))).T
    return {"subject": subject, "camera": camera, "setup": setup}


@dataclass(frozen=True, kw_only=True)
class ProtocolSubject:
    """A protocol, and the clips that it divides.

    Args:
        protocol: the protocol.
        rows: columns ``subject``, ``camera`` and ``setup`` of the clips.
    """

    protocol: Protocol
    rows: Rows = field(default_factory=_all_combinations)

    def split(self, *, hold_out: bool = True) -> dict[str, NDArray[np.int64]]:
        """Return the row numbers of each split."""
        return self.protocol.split(self.rows, hold_out=hold_out)


def name_and_description_are_given(subject: ProtocolSubject) -> None:
    """Check that name, source, rule and description are not empty."""
    for name in ("name", "source", "rule", "description"):
        expect(bool(getattr(subject.protocol, name)), f"its {name} is empty")


def splits_are_train_validation_and_test(subject: ProtocolSubject) -> None:
    """Check that ``split`` returns these three splits, in this order."""
    found = tuple(subject.split())
    expect(found == SPLITS, f"split returned {found}, expected {SPLITS}")


def splits_do_not_overlap(subject: ProtocolSubject) -> None:
    """Check that no clip is in two splits."""
    for hold_out in (True, False):
        rows = np.concatenate(list(subject.split(hold_out=hold_out).values()))
        expect(len(np.unique(rows)) == len(rows), f"a clip is in two splits (hold_out={hold_out})")


def row_numbers_ascend(subject: ProtocolSubject) -> None:
    """Check that the row numbers of each split ascend, so that clips are in the store's order."""
    for name, rows in subject.split().items():
        expect(bool((np.diff(rows) > 0).all()), f"the row numbers of {name} do not ascend")


def train_and_test_are_not_empty(subject: ProtocolSubject) -> None:
    """Check that the training split and the test split have clips."""
    sizes = {name: len(rows) for name, rows in subject.split().items()}
    count = len(subject.rows["subject"])
    for name in ("train", "test"):
        expect(bool(sizes[name]), f"{name} gets none of {count} clips ({sizes})")


def validation_is_empty_without_holding_out(subject: ProtocolSubject) -> None:
    """Check that the validation split is empty with ``hold_out=False``."""
    whole = subject.split(hold_out=False)
    expect(not len(whole["validation"]), "with hold_out=False the validation split has clips, expected none")


def holding_out_takes_clips_from_training_only(subject: ProtocolSubject) -> None:
    """Check that ``hold_out`` does not change the test split and adds nothing to the training split."""
    held, whole = subject.split(), subject.split(hold_out=False)
    expect(np.array_equal(held["test"], whole["test"]), "the test split depends on hold_out")
    expect(set(held["train"]) <= set(whole["train"]), "hold_out=True adds clips to the training split")


def the_protocol_can_be_pickled_and_stored(subject: ProtocolSubject) -> None:
    """Check that the protocol can be sent to other processes and, if it has no class of its own, kept in a store."""
    expect(pickle.loads(pickle.dumps(subject.protocol)) == subject.protocol, "unpickled, it is not equal to itself")
    if type(subject.protocol) is Protocol:
        back = Protocol.from_plain(subject.protocol.to_plain())
        expect(back == subject.protocol, "from_plain does not restore it from its to_plain")


PROTOCOL: Suite[ProtocolSubject] = Suite(
    prerequisites=(name_and_description_are_given, splits_are_train_validation_and_test),
    independent=(
        splits_do_not_overlap,
        row_numbers_ascend,
        train_and_test_are_not_empty,
        validation_is_empty_without_holding_out,
        holding_out_takes_clips_from_training_only,
        the_protocol_can_be_pickled_and_stored,
    ),
)
"""Checks of a protocol."""
