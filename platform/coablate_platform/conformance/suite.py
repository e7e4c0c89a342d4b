"""Suites of checks. A check is a function of one subject that raises an error if the subject does not pass."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from coablate_platform.study.errors import InputError

Subject = TypeVar("Subject")
_NOT_USER_CODE = ("site-packages", "coablate_platform")
"""Folders whose code is skipped when an error's location is reported."""


class CheckError(Exception):
    """A failed check: what was found and what was expected, in one line."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one check.

    Args:
        check: name of the check, a statement of what holds if it passes.
        failure: what was found and what was expected, in one line; empty if the check passed.
    """

    check: str
    failure: str


@dataclass(frozen=True, kw_only=True)
class Suite(Generic[Subject]):
    """The checks for one kind of subject.

    Args:
        prerequisites: checks that all others depend on, in order. The suite ends at the first that fails.
        independent: checks that do not depend on each other.
    """

    prerequisites: tuple[Callable[[Subject], None], ...]
    independent: tuple[Callable[[Subject], None], ...]

    @property
    def checks(self) -> tuple[Callable[[Subject], None], ...]:
        """All checks, in the order in which they run."""
        return self.prerequisites + self.independent

    def run(self, subject: Subject) -> Iterator[Outcome]:
        """Run the checks in order and yield the outcome of each."""
        for check in self.checks:
            failure = _failure(check, subject)
            yield Outcome(check=name_of(check), failure=failure)
            if failure and check in self.prerequisites:
                return


def name_of(check: Callable[[Subject], None]) -> str:
    """Return the name of a check: its function's name with spaces."""
    return check.__name__.replace("_", " ")


def expect(condition: bool, failure: str) -> None:
    """Fail the check unless a condition holds.

    Raises:
        CheckError: it does not hold.
    """
    if not condition:
        raise CheckError(failure)


def _failure(check: Callable[[Subject], None], subject: Subject) -> str:
    """Run a check and return its failure in one line; empty if it passes."""
    try:
        check(subject)
    except (CheckError, InputError) as error:
        return " ".join(str(error).split())
    except Exception as error:
        message = " ".join(str(error).split())
        return f"{type(error).__name__}: {message} ({_location(error)})"
    return ""


def _location(error: Exception) -> str:
    """Return the innermost line of the user's code in the traceback, or of any code if none is the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not set(Path(frame.filename).parts) & set(_NOT_USER_CODE)]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
