"""Tables: which runs enter them, which they refuse, and their text."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import make_plan

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog, TrialOutcome, TrialRecord
from coablate_platform.results.cells import formula, verdict_text
from coablate_platform.results.collapses import collapsed_seeds
from coablate_platform.results.render import FORMATS, render, table_files
from coablate_platform.results.statistics import Estimate, Verdict
from coablate_platform.results.table import ContrastRow, build_table
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedContrast, StudyPlan
from coablate_platform.train.events import Conclusion, EpochReport, Failure, Predictions, RunState

Train = Callable[..., None]
OTHER = {"platform": "0ther"}
GOLDEN = Path(__file__).with_name("golden")
ACCURACY = {"full": (0.9, 0.92, 0.91), "fusion=mmtm|λ_0": (0.85, 0.88, 0.84), "no gate": (0.9, 0.91, None)}


@pytest.fixture
def played(plan: StudyPlan, journal: Journal, train: Train) -> StudyPlan:
    """The study with all runs completed but one, which has diverged."""
    for run in plan.runs:
        accuracy = ACCURACY[run.arm][run.seed]
        train(run, accuracy)
        if accuracy is None:
            journal.fail(run.run_id, 0, Failure(state=RunState.DIVERGED, reason="loss is NaN in epoch 3"))
    return plan


def test_failed_runs_are_counted_and_enter_no_mean(played: StudyPlan, journal: Journal) -> None:
    full, mmtm, gate = build_table(played, journal).rows
    assert full.estimate is None
    assert (full.summary.mean, full.summary.sd) == (pytest.approx(0.91), pytest.approx(0.01))
    assert mmtm.estimate is not None
    assert (mmtm.estimate.n, mmtm.estimate.effect) == (3, pytest.approx(-0.16 / 3))
    assert (gate.summary.n, gate.planned, gate.not_completed) == (2, 3, Counter({RunState.DIVERGED: 1}))
    assert gate.summary.mean == pytest.approx(0.905)
    assert gate.estimate is not None
    assert (gate.estimate.n, gate.estimate.effect) == (2, pytest.approx(-0.005))


def test_the_mean_is_over_the_seeds_of_the_difference(plan: StudyPlan, journal: Journal, train: Train) -> None:
    """The reference fails in the seed in which the arm is best; the arm's own mean is in the caption."""
    accuracy = {"full": (None, 0.8, 0.9), "no gate": (0.99, 0.81, 0.91), "fusion=mmtm|λ_0": (0.5, 0.5, None)}
    for run in plan.runs:
        if (value := accuracy[run.arm][run.seed]) is not None:
            train(run, value)
    table = build_table(plan, journal)
    assert [row.common.mean for row in table.rows] == pytest.approx([0.85, 0.5, 0.86])
    lines = render(table, "md").splitlines()
    head, gate = ([cell.strip() for cell in line.split("|")] for line in (lines[2], lines[6]))
    assert (gate[head.index("n")], gate[head.index("pairs")]) == ("3/3", "2")
    assert gate[head.index("accuracy %")] == "86.00 ± 7.07"
    assert (
        "'no gate': the mean is over the seeds that 'full' has completed too; over all of its own 3 it is 90.33."
        in lines
    )


def test_failed_runs_at_chance_level_are_named_where_they_change_the_verdict(
    plan: StudyPlan, journal: Journal, train: Train
) -> None:
    for run in plan.runs:
        if run.arm == "no gate" and run.seed == 2:
            train(run, None)
            journal.fail(run.run_id, 0, Failure(state=RunState.DIVERGED, reason="loss is NaN in epoch 3"))
        else:
            train(run, 0.9 + 0.01 * (run.arm == "no gate"))
    known = replace(plan, data={**plan.data, "classes": 10})
    gate = build_table(known, journal).rows[2]
    assert gate.worst is not None
    assert gate.worst.effect == pytest.approx((0.01 + 0.01 + 0.1 - 0.9) / 3)
    assert "'no gate': with failed runs at chance level the difference is −26.00 [" in render(
        build_table(known, journal), "md"
    )
    assert build_table(plan, journal).rows[2].worst is None, "without the number of classes chance is not known"


