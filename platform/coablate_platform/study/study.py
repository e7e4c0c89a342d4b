"""The declared question: a base configuration, arms that depart from it, seeds, and what to compare."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.identity import digest
from coablate_platform.study.overrides import apply, difference, overlap, part

SHARED = ("data.protocol", "training.epochs", "training.metric", "training.workers")
"""Fields that all arms of a study have in common: else they would not be compared at one budget, by one measure."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One setting of the factors.

    Args:
        name: how the table calls it.
        changes: dotted field -> value, against the study's base.
        published: protocol -> published value of the metric in percent, where a paper reports this arm.
    """

    name: str
    changes: Mapping[str, Any]
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a worker of a lane holds.

    Args:
        cpus: cores.
        gpus: a whole number of them, or a share of one; ``fit`` measures a training step and lets as many runs share a
            GPU as its memory holds; None: one where the cluster has any, else none.

    Raises:
        InputError: no cores, or what is neither a share of a GPU nor whole ones.
    """

    cpus: float = 1.0
    gpus: float | Literal["fit"] | None = None

    def __post_init__(self) -> None:
        if self.cpus <= 0:
            raise InputError(f"resources: cpus is {self.cpus}, expected more than 0")
        if isinstance(self.gpus, int | float) and not (0 <= self.gpus <= 1 or self.gpus % 1 == 0 < self.gpus):
            raise InputError(f"resources: gpus is {self.gpus}, expected a share of one, or a whole number")

    @property
    def threads(self) -> int:
        """How many threads torch has in a worker."""
        return max(int(self.cpus), 1)

    @classmethod
    def parse_gpus(cls, text: str) -> float | Literal["fit"]:
        """Read what a user says of a worker's GPUs.

        Raises:
            InputError: neither a number nor ``fit``.
        """
        if text == "fit":
            return "fit"
        try:
            return float(text)
        except ValueError:
            raise InputError(f"--gpus {text}: expected a number, or 'fit'") from None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study is one value in one file; ``STUDY`` is the name under which it is found there.

    Args:
        name: short name, used in folders.
        title: one line for people.
        base: the configuration that arms depart from.
        arms: in table order.
        reference: the arm that the others are compared with.
        seeds: how many run seeds, from ``first_seed`` on; each is a block over all arms.
        seed: study seed; every random stream derives from it and the run seed.
        resources: what each worker holds.

    Raises:
        InputError: no arms, a name twice, an unknown reference, no seed, an invalid change, a change of what all arms
            share, two equal arms.
    """

    name: str
    title: str
    base: RunConfig
    arms: tuple[Arm, ...]
    reference: str
    seeds: int = 3
    first_seed: int = 0
    seed: int = 0
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not names:
            raise InputError(f"study {self.name}: it has no arms")
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"study {self.name}: arm names must differ, {sorted(twice)[0]!r} stands twice")
        if self.reference not in names:
            raise InputError(
                f"study {self.name}: reference {self.reference!r} is no arm{did_you_mean(self.reference, names)}"
            )
        if self.seeds < 1:
            raise InputError(f"study {self.name}: seeds must be at least 1, got {self.seeds}")
        seen: dict[str, str] = {}
        for arm in self.arms:
            config = self.config(arm)
            if changed := [path for path in SHARED if part(config, path) != part(self.base, path)]:
                raise InputError(f"study {self.name}: arm {arm.name!r} changes {changed[0]}, which all arms share")
            key = digest(config)
            if key in seen:
                raise InputError(f"study {self.name}: arms {seen[key]!r} and {arm.name!r} are the same configuration")
            seen[key] = arm.name

    def config(self, arm: Arm) -> RunConfig:
        """Return the arm's whole configuration."""
        return apply(self.base, arm.changes)

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def difference(self, arm: Arm) -> dict[str, Any]:
        """Return the dotted fields in which the arm departs from the reference."""
        return difference(self.config(arm), self.config(self.arm(self.reference)))

    def override(self, changes: Mapping[str, Any], seeds: int | None = None) -> "Study":
        """Return the study over a changed base, and with another number of seeds where one is given.

        Raises:
            InputError: a field is unknown, a value of the wrong type, or the field is a factor of this study.
        """
        for path in changes:
            for arm in self.arms:
                if clash := [own for own in arm.changes if overlap(own, path)]:
                    raise InputError(
                        f"{path}: a factor of study {self.name} (arm {arm.name!r} sets {clash[0]}); "
                        "only what all arms share can be set"
                    )
        return dataclasses.replace(self, base=apply(self.base, changes), seeds=seeds or self.seeds)
