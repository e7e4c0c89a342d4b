"""Turns a search's trials into the arms of a study, so that MLflow shows both alike."""

from collections.abc import Sequence
from dataclasses import replace

from coablate_platform.journal.trials import TrialRecord, trial_name
from coablate_platform.study.plan import PlannedArm, PlannedRun, StudyPlan
from coablate_platform.study.search import SEARCH_SEED


def with_trials(plan: StudyPlan, trials: Sequence[TrialRecord]) -> StudyPlan:
    """Return a search's plan with its trials as arms; those that the model refused have no run."""
    arms = tuple(
        PlannedArm(
            name=trial_name(trial.number),
            difference=trial.changes,
            config=trial.config,
            parameters=trial.cost.get("parameters", 0),
            flops=trial.cost.get("flops", 0),
        )
        for trial in trials
    )
    runs = tuple(
        PlannedRun(run_id=trial.run_id, arm=trial_name(trial.number), seed=SEARCH_SEED)
        for trial in trials
        if trial.run_id
    )
    return replace(plan, arms=arms, runs=runs, reference=trial_name(0))
