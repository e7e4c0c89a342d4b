"""The arms and runs that MLflow shows: those of a study, or the trials of a search so far, each as an arm."""

from collections.abc import Sequence
from dataclasses import dataclass

from coablate_platform.journal.trials import TrialRecord, trial_name
from coablate_platform.study.plan import AnyPlan, PlannedArm, PlannedRun, SearchPlan
from coablate_platform.study.search import TRIAL_SEED


@dataclass(frozen=True, kw_only=True)
class TrackedStudy:
    """A study or a search as MLflow shows it.

    Args:
        plan: the plan of the study or the search.
        reference: name of the arm that the others are compared with; in a search, trial 0, which is the base.
        arms: the study's arms, or the search's trials.
        runs: the runs in the order of work; in a search, without those of trials that the model refused.
    """

    plan: AnyPlan
    reference: str
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]


def tracked_study(plan: AnyPlan, trials: Sequence[TrialRecord] = ()) -> TrackedStudy:
    """Return what MLflow shows of a plan; for a search, with its trials so far."""
    if not isinstance(plan, SearchPlan):
        return TrackedStudy(plan=plan, reference=plan.reference, arms=plan.arms, runs=plan.runs)
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
        PlannedRun(run_id=trial.run_id, arm=trial_name(trial.number), seed=TRIAL_SEED)
        for trial in trials
        if trial.run_id
    )
    return TrackedStudy(plan=plan, reference=trial_name(0), arms=arms, runs=runs)
