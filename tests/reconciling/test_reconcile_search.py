"""What `coablate reconcile` finds in Optuna's copy of a search, with a real Optuna, and how it mends it."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from curves import population, search, simulate
from made_search import KEY, SimulatedTrialLog, plan_of
from optuna.trial import TrialState

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import TrialRecord
from coablate_platform.search.optuna_check import OptunaCheck
from coablate_platform.search.optuna_storage import open_storage
from coablate_platform.study.errors import InputError
from coablate_platform.study.search import Search, Stopping

DECLARED = {
    "asha": search(trials=12),
    "promotion": search(trials=12, stopping=Stopping(rule="asha_promotion", grace=1, reduction=3)),
    "costs": search(trials=6, costs=("flops",), stopping=Stopping(rule="none"), sampler="random"),
    "population": population(),
}


@pytest.fixture
def log(tmp_path) -> SimulatedTrialLog:
    return SimulatedTrialLog(Journal(str(tmp_path)), KEY)


def simulated(declared: Search, log: SimulatedTrialLog, events: int | None = None, earlier=()) -> OptunaCheck:
    """Simulate a search with a copy in a file, and return the check of it."""
    url = f"sqlite:///{log.journal.folder.local}/optuna.db"
    scheduler, simulator = simulate(declared, log, storage=url, name=KEY, earlier=earlier)
    simulator.run(events)
    assert not scheduler.finish()
    return OptunaCheck(plan_of(declared), log, earlier, url, print)


def study(log: SimulatedTrialLog) -> optuna.Study:
    return optuna.load_study(study_name=KEY, storage=open_storage(f"sqlite:///{log.journal.folder.local}/optuna.db"))


def mended(check: OptunaCheck, *lines: str) -> None:
    found = check.find()
    assert [str(difference) for difference in found] == list(lines)
    check.mend(found)
    assert check.find() == []


@pytest.mark.parametrize(
    ("rule", "events"), [("asha", 9), ("asha", None), ("promotion", 25), ("costs", None), ("population", 60)]
)
def test_nothing_differs_after_an_undisturbed_search_whole_or_not(rule, events, log):
    assert simulated(DECLARED[rule], log, events).find() == []


def test_missing_changed_and_foreign_trials_are_found_and_mended(log):
    check = simulated(DECLARED["asha"], log)
    study(log).add_trial(optuna.trial.create_trial(value=1.0))
    with contextlib.closing(sqlite3.connect(log.journal.folder.local / "optuna.db")) as database, database:
        for kind in ("values", "params", "intermediate_values", "user_attributes", "system_attributes"):
            database.execute(f"DELETE FROM trial_{kind} WHERE trial_id = 4")
        database.execute("DELETE FROM trials WHERE number = 3")
        database.execute("UPDATE trial_values SET value = 2 WHERE trial_id = 1")
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE number = 5")
    records = log.trials()
    mended(
        check,
        f"Optuna: trial 0: values [2.0], expected {list(records[0].values)}",
        "Optuna: trial 3: is missing, expected a trial",
        f"Optuna: trial 5: state RUNNING, expected {records[5].outcome.name}",
        "Optuna: trial 12: is there, expected no such trial",
    )
    assert [trial.values for trial in study(log).trials] == [list(record.values) for record in records]


def test_a_study_that_was_deleted_or_never_written_is_made(log):
    check = simulated(DECLARED["asha"], log)
    optuna.delete_study(study_name=KEY, storage=open_storage(f"sqlite:///{log.journal.folder.local}/optuna.db"))
    mended(check, "Optuna: the study: is not there, expected 12 trials")
    Path(log.journal.folder.local, "optuna.db").unlink()
    assert len(check.find()) == 1
    assert not Path(log.journal.folder.local, "optuna.db").exists(), "a check writes nothing"
    mended(check, "Optuna: the study: is not there, expected 12 trials")


def test_a_folder_that_was_moved_owns_its_study_again(log, tmp_path):
    check = simulated(DECLARED["asha"], log)
    study(log).set_user_attr("coablate.folder", "/elsewhere")
    mended(check, f"Optuna: the study: belongs to /elsewhere, expected {tmp_path}")


def test_another_folder_s_study_in_a_shared_storage_is_left_alone(log, tmp_path):
    simulated(DECLARED["asha"], log)
    other = SimulatedTrialLog(Journal(str(tmp_path / "other")), KEY)
    other.write_trial(log.trials()[0])
    check = OptunaCheck(plan_of(DECLARED["asha"]), other, (), f"sqlite:///{tmp_path}/optuna.db", print)
    with pytest.raises(InputError, match=f"belongs to {tmp_path}; choose another storage"):
        check.mend(check.find())


def test_a_trial_whose_file_is_gone_is_a_failed_one(log):
    check = simulated(DECLARED["asha"], log)
    log.journal.folder.delete(f"studies/{KEY}/trials/00004.arrow")
    state = study(log).trials[4].state
    assert str(check.find()[0]) == f"Optuna: trial 4: state {state.name}, expected FAIL"
    check.mend(check.find())
    assert study(log).trials[4].state is TrialState.FAIL
    assert check.find() == []


def test_trials_of_an_earlier_search_stand_before_those_of_the_search(log, tmp_path):
    before = SimulatedTrialLog(Journal(str(tmp_path / "before")), KEY)
    simulate(DECLARED["asha"], before)[1].run()
    earlier = before.trials()
    check = simulated(replace(DECLARED["asha"], seed=5), log, earlier=earlier)
    learnt = [trial for trial in study(log).trials if "coablate.earlier" in trial.user_attrs]
    assert learnt
    assert check.find() == []
    log.journal.folder.delete(f"studies/{KEY}/trials/00011.arrow")
    mended(check, "Optuna: trial 11: is there, expected no such trial")
    assert len(study(log).trials) == len(learnt) + 11
    forged = TrialRecord(number=0, params={}, ranges={}, sampler="")
    (first, *_) = OptunaCheck(plan_of(DECLARED["asha"]), log, [forged], check._url, print).find()
    assert str(first) == "Optuna: earlier trial 0: is there, expected no such trial"
