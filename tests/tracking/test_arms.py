"""Which arms and runs MLflow shows of a search."""

from dataclasses import replace

from curves import search
from made_search import plan_of, searched

from coablate_platform.journal.trials import TrialOutcome, trial_name
from coablate_platform.study.plan import plan_from_json
from coablate_platform.tracking.arms import tracked_study


def test_each_trial_of_a_search_is_an_arm_with_one_run(tmp_path):
    declared, log, _ = searched(tmp_path)
    refused = replace(log.trials()[3], number=40, run_id="", config={}, outcome=TrialOutcome.FAILED, values=())
    tracked = tracked_study(plan_of(declared), [*log.trials(), refused])
    assert len(tracked.arms) == 41
    assert len(tracked.runs) == 40  # the model refused the last trial's configuration
    assert tracked.reference == trial_name(0)
    assert tracked.arms[1].difference == log.trials()[1].changes


def test_a_search_plan_is_read_as_it_was_written():
    plan = plan_of(search())
    assert plan_from_json(plan.to_json()) == plan
