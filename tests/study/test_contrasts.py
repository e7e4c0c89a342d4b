"""Contrasts that are declared, and those that follow from a study's components."""

import dataclasses
from typing import Any

import pytest

from coablate_platform.study.component import Component
from coablate_platform.study.contrasts import Contrast, contributions
from coablate_platform.study.designs import full_factorial, leave_one_out
from coablate_platform.study.errors import InputError
from coablate_platform.study.load import load_study
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._cc_dfarm import BASE
from coablate_search_spaces.modules import COMPONENTS, STUDY

RATE = Component(
    name="rate",
    on={"training.learning_rate": 0.01},
    off={"training.learning_rate": BASE.training.learning_rate},
)


def of(study: Study) -> dict[str, dict[str, float]]:
    found = contributions(study.components, {arm.name: study.config(arm) for arm in study.arms})
    return {name: dict(weights) for name, weights in found.weights.items()}


def test_what_the_rows_of_tables_5_and_6_show_by_hand() -> None:
    """DSFM by one pair of arms, TIAM and MFFM by two each, and one interaction of the three."""
    assert of(STUDY) == {
        "TIAM": {"+TIAM+DSFM": 0.5, "+DSFM": -0.5, "all": 0.5, "+DSFM+MFFM": -0.5},
        "DSFM": {"+DSFM": 1, "MMTM": -1},
        "MFFM": {"+DSFM+MFFM": 0.5, "+DSFM": -0.5, "all": 0.5, "+TIAM+DSFM": -0.5},
        "TIAM×MFFM": {"all": 1, "+TIAM+DSFM": -1, "+DSFM+MFFM": -1, "+DSFM": 1},
    }
    found = contributions(STUDY.components, {arm.name: STUDY.config(arm) for arm in STUDY.arms})
    assert found.unknown == ["TIAM×DSFM", "DSFM×MFFM"]


def test_a_factorial_shows_every_component_and_every_interaction_of_two() -> None:
    study = Study(
        name="cells",
        title="All cells",
        base=BASE,
        arms=full_factorial(COMPONENTS),
        reference="none",
        components=COMPONENTS,
    )
    weights = of(study)
    assert list(weights) == ["TIAM", "DSFM", "MFFM", "TIAM×DSFM", "TIAM×MFFM", "DSFM×MFFM"]
    assert {abs(weight) for name in ("TIAM", "DSFM", "MFFM") for weight in weights[name].values()} == {0.25}
    assert {abs(weight) for weight in weights["TIAM×DSFM"].values()} == {0.5}
    assert all(sum(by_arm.values()) == pytest.approx(0) for by_arm in weights.values())


def test_arms_that_differ_in_something_else_are_no_pair() -> None:
    """The second arm without TIAM also has another rate; a third arm gives the same rate with TIAM."""
    arms = (
        *leave_one_out(COMPONENTS[:1]),
        Arm(name="fast", changes={"model.tiam": "none", "training.learning_rate": 0.01}),
        Arm(name="frames", changes={"model.tiam": "st", "training.learning_rate": 0.01}),
    )
    study = Study(name="s", title="S", base=BASE, arms=arms, reference="all", components=COMPONENTS[:1])
    assert of(study) == {"TIAM": {"all": 1, "all −TIAM": -1}}
    both = dataclasses.replace(study, components=(COMPONENTS[0], RATE))
    assert of(both) == {"TIAM": {"all": 1, "all −TIAM": -1}, "rate": {"fast": 1, "all −TIAM": -1}}


def test_the_shipped_contrasts_fit_their_arms() -> None:
    streams = load_study("streams")
    assert isinstance(streams, Study)
    assert streams.contrasts
    assert {arm for contrast in streams.contrasts for arm in contrast.weights} == {arm.name for arm in streams.arms}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"contrasts": (Contrast(name="c", plus={"al": 1}, minus={"MMTM": 1}),)}, "'al' is not an arm.*'all'"),
        ({"contrasts": (Contrast(name="c", plus={"all": 1}, minus={"MMTM": 1}),) * 2}, "two contrasts are named 'c'"),
        ({"contrasts": (), "components": COMPONENTS}, "declares components and contrasts"),
        ({"margin": 0}, "margin"),
    ],
)
def test_contrasts_that_do_not_fit_a_study_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"study modules: .*{message}"):
        dataclasses.replace(STUDY, **{"components": ()} | fields)


@pytest.mark.parametrize(
    ("plus", "minus", "message"),
    [
        ({"a": 1.0}, {"b": 2.0}, "add up to 1 and those in minus to 2"),
        ({}, {}, "add up to 0"),
        ({"a": 1.0}, {"a": 1.0}, "'a' is in both"),
        ({"a": -1.0}, {"b": -1.0}, "a number above 0"),
    ],
)
def test_a_contrast_that_is_none_is_refused(plus: dict[str, float], minus: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=f"contrast 'c': .*{message}"):
        Contrast(name="c", plus=plus, minus=minus)
