"""What MLflow shows: the arms and runs of a study, or those of a search so far, with its trials as arms."""

from collections.abc import Sequence
from dataclasses import dataclass

from coablate_platform.journal.trials import TrialRecord, trial_name
from coablate_platform.study.plan import AnyPlan, PlannedArm, PlannedRun, SearchPlan
from coablate_platform.study.search import TRIAL_SEED


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A study or a search as MLflow shows it.

    Args:
        plan: its plan.
        reference: the arm that the others are compared with; of a search its first trial, the base.
        arms: declared arms, or trials.
        runs: in the order of work; of a search, without trials that the model refused.
    """

    plan: AnyPlan
    reference: str
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]


def tracked(plan: AnyPlan, trials: Sequence[TrialRecord] = ()) -> Tracked:
    """Return what MLflow shows of a plan, with a search's trials so far."""
    if not isinstance(plan, SearchPlan):
        return Tracked(plan=plan, reference=plan.reference, arms=plan.arms, runs=plan.runs)
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
    return Tracked(plan=plan, reference=trial_name(0), arms=arms, runs=runs)
