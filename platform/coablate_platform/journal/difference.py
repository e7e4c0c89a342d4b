"""A difference between the journal, which is the truth, and something that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Remedy(StrEnum):
    """How a difference is mended, in words for the user."""

    WRITE = "written again from the journal"
    DELETE = "deleted"
    RENEW = "deleted and made anew from the journal"
    SEND = "sent from the journal"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs from the journal, and how it is mended.

    Args:
        place: where it was found: ``files``, ``Tune``, ``Optuna`` or ``MLflow``.
        what: the file, run or trial that differs.
        found: what is there.
        expected: what follows from the journal.
        remedy: how it is mended.
        target: what the mending acts on, by the place's own id; empty if it needs none.
    """

    place: str
    what: str
    found: str
    expected: str
    remedy: Remedy
    target: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}: {self.found}, expected {self.expected}"


class Check(Protocol):
    """Compares one place with the journal, for one study or search, and mends what differs."""

    @property
    def place(self) -> str:
        """The place's name, as its differences have it."""
        ...

    def find(self) -> Sequence[Difference]:
        """Return what differs; nothing is written.

        Raises:
            InputError: the place cannot be read.
        """
        ...

    def mend(self, found: Sequence[Difference]) -> None:
        """Mend what :meth:`find` returned.

        Raises:
            InputError: the place cannot be written.
        """
        ...
