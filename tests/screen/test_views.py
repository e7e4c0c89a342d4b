"""The output of the commands that train nothing."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from coablate_platform.driver import Command, prepare
from coablate_platform.journal.journal import Journal
from coablate_platform.train.events import Conclusion, EpochReport, Failure, Predictions, RunState

FAULTY = str(Path(__file__).parents[1] / "helpers" / "faulty_study.py")


def test_the_shipped_studies_are_listed_with_their_arms(coablate):
    answer = coablate("studies")
    assert answer.code == 0
    for word in ("dsfm_count", "modules", "smoke", "streams", "+TIAM+DSFM", "skeleton only", "Table 4"):
        assert word in answer.out


def test_the_models_are_listed_with_their_settings(coablate):
    answer = coablate("models")
    assert answer.code == 0
    assert "coablate_model.cc_dfarm.CCDFARM" in answer.out
    _, first = answer.out.split("coablate_model.cc_dfarm.CCDFARM")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in first.splitlines() if "│" in line]
    settings = dict(reversed(rows))  # of the first model where two have one
    assert {"width": "1.0", "fusion": "dsfm", "tiam": "channel", "reduction": "4"}.items() <= settings.items()
    assert "coablate_model.pan.config.PAN" in answer.out
    assert "tokens.calibration" in answer.out
    assert "coablate_model.dc.config.DC" in answer.out


def test_a_plan_shows_the_arms_with_their_differences_and_the_number_of_runs(coablate, store, monkeypatch):
    monkeypatch.setenv("FAULTS", "none,none again")
    answer = coablate("plan", FAULTY, "--data", store.uri, "--seeds", "2")
    assert answer.code == 0
    assert "Arms that fail on purpose — utd/cs" in answer.out
    [line] = [line for line in answer.out.splitlines() if "none again" in line]
    assert "model.hidden=17" in line
    assert "(reference)" in answer.out
    assert "2 arms × 2 seeds = 4 runs; 15 train, 5 validation, 20 test clips" in answer.out
    assert not Path("coablate-out").exists()


def test_an_arm_that_changes_the_clips_is_measured_on_its_own_clips(store):
    """The first linear layer of the model grows with the clips' length."""
    short = prepare(Command(study=FAULTY, data=store.uri)).plan
    long = prepare(Command(study=FAULTY, data=store.uri, overrides=("data.skeleton_frames=16",))).plan
    inputs = 3 * 20 * 2  # coordinates, joints, persons
    assert long.arms[0].parameters - short.arms[0].parameters == 8 * inputs * 16


def test_a_store_is_described_with_its_protocols_and_recipe(coablate, store):
    answer = coablate("data", "info", store.uri)
    assert answer.code == 0
    for text in (store.uri, "utd/cs (default)", "40 of 3 classes, 13 to 14 a class", "20 joints, up to 2 person(s)"):
        assert text in answer.out
    for text in ("48×64 (40 clips)", "short_side=48", store.fingerprint, "training subject 7"):
        assert text in answer.out


def test_a_store_without_video_shows_none(coablate, skeleton_store):
    [line] = [line for line in coablate("data", "info", skeleton_store.uri).out.splitlines() if "│ video" in line]
    assert "none" in line


@pytest.fixture
def results(store, tmp_path):
    """A results folder with one completed and one diverged run; the others have not begun."""
    plan = prepare(Command(study=FAULTY, data=store.uri)).plan
    journal = Journal(str(tmp_path))
    journal.write_plan(plan)
    completed, diverged = plan.runs[0].run_id, plan.runs[1].run_id
    journal.begin(completed, 0, {"code": "c0de"})
    journal.epoch(completed, 0, EpochReport(epoch=1, metrics={"train/loss": 1.0}, seconds=0.1))
    predictions = Predictions(names=["c000"], labels=np.array([0]), scores=np.zeros((1, 3), np.float32))
    journal.conclude(completed, 0, Conclusion(epoch=1, metrics={"accuracy": 0.75}, predictions=predictions))
    journal.begin(diverged, 0, {"code": "c0de"})
    journal.fail(diverged, 0, Failure(state=RunState.DIVERGED, reason="the training loss became nan"))
    return tmp_path


def test_a_table_is_printed_in_every_format(coablate, results):
    answers = {form: coablate("table", results, "--format", form) for form in ("md", "csv", "tex", "json", "html")}
    assert {answer.code for answer in answers.values()} == {0}
    assert coablate("table", results).out == answers["md"].out
    assert "75.00" in answers["md"].out.splitlines()[4]
    assert "1 diverged" in answers["md"].out
    rows = list(csv.DictReader(io.StringIO(answers["csv"].out.strip())))
    assert [row["arm"] for row in rows] == ["none", "diverge", "raise", "memory", "none again"]
    assert (rows[0]["mean"], rows[1]["not_completed"]) == ("0.75", "diverged:1")
    assert json.loads(answers["json"].out)["rows"][0]["n"] == 1
    assert r"\begin{tabular}" in answers["tex"].out
    assert "<td>75.00</td>" in answers["html"].out


def test_an_unknown_format_or_study_is_refused_with_the_nearest_name(refused, results):
    refused("table", results, "--format", "mdx", says=("format 'mdx'", "did you mean 'md'?"))
    refused("table", results, "--study", "fautly", says=("no study 'fautly'", "did you mean 'faulty'?"))


def test_a_damaged_plan_is_named_with_what_to_do(refused, results):
    [file] = results.glob("studies/*/study.json")
    file.write_text(file.read_text()[:500])
    refused("table", results, says=(str(file), "is damaged", "run the study again"))
    file.write_text('{"key": "faulty"}')
    refused("resume", results, says=(str(file), "of another version"))


def test_a_damaged_run_is_named_with_what_to_do(refused, results):
    [file] = results.glob("journal/*/000/conclusion.arrow")
    file.write_bytes(file.read_bytes()[:100])
    refused("table", results, says=(str(file), "is damaged", "run the study again"))


def test_a_study_whose_declaration_has_changed_is_not_resumed(refused, results):
    [file] = results.glob("studies/*/study.json")
    text = file.read_text()
    key = json.loads(text)["key"]
    other = f"{key[:-6]}000000"
    file.write_text(text.replace(key, other))
    file.parent.rename(file.parent.with_name(other))
    refused("resume", results, says=("its declaration has changed", key, "coablate run"))
