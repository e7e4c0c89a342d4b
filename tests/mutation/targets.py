"""The files whose mutants the tests must catch, each with the tests that concern it, none of which starts Ray."""

TARGETS = {
    "train/failures.py": ("tests/train/test_failures.py",),
    "results/statistics.py": ("tests/results/test_statistics.py",),
    "planning/checks.py": ("tests/planning/test_checks.py",),
}
"""File below ``platform/coablate_platform`` -> test files."""

EQUIVALENT: dict[tuple[str, str, str], str] = {}
"""Mutants that nothing can tell from the original: (file, line's text, change) -> why."""