def with_contrasts(plan: StudyPlan, **fields: object) -> StudyPlan:
    weights = {"full": 1.0, "fusion=mmtm|λ_0": -0.5, "no gate": -0.5}
    contrasts = (
        PlannedContrast(name="gate", weights={"full": 1.0, "no gate": -1.0}),
        PlannedContrast(name="everything", weights=weights),
    )
    return replace(plan, contrasts=contrasts, **fields)


def test_contrasts_are_a_family_of_their_own(played: StudyPlan, journal: Journal) -> None:
    gate, everything = build_table(with_contrasts(played), journal).contrasts
    assert (gate.estimate.n, gate.estimate.effect) == (2, pytest.approx(0.005))
    assert everything.estimate.differences == {0: pytest.approx(0.025), 1: pytest.approx(0.025)}
    assert (gate.published, everything.published) == ((None, None), (None, None))
    text = render(build_table(with_contrasts(played, contributions=True, unknown=("gate×fusion",)), journal), "md")
    assert "**What each component adds**" in text
    assert "'full' − 0.5 'fusion=mmtm\\|λ_0' − 0.5 'no gate'" in text
    assert "what the components add another" in text
    assert "These arms do not show: gate×fusion." in text


def test_published_contrasts_stand_beside_ours(played: StudyPlan, journal: Journal) -> None:
    fusion = PlannedContrast(name="fusion", weights={"full": 1.0, "fusion=mmtm|λ_0": -1.0})
    row = build_table(replace(played, contrasts=(fusion,)), journal).contrasts[0]
    assert row.published == (pytest.approx(93.8 - 89.4), None)
    assert row.estimate.n == 3
    assert row.estimate.p is not None


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_every_format_holds_the_contrasts(played: StudyPlan, journal: Journal, ending: str) -> None:
    assert "everything" in render(build_table(with_contrasts(played), journal), ending)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"a": 1.0, "b": -1.0}, "'a' − 'b'"),
        ({"a": 0.5, "b": 0.5, "c": -0.5, "d": -0.5}, "1/2 ('a' + 'b' − 'c' − 'd')"),
        ({"a": 1.0, "b": -0.5, "c": -0.5}, "'a' − 0.5 'b' − 0.5 'c'"),
        ({"a": 2 / 3, "b": -2 / 3}, "0.667 ('a' − 'b')"),
    ],
)
def test_how_a_contrast_is_computed_is_said(weights: dict[str, float], text: str) -> None:
    empty = Estimate(differences={}, effect=None)
    assert formula(ContrastRow(name="x", weights=weights, estimate=empty, published=())) == text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"verdict": Verdict.HELPS, "within_margin": True, "margin": 0.01}, "helps, by less than 1"),
        ({"verdict": Verdict.HURTS}, "hurts"),
        ({"verdict": Verdict.EQUAL, "within_margin": True, "margin": 0.015}, "equal within 1.5"),
        ({"verdict": Verdict.UNDECIDED, "spread": 0.02}, "undecided (n ≈ 34)"),
        ({"verdict": Verdict.UNDECIDED, "spread": 2.0}, "undecided (n > 999)"),
        ({"verdict": Verdict.UNDECIDED}, "undecided"),
        ({"verdict": Verdict.TOO_FEW, "spread": 0.02}, "too few seeds (n ≈ 10 for 2 points)"),
        ({"verdict": Verdict.TOO_FEW}, "too few seeds"),
    ],
)
def test_verdicts_in_words(fields: dict[str, Any], text: str) -> None:
    assert verdict_text(Estimate(differences=dict.fromkeys(range(3), 0.01), effect=0.01, **fields)) == text


