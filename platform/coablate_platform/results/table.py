"""A study's table, computed from the journal: a row for each arm, and one for each contrast of arms."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.journal.trials import JournalTrialLog, trial_name
from coablate_platform.results.collapses import collapsed_seeds
from coablate_platform.results.statistics import Estimate, Summary, Values, Weights, estimate_family, summarise
from coablate_platform.results.versions import mixture_of
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedArm, PlannedContrast, StudyPlan
from coablate_platform.train.events import RunState

OTHER_PROTOCOLS = ("ntu60/cs", "ntu60/cv")
"""Protocols whose published values are shown if none were published for the study's own protocol."""
SHARES = ("accuracy", "top5")
"""Metrics that are a share of the test clips."""
_NO_FAILURE = (RunState.COMPLETED, RunState.STOPPED)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm's row. Measured values are fractions of 1, published values are in percent, as in the papers.

    Args:
        arm: the arm's name.
        difference: dotted field -> value, against the reference arm.
        planned: number of runs that the study plans for the arm.
        values: seed -> test metric, of completed runs only.
        summary: mean and standard deviation of ``values``.
        common: the same over the seeds that the reference has completed too.
        not_completed: state -> number of the arm's runs in it, without the completed ones. Failed runs are counted here
            and enter no mean.
        collapsed: seeds whose runs have collapsed, see :mod:`~coablate_platform.results.collapses`.
        estimate: the difference from the reference, paired by seed; None for the reference itself.
        worst: the same with failed runs at chance level, where that changes its sign or the verdict; else None.
        parameters: number of trainable parameters.
        flops: floating-point operations of one clip's forward pass.
        published: the published value for each of the table's ``protocols``, in percent; None if there is none.
        minus_published: measured minus published value, in percentage points; None if nothing was published for the
            study's own protocol, or no run is completed.
    """

    arm: str
    difference: dict[str, Any]
    planned: int
    values: dict[int, float]
    summary: Summary
    common: Summary
    not_completed: Counter[RunState]
    collapsed: list[int]
    estimate: Estimate | None
    worst: Estimate | None
    parameters: int
    flops: int
    published: tuple[float | None, ...]
    minus_published: float | None


@dataclass(frozen=True, kw_only=True)
class ContrastRow:
    """A contrast's row, such as what a component adds.

    Args:
        name: the contrast's name.
        weights: arm -> weight.
        estimate: the contrast as estimated; fractions of 1.
        published: the same contrast of the published values for each of the table's ``protocols``, in percentage
            points; None if one of its arms has no published value.
    """

    name: str
    weights: Weights
    estimate: Estimate
    published: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The result of a study.

    Args:
        plan: the study's plan.
        rows: the arms, in the study's order.
        contrasts: the contrasts, in the plan's order.
        protocols: the protocols of the published values in the rows.
        comparable: whether those were measured under the study's own protocol.
        mixture: the code and package versions that differ between runs or within one, in words; empty if none does.
        curse: of a confirmation, by how much the validation metric of the chosen trials falls short, on average over
            arms and seeds, of that by which the search chose them; None where it is not known.
    """

    plan: StudyPlan
    rows: tuple[Row, ...]
    contrasts: tuple[ContrastRow, ...]
    protocols: tuple[str, ...]
    comparable: bool
    mixture: str
    curse: float | None = None


def build_table(
    plan: StudyPlan, journal: Journal, allow_mixed: bool = False, records: dict[str, RunRecord] | None = None
) -> Table:
    """Compute the table of a study, finished or not, from the journal.

    Args:
        plan: the study's plan.
        journal: the journal with its runs.
        allow_mixed: accept runs of different code or package versions, and name the versions in the caption.
        records: run id -> record, of all runs of the study; None reads them.

    Raises:
        InputError: the runs mix versions and ``allow_mixed`` is off, or a completed run lacks the study's metric.
    """
    records = journal.records(plan) if records is None else records
    return replace(tabulate(plan, records, allow_mixed), curse=_winners_curse(plan, records, journal))


