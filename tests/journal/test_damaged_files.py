"""Files that are damaged, or that others have put into a results folder: one plain error, or no notice of them."""

import json

import numpy as np
import pyarrow as pa
import pytest
from made_search import searched
from made_study import make_plan

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.storage import to_arrow
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedArm
from coablate_platform.train.events import Conclusion, EpochReport, Predictions, RunState

RUN = "a" * 64
ARM = PlannedArm(name="full", difference={}, config={}, parameters=1, flops=2)


@pytest.fixture
def journal(tmp_path):
    """A journal with a plan and a completed run."""
    journal = Journal(str(tmp_path))
    journal.write_plan(make_plan(ARM, name="fusion", key="fusion-111111"))
    journal.begin(RUN, 0, {})
    journal.epoch(RUN, 0, EpochReport(epoch=1, metrics={"loss": 1.0}, seconds=1.0))
    scores = np.array([[0.1, 0.9]], np.float32)
    predictions = Predictions(names=["x"], labels=np.array([1]), scores=scores)
    journal.conclude(RUN, 0, Conclusion(epoch=1, metrics={"accuracy": 1.0}, predictions=predictions))
    return journal


@pytest.mark.parametrize("content", ["[]", "null", "3", "{", "{}", '{"kind": "study"}', '{"kind": "study", "arms": 3}'])
def test_a_plan_that_is_no_plan_is_a_clear_error(journal, tmp_path, content):
    (tmp_path / "studies" / "fusion-111111" / "study.json").write_text(content)
    with pytest.raises(InputError, match=r"study\.json is damaged or of another version"):
        journal.plans()


@pytest.mark.parametrize("name", ["predictions", "epochs", "begin", "conclusion"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "other columns"])
def test_a_damaged_file_of_a_run_is_a_clear_error(journal, tmp_path, name, damage):
    file = tmp_path / "journal" / RUN / "000" / f"{name}.arrow"
    other = to_arrow(pa.table({"x": [1]}))
    file.write_bytes({"truncated": file.read_bytes()[:-40], "empty": b"", "other columns": other}[damage])
    with pytest.raises(InputError, match=rf"{name}\.arrow is damaged .*; delete the run's folder"):
        journal.predictions(RUN) if name == "predictions" else journal.record(RUN)


def test_files_of_others_do_not_count(journal, tmp_path):
    before = journal.record(RUN)
    for place in (f"journal/{RUN}", f"journal/{RUN}/000", f"journal/{RUN}/notes", "studies/fusion-111111/old"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "notes.txt").write_text("mine")
        (tmp_path / place / "study.json").write_text(json.dumps([]))
    assert journal.record(RUN) == before
    assert journal.state(RUN) is RunState.COMPLETED
    assert [plan.key for plan in journal.plans()] == ["fusion-111111"]


def test_files_of_others_are_no_trials(tmp_path):
    _, log, _ = searched(tmp_path, trials=2)
    before = log.trials()
    (tmp_path / "studies" / log.key / "trials" / "notes.txt").write_text("mine")
    assert log.trials() == before