def test_two_seeds_are_shown_each(plan: StudyPlan, journal: Journal, train: Train) -> None:
    two = replace(plan, runs=tuple(run for run in plan.runs if run.seed < 2))
    for run in two.runs:
        train(run, {"full": 0.9, "no gate": 0.8}.get(run.arm, 0.5) + 0.01 * run.seed)
    text = render(build_table(two, journal), "md")
    assert "90.50 (90.00, 91.00)" in text
    assert "−10.00 (−10.00, −10.00)" in text
    assert "too few seeds" in text


def test_five_seeds_show_how_often_an_arm_won(journal: Journal, plan: StudyPlan, train: Train) -> None:
    five = make_plan(*plan.arms[:2], seeds=5, data={"test": 100})
    for run in five.runs:
        train(run, 0.9 + (0.01 * run.seed - 0.01 if run.arm != "full" else 0))
    row = render(build_table(five, journal), "md").splitlines()[5]
    assert "| 3.5/5 |" in " ".join(row.split())


def test_collapsed_runs_are_counted_and_named(plan: StudyPlan, journal: Journal, train: Train) -> None:
    for run in plan.runs:
        train(run, 0.7 if (run.arm, run.seed) == ("no gate", 1) else 0.95)
    known = replace(plan, data={**plan.data, "test": 288})
    table = build_table(known, journal)
    assert [row.collapsed for row in table.rows] == [[], [], [1]]
    text = render(table, "md")
    assert "| 1/3 |" in " ".join(text.split())
    assert "own best epoch: 'no gate' seed 1." in text


def test_a_run_that_ends_below_its_own_best_epoch_has_collapsed(
    plan: StudyPlan, journal: Journal, train: Train
) -> None:
    fallen, fine = plan.runs[0], plan.runs[1]
    for run in (fallen, fine):
        train(run, None, epochs=())
        for epoch, value in ((1, 0.5), (2, 0.9), (3, 0.5 if run is fallen else 0.85)):
            report = EpochReport(epoch=epoch, metrics={"validation/accuracy": value}, seconds=1)
            journal.epoch(run.run_id, 0, report)
        scores = Predictions(names=["clip"], labels=np.array([0]), scores=np.zeros((1, 2), np.float32))
        journal.conclude(run.run_id, 0, Conclusion(epoch=3, metrics={"accuracy": 0.8}, predictions=scores))
    sizes = {"test": 288, "validation": 72}
    found = [collapsed_seeds({0: journal.record(run.run_id)}, "accuracy", sizes) for run in (fallen, fine)]
    assert found == [[0], []]
    assert collapsed_seeds({0: journal.record(fallen.run_id)}, "accuracy", {"test": 288}) == []


def test_a_study_that_has_not_begun_has_a_table(plan: StudyPlan, journal: Journal) -> None:
    table = build_table(plan, journal)
    assert [row.not_completed for row in table.rows] == [Counter({RunState.WAITING: 3})] * 3
    for ending in FORMATS:
        assert render(table, ending)


def test_the_caption_marks_published_values_of_other_data(
    played: StudyPlan, on_ntu: StudyPlan, journal: Journal
) -> None:
    other = build_table(played, journal)
    assert (other.protocols, other.comparable) == (("ntu60/cs", "ntu60/cv"), False)
    assert other.rows[0].published == (93.8, 97.2)
    assert other.rows[0].minus_published is None
    assert "cannot be compared" in render(other, "md")
    same = build_table(on_ntu, journal)
    assert (same.protocols, same.comparable) == (("ntu60/cs",), True)
    assert same.rows[0].minus_published == pytest.approx(91.0 - 93.8)
    assert same.rows[2].minus_published is None
    assert "cannot be compared" not in render(same, "md")


def test_the_caption_of_a_confirmation_describes_its_arms(plan: StudyPlan, journal: Journal) -> None:
    concluding = replace(plan, confirms="lambda_r-0a1676")
    assert "The arms are the best trials of lambda_r-0a1676" in render(build_table(concluding, journal), "md")
    reference = plan.reference
    alone = replace(
        concluding,
        arms=tuple(arm for arm in plan.arms if arm.name == reference),
        runs=tuple(run for run in plan.runs if run.arm == reference),
    )
    text = render(build_table(alone, journal), "md")
    assert "No trial of lambda_r-0a1676 except its base is completed." in text
    assert "The arms are" not in text


