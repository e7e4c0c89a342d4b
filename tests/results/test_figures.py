"""Figures: what they say, read from their SVG, and that they repeat."""

import re
from collections.abc import Callable

import pytest

from coablate_platform.journal.journal import Journal
from coablate_platform.results.figures import study_figures
from coablate_platform.results.table import build_table
from coablate_platform.study.plan import StudyPlan, plan_from_json


def drawn(plan: StudyPlan, journal: Journal) -> dict[str, bytes]:
    return study_figures(build_table(plan, journal), journal.records(plan))


def texts(svg: bytes) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", svg.decode(), flags=re.DOTALL)


@pytest.fixture
def played(plan: StudyPlan, journal: Journal, train: Callable[..., None]) -> StudyPlan:
    for run, accuracy in zip(plan.runs[:-1], (0.9, 0.85, 0.88, 0.92, 0.88, 0.91, 0.9, 0.8), strict=True):
        train(run, accuracy)
    return plan


def test_every_arm_is_named_and_what_is_missing_is_said(played, journal):
    files = drawn(played, journal)
    assert set(files) == {"effects.png", "effects.svg", "curves.png", "curves.svg"}
    assert files["effects.png"].startswith(b"\x89PNG")
    effects, curves = texts(files["effects.svg"]), texts(files["curves.svg"])
    assert {"full (reference)", "fusion=mmtm|λ_0", "no gate  (n = 2 of 3)"} <= set(effects)
    assert {"full", "fusion=mmtm|λ_0", "no gate", "validation accuracy %", "training loss"} <= set(curves)


def test_the_same_results_give_the_same_file(played, journal):
    first, second = drawn(played, journal), drawn(played, journal)
    assert first["effects.svg"] == second["effects.svg"]
    assert first["curves.svg"] == second["curves.svg"]


def test_an_interval_beyond_the_seeds_spread_does_not_squeeze_them(plan, journal, train):
    """Two seeds that differ by 6 points give an interval of ±76; the axis stays with the seeds."""
    for run, accuracy in zip(plan.runs[:6], (0.9, 0.96, 0.9, 0.9, 0.84, 0.9), strict=True):
        train(run, accuracy)
    said = texts(drawn(plan, journal)["effects.svg"])
    ticks = [float(text.replace("−", "-")) for text in said if text[-1:].isdigit()]
    assert min(ticks) >= -15


def test_nothing_is_drawn_before_a_run_has_completed(plan, journal):
    assert drawn(plan, journal) == {}


def test_a_dollar_in_a_name_is_no_mathematics(played, journal):
    text = played.to_json().replace("fusion=mmtm|λ_0", "cost $1 or $2")
    assert "cost $1 or $2" in texts(drawn(plan_from_json(text), journal)["effects.svg"])
