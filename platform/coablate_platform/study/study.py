"""Declares a study: a base configuration, arms that change it, run seeds, and the reference arm."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coablate_platform.study.component import Component
from coablate_platform.study.config import RunConfig
from coablate_platform.study.contrasts import Contrast, check_contrasts
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.identity import digest
from coablate_platform.study.overrides import apply_changes, difference, field_value, fields_overlap
from coablate_platform.study.trends import Trend, check_trends
from coablate_platform.study.validation import Count, CountOrZero, Positive, check_fields

SAME_FOR_ARMS = ("data.protocol", "training.epochs", "training.metric", "training.workers")
"""Fields that are the same in all arms of a study, so that arms are compared on one budget and by one metric."""

_STUDY_NAME = re.compile(r"(?=.{1,100}$)[^\W_][\w \-.+=,'()&~]*(?<![ .])", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm of a study.

    Args:
        name: the arm's name in tables and figures.
        changes: dotted field -> value; what the arm changes in the study's base.
        published: protocol -> value of the metric in percent that a paper reports for this arm.

    Raises:
        InputError: a value does not fit its annotation, or the name is empty or not one line.
    """

    name: str
    changes: Mapping[str, Any]
    published: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, f"arm {self.name!r}: ")
        if unprintable := _unprintable(self.name):
            raise InputError(f"arm {self.name!r}: expected a name of one line that is not empty, got {unprintable}")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each worker of a lane reserves.

    Args:
        cpus: number of CPU cores.
        gpus: number of GPUs, or a fraction of one; ``fit`` measures a training step and lets as many runs share a GPU
            as fit into its memory; None: one GPU where the cluster has any, else none.
        hang_after: seconds without a training step after which a worker counts as hanging: it is ended, and the run
            resumes from its checkpoint, as after any loss of a worker. The start of a run may take ten times as long.
            None: ten times the run's longest step so far, and at least 600.

    Raises:
        InputError: ``cpus`` or ``hang_after`` is not above 0, or ``gpus`` is neither from 0 to 1 nor a whole number.
    """

    cpus: Positive = 1.0
    gpus: float | Literal["fit"] | None = None
    hang_after: Positive | None = None

    def __post_init__(self) -> None:
        check_fields(self, "resources: ")
        if isinstance(self.gpus, int | float) and not (0 <= self.gpus <= 1 or self.gpus % 1 == 0 < self.gpus):
            raise InputError(f"resources: gpus is {self.gpus}, expected a number from 0 to 1, or a whole number")

    @property
    def threads(self) -> int:
        """Number of torch threads in a worker."""
        return max(int(self.cpus), 1)

    @classmethod
    def parse_gpus(cls, text: str) -> float | Literal["fit"]:
        """Parse the value of ``--gpus``.

        Raises:
            InputError: it is neither a number nor ``fit``.
        """
        if text == "fit":
            return "fit"
        try:
            return float(text)
        except ValueError:
            raise InputError(f"--gpus {text}: expected a number, or 'fit'") from None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study. A study file holds it under the name ``STUDY``.

    Args:
        name: short name, used in folders.
        title: one line for people.
        base: the configuration that arms change.
        arms: the arms, in table order.
        reference: name of the arm that the others are compared with.
        seeds: number of run seeds. The runs of all arms with one run seed are a seed block.
        first_seed: the first run seed.
        seed: study seed; every random stream derives from it and the run seed.
        resources: what each worker reserves.
        components: the components that the arms switch on and off; the table then shows what each of them adds.
        contrasts: contrasts of arms that the table shows beside the differences from the reference; None: the
            contributions of the components.
        margin: percentage points within which a difference counts as equal; None: no difference is called equal.
        trends: arms as points of lines over a number, for a figure.

    Raises:
        InputError: no arms, two arms with one name or one configuration, an unknown reference, no seeds, an invalid
            change, a change of a field that all arms share, a contrast of unknown arms, or contrasts and components.
    """

    name: str
    title: str
    base: RunConfig
    arms: tuple[Arm, ...]
    reference: str
    seeds: Count = 3
    first_seed: CountOrZero = 0
    seed: CountOrZero = 0
    resources: Resources = Resources()
    components: tuple[Component, ...] = ()
    contrasts: tuple[Contrast, ...] | None = None
    margin: Positive | None = None
    trends: tuple[Trend, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, f"study {self.name}: ")
        check_study_name(self.name)
        names = [arm.name for arm in self.arms]
        if not names:
            raise InputError(f"study {self.name}: it has no arms")
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"study {self.name}: arm names must differ, but two are {sorted(twice)[0]!r}")
        if self.reference not in names:
            raise InputError(
                f"study {self.name}: reference {self.reference!r} is not an arm{did_you_mean(self.reference, names)}"
            )
        seen: dict[str, str] = {}
        for arm in self.arms:
            config = self.config(arm)
            if changed := [path for path in SAME_FOR_ARMS if field_value(config, path) != field_value(self.base, path)]:
                raise InputError(f"study {self.name}: arm {arm.name!r} changes {changed[0]}, which all arms must share")
            key = digest(config)
            if key in seen:
                raise InputError(f"study {self.name}: arms {seen[key]!r} and {arm.name!r} are the same configuration")
            seen[key] = arm.name
        if self.contrasts is not None and self.components:
            raise InputError(
                f"study {self.name}: it declares components and contrasts; the contributions of components are "
                "contrasts, so expected one of them"
            )
        try:
            check_contrasts(self.contrasts or (), names)
            check_trends(self.trends, names)
        except InputError as error:
            raise InputError(f"study {self.name}: {error}") from None

    def config(self, arm: Arm) -> RunConfig:
        """Return the configuration of an arm.

        Raises:
            InputError: the arm's changes do not fit the base.
        """
        try:
            return apply_changes(self.base, arm.changes)
        except InputError as error:
            raise InputError(f"arm {arm.name!r}: {error}") from None

    def arm(self, name: str) -> Arm:
        """Return the arm with this name."""
        return next(arm for arm in self.arms if arm.name == name)

    def difference(self, arm: Arm) -> dict[str, Any]:
        """Return the dotted fields in which an arm differs from the reference arm, with the values of the arm."""
        return difference(self.config(arm), self.config(self.arm(self.reference)))

    def override(self, changes: Mapping[str, Any], seeds: int | None = None) -> "Study":
        """Return the study with a changed base.

        Args:
            changes: dotted field -> value.
            seeds: another number of run seeds, or None to keep it.

        Raises:
            InputError: a field is unknown, a value has the wrong type, or an arm changes the field.
        """
        for path in changes:
            for arm in self.arms:
                if clash := [own for own in arm.changes if fields_overlap(own, path)]:
                    raise InputError(
                        f"{path}: a factor of study {self.name} (arm {arm.name!r} sets {clash[0]}); "
                        "only fields that all arms share can be set"
                    )
        return dataclasses.replace(self, base=apply_changes(self.base, changes), seeds=seeds or self.seeds)


def check_study_name(name: str) -> None:
    """Check the name of a study or search, which is part of a folder's name.

    Raises:
        InputError: the name has a character that a folder's name cannot have everywhere, or is too long.
    """
    if not _STUDY_NAME.fullmatch(name):
        raise InputError(
            f"study {name!r}: expected a name of 1 to 100 letters, digits, spaces and _-.+=,'()&~ that begins with a "
            "letter or digit and does not end in a space or period: results are kept in a folder of that name"
        )


def _unprintable(name: str) -> str:
    """Return what makes a name unfit for one line of a table; empty if it is fit."""
    if not name.strip():
        return "nothing but spaces" if name else "an empty one"
    odd = [character for character in name if not character.isprintable()]
    return f"the character {odd[0]!r}" if odd else ""
