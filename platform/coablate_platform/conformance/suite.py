"""A suite of checks: plain functions of one subject, which raise where it does not do what is expected of it."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from coablate_platform.study.errors import InputError

Subject = TypeVar("Subject")
_OTHERS = ("site-packages", "coablate_platform")  # folders whose lines do not show where a user's mistake is


class CheckError(Exception):
    """A check has failed: what was found and what was expected, in one line."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a check.

    Args:
        check: its name in words.
        failure: what was found and what was expected, in one line; empty where the check passed.
    """

    check: str
    failure: str


@dataclass(frozen=True, kw_only=True)
class Suite(Generic[Subject]):
    """The checks of one kind of subject.

    Args:
        first: checks that all later ones need, in order: the first that fails ends the suite.
        then: checks that stand alone.
    """

    first: tuple[Callable[[Subject], None], ...]
    then: tuple[Callable[[Subject], None], ...]

    @property
    def checks(self) -> tuple[Callable[[Subject], None], ...]:
        """All checks in order."""
        return self.first + self.then

    def run(self, subject: Subject) -> Iterator[Outcome]:
        """Yield the outcome of one check after the other."""
        for check in self.checks:
            failure = _failure(check, subject)
            yield Outcome(check=name_of(check), failure=failure)
            if failure and check in self.first:
                return


def name_of(check: Callable[[Subject], None]) -> str:
    """Return a check's name in words."""
    return check.__name__.replace("_", " ")


def expect(holds: bool, failure: str) -> None:
    """Fail a check unless something holds.

    Raises:
        CheckError: it does not.
    """
    if not holds:
        raise CheckError(failure)


def _failure(check: Callable[[Subject], None], subject: Subject) -> str:
    try:
        check(subject)
    except (CheckError, InputError) as error:
        return " ".join(str(error).split())
    except Exception as error:
        said = " ".join(str(error).split())
        return f"{type(error).__name__}: {said} ({_place(error)})"
    return ""


def _place(error: Exception) -> str:
    """Return the last line of the subject's own code on the way to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not set(Path(frame.filename).parts) & set(_OTHERS)]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
