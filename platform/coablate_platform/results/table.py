"""A study's table, computed from the journal: one row per arm."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.results.statistics import PairedDifference, Summary, holm, paired_difference, summarise
from coablate_platform.results.versions import mixture_of
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedArm, StudyPlan
from coablate_platform.train.events import RunState

OTHER_PROTOCOLS = ("ntu60/cs", "ntu60/cv")
"""Protocols whose published values are shown if none were published for the study's own protocol."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm's row. Measured values are fractions of 1, published values are in percent, as in the papers.

    Args:
        arm: the arm's name.
        difference: dotted field -> value, against the reference arm.
        planned: number of runs that the study plans for the arm.
        values: seed -> test metric, of completed runs only.
        summary: mean and standard deviation of ``values``.
        not_completed: state -> number of the arm's runs in it, without the completed ones. Failed runs are counted here
            and enter no mean.
        paired: paired difference from the reference, over common seeds; None for the reference itself.
        p_holm: p-value of the paired t-test, Holm-adjusted over the arms of the table.
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
    not_completed: Counter[RunState]
    paired: PairedDifference | None
    p_holm: float | None
    parameters: int
    flops: int
    published: tuple[float | None, ...]
    minus_published: float | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The result of a study.

    Args:
        plan: the study's plan.
        rows: the arms, in the study's order.
        protocols: the protocols of the published values in the rows.
        comparable: whether those were measured under the study's own protocol.
        mixture: the code and package versions that differ between runs or within one, in words; empty if none does.
    """

    plan: StudyPlan
    rows: tuple[Row, ...]
    protocols: tuple[str, ...]
    comparable: bool
    mixture: str


def build_table(plan: StudyPlan, journal: Journal, allow_mixed: bool = False) -> Table:
    """Compute the table of a study, finished or not, from the journal.

    Args:
        plan: the study's plan.
        journal: the journal with its runs.
        allow_mixed: accept runs of different code or package versions, and name the versions in the caption.

    Raises:
        InputError: the runs mix versions and ``allow_mixed`` is off, or a completed run lacks the study's metric.
    """
    return tabulate(plan, journal.records(plan), allow_mixed)


def tabulate(plan: StudyPlan, records: dict[str, RunRecord], allow_mixed: bool = False) -> Table:
    """Compute the table of a study from run records, by run id. See :func:`build_table`."""
    mixture = mixture_of(plan, records, planned={})
    if mixture and not allow_mixed:
        raise InputError(
            f"study {plan.key} mixes versions: {mixture}; --mixed takes them into one table and says so in its caption"
        )
    values = {arm.name: _values(plan, records, arm.name) for arm in plan.arms}
    reference = values[plan.reference]
    differences = {
        arm: paired_difference(by_seed, reference) for arm, by_seed in values.items() if arm != plan.reference
    }
    adjusted = holm({arm: difference.p for arm, difference in differences.items() if difference.p is not None})
    comparable = any(plan.protocol in arm.published for arm in plan.arms)
    published = {protocol for arm in plan.arms for protocol in arm.published}
    protocols = (plan.protocol,) if comparable else tuple(name for name in OTHER_PROTOCOLS if name in published)
    rows = []
    for arm in plan.arms:
        states = [records[run.run_id].state for run in plan.runs if run.arm == arm.name]
        summary = summarise(list(values[arm.name].values()))
        rows.append(
            Row(
                arm=arm.name,
                difference=arm.difference,
                planned=len(states),
                values=values[arm.name],
                summary=summary,
                not_completed=Counter(state for state in states if state is not RunState.COMPLETED),
                paired=differences.get(arm.name),
                p_holm=adjusted.get(arm.name),
                parameters=arm.parameters,
                flops=arm.flops,
                published=tuple(arm.published.get(protocol) for protocol in protocols),
                minus_published=_minus_published(arm, plan.protocol, summary),
            )
        )
    return Table(plan=plan, rows=tuple(rows), protocols=protocols, comparable=comparable, mixture=mixture)


def _values(plan: StudyPlan, records: dict[str, RunRecord], arm: str) -> dict[int, float]:
    """Return seed -> test metric of an arm's completed runs."""
    completed = [
        (run, records[run.run_id])
        for run in plan.runs
        if run.arm == arm and records[run.run_id].state is RunState.COMPLETED
    ]
    for run, record in completed:
        if plan.metric not in record.metrics:
            known = ", ".join(sorted(record.metrics)) or "none"
            raise InputError(f"run {run.arm}/seed {run.seed} has no test metric {plan.metric!r} (known: {known})")
    return {run.seed: record.metrics[plan.metric] for run, record in completed}


def _minus_published(arm: PlannedArm, protocol: str, summary: Summary) -> float | None:
    """Return measured minus published value in percentage points, or None if one of them is missing."""
    published = arm.published.get(protocol)
    return None if published is None or summary.mean is None else 100 * summary.mean - published
