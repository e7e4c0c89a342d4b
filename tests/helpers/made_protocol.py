"""A protocol for a made-up data set, and variants of it."""

import dataclasses
from typing import Any

from coablate_platform.data.protocols import Protocol, Rule

HALVES = Protocol(
    name="mine/half",
    source="mine",
    train=Rule(subjects=frozenset({1, 2})),
    test=Rule(subjects=frozenset({3, 4})),
    validation=Rule(subjects=frozenset({2})),
    rule="subject 2",
    description="halves",
)


def of(kind: type[Protocol], **changes: Any) -> Protocol:
    """Return ``HALVES`` as another class, with other fields."""
    fields = {field.name: getattr(HALVES, field.name) for field in dataclasses.fields(HALVES)}
    return kind(**(fields | changes))
