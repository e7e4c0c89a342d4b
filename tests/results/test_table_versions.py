"""A table of runs by different code is refused, or says so."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from coablate_platform.journal.journal import Journal
from coablate_platform.results.render import render
from coablate_platform.results.table import build_table
from coablate_platform.results.versions import code_changes, mixture_of, outdated
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import StudyPlan

Train = Callable[..., None]
OTHER = {"platform": "0ther"}


def test_mixed_versions_are_refused_and_named_with_their_runs(plan: StudyPlan, journal: Journal, train: Train) -> None:
    for run in plan.runs[:-2]:
        train(run, 0.9)
    train(plan.runs[-2], 0.9, code=OTHER)
    train(plan.runs[-1], 0.9, packages={"torch": "2.12.1", "numpy": "2.4"})
    with pytest.raises(InputError) as refusal:
        build_table(plan, journal)
    text = str(refusal.value)
    assert "0ther (fusion=mmtm|λ_0/seed 2)" in text
    assert "2.12.1 (no gate/seed 2)" in text
    assert "numpy" not in text
    assert "\n" not in text
    table = build_table(plan, journal, allow_mixed=True)
    assert [row.summary.n for row in table.rows] == [3, 3, 3]
    assert "Mixed versions: code of platform " in render(table, "md")


def test_code_is_compared_part_by_part(plan: StudyPlan, journal: Journal, train: Train) -> None:
    """Arms of different models may be in one table; two versions of one model may not."""
    models = {"full": {"one": "1"}, "fusion=mmtm|λ_0": {"other": "2", "shared": "3"}, "no gate": {"shared": "3"}}
    for run in plan.runs[:-1]:
        train(run, 0.9, code={"platform": "c0de", **models[run.arm]})
    assert build_table(plan, journal).mixture == ""
    train(plan.runs[-1], 0.9, code={"platform": "c0de", "shared": "4"})
    with pytest.raises(
        InputError, match=r"mixes versions: code of shared 3 \(.*λ_0/seed 0, .*\) and 4 \(no gate/seed 2\)"
    ):
        build_table(plan, journal)


def test_a_run_recorded_by_an_earlier_version_of_coablate_counts_as_other_code(
    plan: StudyPlan, journal: Journal, train: Train
) -> None:
    train(plan.runs[0], 0.9, code="b6fb9856-c7e156c5")
    train(plan.runs[1], 0.9, code="b6fb9856-c7e156c5")
    assert build_table(plan, journal).mixture == ""
    train(plan.runs[2], 0.9)
    with pytest.raises(InputError, match=r"code of platform b6fb9856-c7e156c5 \("):
        build_table(plan, journal)


def test_versions_that_changed_within_a_run_are_mixed_versions(plan: StudyPlan, journal: Journal, train: Train) -> None:
    for run in plan.runs[1:]:
        train(run, 0.9)
    train(plan.runs[0], None, epochs=(1, 2), attempt=0, code=OTHER)
    train(plan.runs[0], 0.9, epochs=(3,), attempt=1)
    with pytest.raises(InputError, match=r"code of platform 0ther \(full/seed 0\) and c0de \(full/seed 0, "):
        build_table(plan, journal)
    assert build_table(plan, journal, allow_mixed=True).mixture


def test_an_attempt_whose_epochs_were_repeated_does_not_count(plan: StudyPlan, journal: Journal, train: Train) -> None:
    train(plan.runs[0], None, epochs=(1,), attempt=0, code=OTHER)
    train(plan.runs[0], 0.9, epochs=(1, 2, 3), attempt=1)
    assert build_table(plan, journal).mixture == ""


def test_completed_runs_of_other_code_than_the_code_at_hand_are_named(
    plan: StudyPlan, journal: Journal, train: Train
) -> None:
    done, half, begun = plan.runs[:3]
    train(done, 0.9, code={"platform": "c0de", "model": "1"})
    train(half, None, epochs=(1,), attempt=0, code={"platform": "0ld", "model": "1"})
    train(half, 0.9, epochs=(2, 3), attempt=1, code={"platform": "c0de", "model": "1"})
    train(begun, None, epochs=(1,), code={"platform": "0ld"})
    records = journal.records(plan)

    def changed(**code: str) -> str:
        return outdated(plan, records, {run.run_id: {"code": code} for run in plan.runs})

    assert changed(platform="c0de", model="1") == f"code of platform was 0ld and is c0de ({half.arm}/seed 0)"
    assert changed(platform="0ld", model="1").startswith("code of platform was c0de and is 0ld (")
    assert changed(platform="c0de", model="1", imported="2") == changed(platform="c0de", model="1")
    assert f"code of model was 1 and is 2 ({done.arm}/seed 0, {half.arm}/seed 0)" in changed(platform="c0de", model="2")


def test_code_that_was_not_recorded_is_not_the_code_at_hand(plan: StudyPlan, journal: Journal, train: Train) -> None:
    train(plan.runs[0], 0.9, code=None)
    named = code_changes([("trial 3", journal.record(plan.runs[0].run_id), {"code": {"platform": "c0de"}})])
    assert named == "code of platform was not recorded and is c0de (trial 3)"


def test_versions_that_would_mix_are_named_before_training(plan: StudyPlan, journal: Journal, train: Train) -> None:
    done, begun, open_run, other = plan.runs[:4]
    train(done, 0.9)
    train(begun, None, epochs=(1,))
    records = journal.records(plan)
    same = {"code": {"platform": "c0de"}, "packages": {"torch": "2.13.0", "numpy": "2.4"}}
    assert mixture_of(plan, records, {begun.run_id: same, open_run.run_id: same}) == ""
    new = same | {"code": {"platform": "new"}}
    assert f"{open_run.arm}/seed 0" in mixture_of(plan, records, {open_run.run_id: new})
    mixture = mixture_of(plan, records, {begun.run_id: new})
    assert f"new ({begun.arm}/seed 0)" in mixture
    assert mixture_of(replace(plan, runs=(other,)), records, {other.run_id: new}) == ""


def test_versions_of_failed_runs_do_not_count(plan: StudyPlan, journal: Journal, train: Train) -> None:
    train(plan.runs[0], 0.9)
    train(plan.runs[1], None, code=OTHER)
    assert build_table(plan, journal).mixture == ""
