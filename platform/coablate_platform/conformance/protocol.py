"""What every protocol must do: divide the clips of its source into splits that do not overlap."""

import itertools
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coablate_platform.conformance.suite import Suite, expect
from coablate_platform.data.protocols import SPLITS, Protocol

Rows = Mapping[str, NDArray[np.int64]]


def _every_row() -> Rows:
    """Return a clip of every performer, camera and setup that published protocols name."""
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
    rows: Rows = field(default_factory=_every_row)

    def split(self, *, hold_out: bool = True) -> dict[str, NDArray[np.int64]]:
        """Return ascending row numbers by split."""
        return self.protocol.split(self.rows, hold_out=hold_out)


def says_what_it_is(subject: ProtocolSubject) -> None:
    """Check that name, source, rule and description are given."""
    for name in ("name", "source", "rule", "description"):
        expect(bool(getattr(subject.protocol, name)), f"its {name} is empty")


def has_three_splits(subject: ProtocolSubject) -> None:
    """Check that the splits are training, validation and test."""
    found = tuple(subject.split())
    expect(found == SPLITS, f"split returned {found}, expected {SPLITS}")


def splits_do_not_overlap(subject: ProtocolSubject) -> None:
    """Check that no clip is in two splits."""
    for hold_out in (True, False):
        rows = np.concatenate(list(subject.split(hold_out=hold_out).values()))
        expect(len(np.unique(rows)) == len(rows), f"a clip is in two splits (hold_out={hold_out})")


def rows_ascend(subject: ProtocolSubject) -> None:
    """Check that every split is in the store's order."""
    for name, rows in subject.split().items():
        expect(bool((np.diff(rows) > 0).all()), f"the rows of {name} do not ascend")


def leaves_clips_to_train_and_to_test(subject: ProtocolSubject) -> None:
    """Check that neither training nor test is empty."""
    sizes = {name: len(rows) for name, rows in subject.split().items()}
    count = len(subject.rows["subject"])
    for name in ("train", "test"):
        expect(bool(sizes[name]), f"of {count} clips it leaves none to {name} ({sizes})")


def validation_is_held_out_on_request_only(subject: ProtocolSubject) -> None:
    """Check that without holding out there is no validation."""
    whole = subject.split(hold_out=False)
    expect(not len(whole["validation"]), "with hold_out=False there are clips to validate on")


def holding_out_takes_nothing_from_the_test(subject: ProtocolSubject) -> None:
    """Check that holding out only takes clips from training."""
    held, whole = subject.split(), subject.split(hold_out=False)
    expect(np.array_equal(held["test"], whole["test"]), "the test split depends on hold_out")
    expect(set(held["train"]) <= set(whole["train"]), "holding out adds clips to training")


def can_be_written_down(subject: ProtocolSubject) -> None:
    """Check that other processes can get the protocol, and that a store can remember it."""
    expect(pickle.loads(pickle.dumps(subject.protocol)) == subject.protocol, "it does not come back from pickle")
    if type(subject.protocol) is Protocol:
        back = Protocol.from_plain(subject.protocol.to_plain())
        expect(back == subject.protocol, "it does not come back from its plain values")


PROTOCOL: Suite[ProtocolSubject] = Suite(
    first=(says_what_it_is, has_three_splits),
    then=(
        splits_do_not_overlap,
        rows_ascend,
        leaves_clips_to_train_and_to_test,
        validation_is_held_out_on_request_only,
        holding_out_takes_nothing_from_the_test,
        can_be_written_down,
    ),
)
"""The checks of a protocol."""
