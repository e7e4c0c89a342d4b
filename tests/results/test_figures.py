"""The figures of a study: their texts, read from the SVG, and that they are reproducible."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from coablate_platform.journal.journal import Journal
from coablate_platform.results.confusion_figure import confusion_shares, most_varied_pairs
from coablate_platform.results.figures import study_figures
from coablate_platform.results.table import build_table
from coablate_platform.study.plan import PlannedContrast, PlannedTrend, StudyPlan, plan_from_json
from coablate_platform.train.events import Predictions


def figures_of(plan: StudyPlan, journal: Journal) -> dict[str, bytes]:
    return study_figures(build_table(plan, journal), journal.records(plan), journal.predictions)


def texts(svg: bytes) -> list[str]:
    """Return all texts of an SVG image."""
    return re.findall(r"<text[^>]*>(.*?)</text>", svg.decode(), flags=re.DOTALL)


@pytest.fixture
def played(plan: StudyPlan, journal: Journal, train: Callable[..., None]) -> StudyPlan:
    """The study with all runs completed but the last."""
    for run, accuracy in zip(plan.runs[:-1], (0.9, 0.85, 0.88, 0.92, 0.88, 0.91, 0.9, 0.8), strict=True):
        train(run, accuracy)
    return plan


def test_every_arm_is_named_with_the_number_of_its_missing_runs(played, journal):
    files = figures_of(played, journal)
    assert set(files) == {
        f"{name}.{ending}" for name in ("effects", "curves", "cost") for ending in ("png", "svg", "pdf")
    }
    assert files["effects.png"].startswith(b"\x89PNG")
    effects, curves = texts(files["effects.svg"]), texts(files["curves.svg"])
    assert {"full (reference)", "fusion=mmtm|λ_0", "no gate  (n = 2 of 3)"} <= set(effects)
    assert {"full", "fusion=mmtm|λ_0", "no gate", "validation accuracy %", "training loss"} <= set(curves)


def test_the_same_results_give_the_same_svg_and_pdf(played, journal):
    first, second = figures_of(played, journal), figures_of(played, journal)
    for name in ("effects.svg", "curves.svg", "effects.pdf", "curves.pdf"):
        assert first[name] == second[name]


def test_contrasts_have_a_figure_of_their_own(played, journal):
    weights = {"full": 1.0, "fusion=mmtm|λ_0": -1.0}
    contrasts = (PlannedContrast(name="fusion", weights=weights),)
    files = figures_of(replace(played, contrasts=contrasts, contributions=True), journal)
    labels = texts(files["contrasts.svg"])
    assert "fusion" in labels
    assert any("what each component adds" in label for label in labels)


def test_a_wide_interval_does_not_squeeze_the_seeds(plan, journal, train):
    """Three seeds that differ by 12 points give an interval of ±15 points; the axis does not show all of it."""
    for run, accuracy in zip(plan.runs, (0.9, 0.96, 0.9, 0.9, 0.84, 0.9, 0.9, 0.9, 0.9), strict=True):
        train(run, accuracy)
    labels = texts(figures_of(plan, journal)["effects.svg"])
    ticks = [float(text.replace("−", "-")) for text in labels if re.fullmatch(r"−?[0-9.]+", text)]
    assert min(ticks) >= -15


def test_there_are_no_figures_before_a_run_is_completed(plan, journal):
    assert figures_of(plan, journal) == {}


@pytest.mark.filterwarnings("error")
def test_a_very_long_name_leaves_room_for_the_figure(played, journal):
    """Otherwise matplotlib warns that nothing is left, and draws figures without a width."""
    name = "a very telling name " * 12
    plan = plan_from_json(played.to_json().replace("no gate", name.strip()))
    shown = texts(figures_of(plan, journal)["effects.svg"])
    (label,) = (text for text in shown if text.startswith("a very telling"))
    assert label.startswith("a very telling name a very telling name…")


def test_dollars_in_a_name_are_not_read_as_mathematics(played, journal):
    text = played.to_json().replace("fusion=mmtm|λ_0", "cost $1 or $2")
    assert "cost $1 or $2" in texts(figures_of(plan_from_json(text), journal)["effects.svg"])


def test_arms_of_different_cost_stand_against_it(played, journal):
    table = build_table(played, journal)
    cheap, *dear = table.rows
    dearer = replace(table, rows=(replace(cheap, flops=2 * dear[0].flops), *dear))
    files = study_figures(dearer, journal.records(played), journal.predictions)
    assert {"GFLOPs a clip (area: parameters)", "test accuracy %: mean, worst to best seed"} <= set(
        texts(files["cost.svg"])
    )
    assert any(text.startswith("no gate (") for text in texts(files["cost.svg"]))


def test_a_trend_shows_its_arms_over_a_number(played, journal):
    lines = (("gated", ((0.0, "full"), (8.0, "fusion=mmtm|λ_0"))), ("not", ((0.0, "no gate"),)))
    plan = plan_from_json(replace(played, trends=(PlannedTrend(axis="noise in pixels", lines=lines),)).to_json())
    assert plan.trends[0].lines == lines
    shown = texts(figures_of(plan, journal)["trends.svg"])
    assert {"noise in pixels", "gated", "not", "test accuracy %"} <= set(shown)
    assert {"0", "8"} <= set(shown)


def predicted(labels: list[int], classes: list[int]) -> Predictions:
    """Return predictions of three classes for clips of these labels."""
    scores = np.eye(3, dtype=np.float32)[classes]
    return Predictions(names=[str(place) for place in range(len(labels))], labels=np.array(labels), scores=scores)


def test_a_confusion_is_the_share_of_the_clips_of_both_classes():
    labels = [0, 0, 0, 1, 2, 2]
    one = predicted(labels, [1, 0, 0, 0, 2, 0])  # two of the four clips of 0 and 1; one of the five of 0 and 2
    shares = confusion_shares([one, predicted(labels, labels)])
    assert shares[0, 1] == pytest.approx(2 / 4 / 2)
    assert shares[0, 2] == pytest.approx(1 / 5 / 2)
    assert (shares == shares.T).all()
    assert shares.diagonal().sum() == 0
    assert shares[1, 2] == 0


def test_the_pairs_in_which_arms_differ_most_come_first():
    equal, varied = np.zeros((2, 3, 3))
    equal[0, 1] = varied[0, 1] = 0.5
    varied[1, 2] = 0.2
    assert most_varied_pairs([equal, varied]) == [(1, 2), (0, 1)]
    assert most_varied_pairs([np.zeros((3, 3))]) == []


def test_confused_classes_are_named_and_arms_without_runs_left_out(played, journal):
    plan = replace(played, class_names=("wave", "drink", "sit"))
    confused, right = predicted([0, 1, 2], [1, 1, 2]), predicted([0, 1, 2], [0, 1, 2])
    arms = {run.run_id: run.arm for run in plan.runs}
    files = study_figures(
        build_table(plan_from_json(plan.to_json()), journal),
        journal.records(plan),
        lambda run_id: right if arms[run_id] == "full" else confused,
    )
    shown = texts(files["confusions.svg"])
    assert "wave / drink" in shown
    assert not any("sit" in text for text in shown)
    assert {"full", "no gate"} <= set(shown)
