"""What the commands that start nothing show."""

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
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in answer.out.splitlines() if "│" in line]
    assert {"width": "1.0", "fusion": "dsfm", "tiam": "st", "reduction": "4"}.items() <= dict(rows).items()


def test_a_plan_shows_arms_differences_sizes_and_runs(coablate, store, monkeypatch):
    monkeypatch.setenv("FAULTS", "none,none again")
    answer = coablate("plan", FAULTY, "--data", store.uri, "--seeds", "2")
    assert answer.code == 0
    assert "Arms that fail on purpose — utd/cs" in answer.out
    [line] = [line for line in answer.out.splitlines() if "none again" in line]
    assert "model.hidden=17" in line
    assert "(reference)" in answer.out
    assert "2 arms × 2 seeds = 4 runs; 15 train, 5 validation, 20 test clips" in answer.out
    assert not Path("coablate-out").exists()


def test_an_arm_that_changes_the_clips_is_measured_with_its_own(store):
    """A linear layer's size follows the clip's length, in an arm as in the base."""
    short = prepare(Command(study=FAULTY, data=store.uri)).plan
    long = prepare(Command(study=FAULTY, data=store.uri, overrides=("data.skeleton_frames=16",))).plan
    inputs = 3 * 20 * 2  # coordinates, joints, persons
    assert long.arms[0].parameters - short.arms[0].parameters == 8 * inputs * 16


def test_a_store_is_described(coablate, store):
    answer = coablate("data", "info", store.uri)
    assert answer.code == 0
    for text in (store.uri, "utd/cs (default)", "40 of 3 classes, 13 to 14 a class", "20 joints, up to 2 person(s)"):
        assert text in answer.out
    for text in ("48×64 (40 clips)", "short_side=48", store.fingerprint, "training subject 7"):
        assert text in answer.out


def test_a_store_without_video_says_so(coablate, skeleton_store):
    [line] = [line for line in coablate("data", "info", skeleton_store.uri).out.splitlines() if "│ video" in line]
    assert "none" in line


@pytest.fixture
def results(store, tmp_path):
    """A results folder: one arm completed, one diverged, the others not begun."""
    plan = prepare(Command(study=FAULTY, data=store.uri)).plan
    journal = Journal(str(tmp_path))
    journal.write_plan(plan)
    done, broken = plan.runs[0].run_id, plan.runs[1].run_id
    journal.begin(done, 0, {"code": "c0de"})
    journal.epoch(done, 0, EpochReport(epoch=1, metrics={"train/loss": 1.0}, seconds=0.1))
    said = Predictions(names=["c000"], labels=np.array([0]), scores=np.zeros((1, 3), np.float32))
    journal.conclude(done, 0, Conclusion(epoch=1, metrics={"accuracy": 0.75}, predictions=said))
    journal.begin(broken, 0, {"code": "c0de"})
    journal.fail(broken, 0, Failure(state=RunState.DIVERGED, reason="the training loss became nan"))
    return tmp_path


def test_a_table_is_printed_in_every_format(coablate, results):
    said = {form: coablate("table", results, "--format", form) for form in ("md", "csv", "tex", "json", "html")}
    assert {answer.code for answer in said.values()} == {0}
    assert coablate("table", results).out == said["md"].out
    assert "75.00" in said["md"].out.splitlines()[4]
    assert "1 diverged" in said["md"].out
    rows = list(csv.DictReader(io.StringIO(said["csv"].out.strip())))
    assert [row["arm"] for row in rows] == ["none", "diverge", "raise", "memory", "none again"]
    assert (rows[0]["mean"], rows[1]["not_completed"]) == ("0.75", "diverged:1")
    assert json.loads(said["json"].out)["rows"][0]["n"] == 1
    assert r"\begin{tabular}" in said["tex"].out
    assert "<td>75.00</td>" in said["html"].out


def test_an_unknown_format_or_study_is_refused_with_the_nearest(refused, results):
    refused("table", results, "--format", "mdx", says=("format 'mdx'", "did you mean 'md'?"))
    refused("table", results, "--study", "fautly", says=("no study 'fautly'", "did you mean 'faulty'?"))


def test_a_damaged_study_is_named(refused, results):
    [file] = results.glob("studies/*/study.json")
    file.write_text(file.read_text()[:500])
    refused("table", results, says=(str(file), "is damaged", "run the study again"))
    file.write_text('{"key": "faulty"}')
    refused("resume", results, says=(str(file), "of another version"))


def test_a_damaged_run_is_named(refused, results):
    [file] = results.glob("journal/*/000/conclusion.arrow")
    file.write_bytes(file.read_bytes()[:100])
    refused("table", results, says=(str(file), "is damaged", "run the study again"))


def test_what_changed_since_is_not_resumed(refused, results):
    [file] = results.glob("studies/*/study.json")
    text = file.read_text()
    key = json.loads(text)["key"]
    file.write_text(text.replace(key, f"{key[:-6]}000000"))
    refused("resume", results, says=("its declaration has changed", key, "coablate run"))