def tabulate(plan: StudyPlan, records: dict[str, RunRecord], allow_mixed: bool = False) -> Table:
    """Compute the table of a study from run records, by run id. See :func:`build_table`."""
    mixture = mixture_of(plan, records, planned={})
    if mixture and not allow_mixed:
        raise InputError(
            f"study {plan.key} mixes versions: {mixture}; --mixed takes them into one table and says so in its caption"
        )
    completed = {arm.name: _completed(plan, records, arm.name) for arm in plan.arms}
    values = {
        arm: {seed: record.metrics[plan.metric] for seed, record in of_arm.items()} for arm, of_arm in completed.items()
    }
    differences = {arm.name: {arm.name: 1.0, plan.reference: -1.0} for arm in plan.arms if arm.name != plan.reference}
    estimates, contrasts = (
        _estimate(plan, family, values)
        for family in (differences, {contrast.name: contrast.weights for contrast in plan.contrasts})
    )
    worst = _estimate(plan, differences, _with_failures(plan, records, values))
    comparable = any(plan.protocol in arm.published for arm in plan.arms)
    published = {protocol for arm in plan.arms for protocol in arm.published}
    protocols = (plan.protocol,) if comparable else tuple(name for name in OTHER_PROTOCOLS if name in published)
    rows = []
    for arm in plan.arms:
        states = [records[run.run_id].state for run in plan.runs if run.arm == arm.name]
        own = values[arm.name]
        common = summarise([value for seed, value in own.items() if seed in values[plan.reference]])
        estimate = estimates.get(arm.name)
        rows.append(
            Row(
                arm=arm.name,
                difference=arm.difference,
                planned=len(states),
                values=own,
                summary=summarise(list(own.values())),
                common=common,
                not_completed=Counter(state for state in states if state is not RunState.COMPLETED),
                collapsed=collapsed_seeds(completed[arm.name], plan.metric, plan.data) if _is_share(plan) else [],
                estimate=estimate,
                worst=worst[arm.name] if estimate and _differs(estimate, worst[arm.name]) else None,
                parameters=arm.parameters,
                flops=arm.flops,
                published=tuple(arm.published.get(protocol) for protocol in protocols),
                minus_published=_minus_published(arm, plan.protocol, common),
            )
        )
    return Table(
        plan=plan,
        rows=tuple(rows),
        contrasts=tuple(_contrast(plan, contrast, contrasts[contrast.name], protocols) for contrast in plan.contrasts),
        protocols=protocols,
        comparable=comparable,
        mixture=mixture,
    )


def _winners_curse(plan: StudyPlan, records: Mapping[str, RunRecord], journal: Journal) -> float | None:
    """Return the winner's curse of a confirmation: the chosen trials' validation metric minus that over new seeds."""
    if plan.confirms is None:
        return None
    trials = {trial_name(trial.number): trial for trial in JournalTrialLog(journal, plan.confirms).trials()}
    falls = []
    for arm in plan.arms:
        again = [
            value
            for record in _completed(plan, records, arm.name).values()
            for report in record.epochs
            if report.epoch == record.tested_epoch
            and (value := report.metrics.get(f"validation/{plan.metric}")) is not None
        ]
        if again and arm.name in trials and trials[arm.name].values:
            falls.append(trials[arm.name].values[0] - statistics.fmean(again))
    return statistics.fmean(falls) if falls else None


def _is_share(plan: StudyPlan) -> bool:
    """Return whether the study's metric is a share of a known number of test clips."""
    return plan.metric in SHARES and bool(plan.data.get("test"))


def _estimate(plan: StudyPlan, family: Mapping[str, Weights], values: Values) -> dict[str, Estimate]:
    margin = None if plan.margin is None else plan.margin / 100
    return estimate_family(family, values, clips=plan.data["test"] if _is_share(plan) else None, margin=margin)


def _with_failures(plan: StudyPlan, records: Mapping[str, RunRecord], values: Values) -> Values:
    """Return the values with those of failed runs at chance level; unchanged where that level is not known."""
    classes = plan.data.get("classes")
    if not _is_share(plan) or plan.metric != "accuracy" or not classes:
        return values
    failed = [run for run in plan.runs if (state := records[run.run_id].state).ended and state not in _NO_FAILURE]
    return {arm: dict(own) | {run.seed: 1 / classes for run in failed if run.arm == arm} for arm, own in values.items()}


def _differs(estimate: Estimate, worst: Estimate) -> bool:
    """Return whether two estimates differ in sign or verdict."""
    if estimate.effect is None or worst.effect is None:
        return estimate.effect is not worst.effect
    return estimate.verdict is not worst.verdict or estimate.effect * worst.effect < 0


def _contrast(
    plan: StudyPlan, contrast: PlannedContrast, estimate: Estimate, protocols: tuple[str, ...]
) -> ContrastRow:
    published = {arm.name: arm.published for arm in plan.arms}
    known = [all(protocol in published[arm] for arm in contrast.weights) for protocol in protocols]
    return ContrastRow(
        name=contrast.name,
        weights=contrast.weights,
        estimate=estimate,
        published=tuple(
            sum(weight * published[arm][protocol] for arm, weight in contrast.weights.items()) if is_known else None
            for protocol, is_known in zip(protocols, known, strict=True)
        ),
    )


def _completed(plan: StudyPlan, records: Mapping[str, RunRecord], arm: str) -> dict[int, RunRecord]:
    """Return seed -> record of an arm's completed runs."""
    completed = {
        run.seed: records[run.run_id]
        for run in plan.runs
        if run.arm == arm and records[run.run_id].state is RunState.COMPLETED
    }
    for seed, record in completed.items():
        if plan.metric not in record.metrics:
            known = ", ".join(sorted(record.metrics)) or "none"
            raise InputError(f"run {arm}/seed {seed} has no test metric {plan.metric!r} (known: {known})")
    return completed


def _minus_published(arm: PlannedArm, protocol: str, summary: Summary) -> float | None:
    """Return measured minus published value in percentage points, or None if one of them is missing."""
    published = arm.published.get(protocol)
    return None if published is None or summary.mean is None else 100 * summary.mean - published
