"""Says what is wrong with a cluster, and its cure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that would fail later.

    Args:
        problem: what is wrong, and where.
        cure: what to do.
    """

    problem: str
    cure: str

    def __str__(self) -> str:
        return " ".join(f"{self.problem}; {self.cure}".split())


Check = tuple[str, Iterable[Finding]]
"""What is checked, and what was found."""


def print_checks(checks: Iterable[Check], show: Callable[[str], object]) -> bool:
    """Show a line for each check that passes, and one for each finding; return whether there is none."""
    passed = True
    for name, findings in checks:
        found = list(findings)
        passed = passed and not found
        for line in [f"FAILS  {name}: {finding}" for finding in found] or [f"ok     {name}"]:
            show(line)
    return passed
