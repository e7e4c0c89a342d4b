"""Builds the arms of common ablation designs from named components. Each design returns arms in table order."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

from coablate_platform.study.component import Component
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.overrides import fields_overlap
from coablate_platform.study.study import Arm


def with_components(
    components: Sequence[Component],
    chosen: Sequence[str],
    name: str | None = None,
    published: Mapping[str, float] | None = None,
) -> Arm:
    """Return the arm in which exactly the chosen components are on.

    Args:
        components: all components of the design.
        chosen: names of those that are on.
        name: name of the arm; None: the chosen names joined by ``+``, or ``none``.
        published: see :class:`~coablate_platform.study.study.Arm`.

    Raises:
        InputError: a chosen name is not a component's, two components have one name, or both set a field.
    """
    known = [component.name for component in components]
    for one, other in combinations(components, 2):
        if one.name == other.name:
            raise InputError(f"two components are named {one.name!r}")
        for path, others in product({**one.on, **one.off}, {**other.on, **other.off}):
            if fields_overlap(path, others):
                raise InputError(f"components {one.name!r} and {other.name!r} both set {path}")
    if unknown := [choice for choice in chosen if choice not in known]:
        raise InputError(f"no component {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    changes: dict[str, Any] = {}
    for component in components:
        changes |= component.on if component.name in chosen else component.off
    names = [name for name in known if name in chosen]
    return Arm(name=name or ("+".join(names) or "none"), changes=changes, published=published or {})


def leave_one_out(components: Sequence[Component]) -> tuple[Arm, ...]:
    """Return the arm with all components, then the arms with all but one: each shows what one component adds to the
    others."""
    names = [component.name for component in components]
    arms = [with_components(components, [n for n in names if n != left], f"all −{left}") for left in names]
    return (with_components(components, names, "all"), *arms)


def add_one_in(components: Sequence[Component]) -> tuple[Arm, ...]:
    """Return the arm with no component, then the arms with one: each shows what one component adds alone."""
    arms = [with_components(components, [component.name], f"+{component.name}") for component in components]
    return (with_components(components, [], "none"), *arms)


def full_factorial(components: Sequence[Component]) -> tuple[Arm, ...]:
    """Return the arms with every combination of n components, from none to all: 2^n arms."""
    names = [component.name for component in components]
    masks = sorted(product((False, True), repeat=len(names)), key=sum)
    return tuple(with_components(components, [n for n, on in zip(names, mask, strict=True) if on]) for mask in masks)
