"""Trends: the arms of a study as points of lines over a number, for a figure that shows a curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.validation import check_fields


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The metric over a number that arms differ in.

    Args:
        axis: what the number is, with its unit.
        lines: name of a line -> its points: the number -> the arm that has it.

    Raises:
        InputError: a value does not fit its annotation.
    """

    axis: str
    lines: Mapping[str, Mapping[float, str]]

    def __post_init__(self) -> None:
        check_fields(self, f"trend {self.axis!r}: ")


def check_trends(trends: Sequence[Trend], arms: Sequence[str]) -> None:
    """Check that all points are arms of the study.

    Raises:
        InputError: a point names no arm.
    """
    for trend in trends:
        for line in trend.lines.values():
            for arm in line.values():
                if arm not in arms:
                    raise InputError(f"trend {trend.axis!r}: {arm!r} is not an arm{did_you_mean(arm, arms)}")
