"""Contrasts of arms: weighted sums that answer a question which no row of a table answers.

What a component adds, for example, is the mean over all pairs of arms that differ in exactly this component.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from coablate_platform.study.component import Component
from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.identity import digest
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.validation import Positive, check_fields

Cells = Mapping[frozenset[str], str]
"""Names of the components that are on -> the arm, of arms that differ in nothing else."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A contrast: a weighted sum of arms minus another one.

    Args:
        name: name of the contrast in tables and figures.
        plus: arm -> weight, of the arms that are added.
        minus: arm -> weight, of the arms that are subtracted; both sides add up to the same.

    Raises:
        InputError: a value does not fit its annotation, the sides add up to different weights, or an arm is on both.
    """

    name: str
    plus: Mapping[str, Positive]
    minus: Mapping[str, Positive]

    def __post_init__(self) -> None:
        where = f"contrast {self.name!r}"
        check_fields(self, f"{where}: ")
        added, subtracted = sum(self.plus.values()), sum(self.minus.values())
        if not added or not math.isclose(added, subtracted):
            raise InputError(
                f"{where}: the weights in plus add up to {added:g} and those in minus to {subtracted:g}, expected the "
                "same number above 0"
            )
        if both := [arm for arm in self.plus if arm in self.minus]:
            raise InputError(f"{where}: arm {both[0]!r} is in both plus and minus")

    @property
    def weights(self) -> dict[str, float]:
        """Arm -> weight; they add up to 0."""
        return {arm: float(weight) for arm, weight in self.plus.items()} | {
            arm: -float(weight) for arm, weight in self.minus.items()
        }


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What the arms of a study show of its components.

    Args:
        weights: a component, or two components and ``×`` for their interaction -> arm -> weight.
        unknown: the components and interactions that these arms do not show.
    """

    weights: Mapping[str, Mapping[str, float]]
    unknown: Sequence[str]


def check_contrasts(contrasts: Sequence[Contrast], arms: Sequence[str]) -> None:
    """Check that contrasts have different names and weigh arms of the study.

    Raises:
        InputError: two have one name, or one weighs an unknown arm.
    """
    names = [contrast.name for contrast in contrasts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two contrasts are named {twice[0]!r}")
    for contrast in contrasts:
        for arm in contrast.weights:
            if arm not in arms:
                raise InputError(f"contrast {contrast.name!r}: {arm!r} is not an arm{did_you_mean(arm, arms)}")


def contributions(components: Sequence[Component], configs: Mapping[str, RunConfig]) -> Contributions:
    """Return the contrasts for what each component adds, and for the interactions of two.

    A component's contribution is the mean over all pairs of arms that differ in exactly this component. An interaction
    is how much more one adds where the other is on, the mean over all fours of arms that differ in exactly these two.

    Args:
        components: the study's components.
        configs: arm -> configuration.
    """
    groups = _cells(components, configs)
    names = [component.name for component in components]
    wanted = [(name,) for name in names] + list(combinations(names, 2))
    weights = {"×".join(chosen): _mean_effect(frozenset(chosen), groups) for chosen in wanted}
    return Contributions(
        weights={name: by_arm for name, by_arm in weights.items() if by_arm},
        unknown=[name for name, by_arm in weights.items() if not by_arm],
    )


def _cells(components: Sequence[Component], configs: Mapping[str, RunConfig]) -> list[Cells]:
    """Group the arms that differ in nothing but components. An arm in which one is neither on nor off is left out."""
    groups: dict[str, dict[frozenset[str], str]] = defaultdict(dict)
    for arm, config in configs.items():
        on = {component.name for component in components if apply_changes(config, component.on) == config}
        off = {component.name for component in components if apply_changes(config, component.off) == config}
        if on | off == {component.name for component in components}:
            plain = config
            for component in components:
                plain = apply_changes(plain, component.off)
            groups[digest(plain)][frozenset(on)] = arm
    return list(groups.values())


def _mean_effect(chosen: frozenset[str], groups: Sequence[Cells]) -> dict[str, float]:
    """Return arm -> weight of the mean effect of some components; empty if no arms show it."""
    found = [effect for cells in groups for effect in _effects(chosen, cells)]
    weights: dict[str, float] = defaultdict(float)
    for effect in found:
        for arm, sign in effect.items():
            weights[arm] += sign / len(found)
    return {arm: weight for arm, weight in weights.items() if weight}


def _effects(chosen: frozenset[str], cells: Cells) -> Iterator[dict[str, int]]:
    """Yield arm -> sign for every set of other components with which all combinations of the chosen ones were run."""
    subsets = [frozenset(some) for size in range(len(chosen) + 1) for some in combinations(sorted(chosen), size)]
    for others in {on - chosen for on in cells}:
        if all(others | some in cells for some in subsets):
            yield {cells[others | some]: (-1) ** (len(chosen) - len(some)) for some in subsets}