def test_a_confirmation_says_the_winner_s_curse(plan: StudyPlan, journal: Journal, train: Train) -> None:
    """The search saw 0.9 for the chosen arm; over the seeds of the table its validation accuracy is 0.8 and 0.7."""
    arm = next(arm for arm in plan.arms if arm.name != plan.reference)
    chosen = replace(arm, name="trial 4")
    runs = [run for run in plan.runs if run.arm == arm.name][:2]
    concluding = replace(
        plan,
        confirms="found-000000",
        arms=tuple(chosen if known is arm else known for known in plan.arms),
        runs=tuple(replace(run, arm="trial 4") if run.arm == arm.name else run for run in plan.runs),
        contrasts=(),
    )
    trial = TrialRecord(number=4, params={}, ranges={}, sampler="tpe", outcome=TrialOutcome.COMPLETE, values=(0.9,))
    JournalTrialLog(journal, "found-000000").write_trial(trial)
    assert build_table(concluding, journal).curse is None  # nothing is completed
    for run, last in zip(runs, (8, 7), strict=True):
        train(run, 0.5, epochs=tuple(range(1, last + 1)))
    table = build_table(concluding, journal)
    assert table.curse == pytest.approx(0.15)
    assert "on average +15.00 points above" in render(table, "md")


def test_a_metric_that_a_run_lacks_is_a_clear_error(plan: StudyPlan, journal: Journal, train: Train) -> None:
    train(plan.runs[0], 0.9)
    object.__setattr__(plan, "metric", "f1")
    with pytest.raises(InputError, match=r"run full/seed 0 has no test metric 'f1' \(known: accuracy\)"):
        build_table(plan, journal)


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_every_format_gives_the_golden_text(played: StudyPlan, journal: Journal, ending: str) -> None:
    """To rewrite a golden file, delete it and run the test twice."""
    text = render(build_table(played, journal), ending)
    golden = GOLDEN / f"table.{ending}"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
        pytest.fail(f"{golden} was missing and has been written: read it, then run the test again")
    assert text == golden.read_text(encoding="utf-8")


def test_csv_and_json_hold_the_unrounded_numbers(played: StudyPlan, journal: Journal) -> None:
    table = build_table(played, journal)
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    read = json.loads(render(table, "json"))["rows"]
    for row, line, values in zip(table.rows, rows, read, strict=True):
        assert line["arm"] == values["arm"] == row.arm
        assert float(line["mean"]) == values["mean"] == pytest.approx(row.summary.mean, rel=1e-11)
        assert {int(seed): value for seed, value in values["seeds"].items()} == row.values


def test_the_files_of_a_table_have_every_format(played: StudyPlan, journal: Journal) -> None:
    assert set(table_files(build_table(played, journal))) == {f"table.{ending}" for ending in FORMATS}


def test_an_unknown_format_is_refused_with_the_nearest_name(played: StudyPlan, journal: Journal) -> None:
    with pytest.raises(InputError, match="did you mean 'json'"):
        render(build_table(played, journal), "jsn")


def test_latex_has_every_greek_letter_a_period_after_the_title_and_no_path(played: StudyPlan, journal: Journal) -> None:
    greek = "".join(map(chr, [*range(0x391, 0x3A2), *range(0x3A3, 0x3AA), *range(0x3B1, 0x3CA)]))
    text = render(build_table(replace(played, title=f"{greek} × ≈"), journal), "tex")
    assert text.isascii()
    assert r"\caption{AB$\Gamma$$\Delta$EZH$\Theta$" in text
    assert r"$\omega$ $\times$ $\approx$. Protocol" in text
    assert "Data utd, fingerprint" in text
    assert "/data" not in text
