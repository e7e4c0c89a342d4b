"""Runs conformance suites in tests."""

from typing import Any

from coablate_platform.conformance.suite import Suite


def failures(suite: Suite[Any], subject: object) -> dict[str, str]:
    """Run a suite on a subject, and return the message of each failed check by the check's name."""
    return {outcome.check: outcome.failure for outcome in suite.run(subject) if outcome.failure}
