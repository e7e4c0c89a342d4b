"""What the tests of suites have in common."""

from typing import Any

from coablate_platform.conformance.suite import Suite


def failures(suite: Suite[Any], subject: object) -> dict[str, str]:
    """Run a suite on a subject; return what fails, by the check's name."""
    return {outcome.check: outcome.failure for outcome in suite.run(subject) if outcome.failure}
