"""A component of a model: what an ablation switches on and off."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coablate_platform.study.validation import check_fields


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component of a model that a design switches on and off.

    Args:
        name: name of the component; arm names are made from it.
        on: dotted field -> value with the component.
        off: dotted field -> value without it.

    Raises:
        InputError: a value does not fit its annotation.
    """

    name: str
    on: Mapping[str, Any]
    off: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_fields(self, f"component {self.name!r}: ")
