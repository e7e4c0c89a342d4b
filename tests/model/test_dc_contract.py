"""Contract of Decomposition & Composition's configurations: both phases train, and invalid values are refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coablate_model.dc.config import DC
from coablate_platform.conformance.model import MODEL, SHAPE, ModelSubject
from coablate_platform.conformance.suite import name_of

SMALL = DC(width=16, feed_forward=16, projector_hidden=24, projector_out=20, encoder="trained")
CONFIGS = {
    "both": SMALL,
    "probe": replace(SMALL, encoder="frozen"),
    "parent": replace(SMALL, granularities=("whole",), composition=0.0),
    "early fusion": replace(
        SMALL, decomposition=0.0, inter=0.0, variance=0.0, covariance=0.0, composition=0.0, consistency=5.0
    ),
    "late fusion": replace(SMALL, fusion="late", composition=0.0),
    "attention": replace(SMALL, composed_by="attention", heads=2, layers=2),
}


@pytest.mark.parametrize("check", MODEL.checks, ids=name_of)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_model_passes_the_conformance_suite(config: DC, check: Callable[[ModelSubject], None]) -> None:
    check(ModelSubject(config=config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "middle"}, "fusion is 'middle', expected one of early, late"),
        ({"granularities": ("joint",)}, "granularities: 'joint' is none of temporal, spatial, whole"),
        ({"width": 0}, "width is 0, expected a number of at least 1"),
        ({"composition": -1.0}, "composition is -1.0, expected a number of at least 0"),
        ({"granularities": (), "composition": 0.0}, "every term of the pre-training loss is switched off"),
    ],
)
def test_invalid_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_clips_without_a_joint_tree_are_refused() -> None:
    with pytest.raises(ValueError, match="joint tree is not known"):
        SMALL.build(replace(SHAPE, bones=()))
