"""A study's table: computed from the journal, one row an arm."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.results.statistics import PairedDifference, Summary, holm, paired_difference, summarise
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedArm, StudyPlan
from coablate_platform.train.events import RunState
from coablate_platform.train.provenance import PLATFORM

OTHER_PROTOCOLS = ("ntu60/cs", "ntu60/cv")
"""Whose published values stand beside a study that ran on data nobody published on."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm. Values of the metric are fractions of 1, published values are percent, as in the papers.

    Args:
        arm: its name.
        difference: dotted field -> value, against the reference.
        planned: runs that the study declares for it.
        values: seed -> metric, of completed runs only.
        summary: over ``values``.
        open: state -> number of runs that are not completed; failures are counted here and averaged nowhere.
        paired: against the reference over common seeds; None for the reference itself.
        p_holm: the paired t-test's p-value, adjusted over the arms of the table.
        parameters: trainable parameters.
        flops: of one clip's forward pass.
        published: one value for each of the table's ``protocols``, in percent.
        minus_published: measured minus published in percentage points; None on other data than the published.
    """

    arm: str
    difference: dict[str, Any]
    planned: int
    values: dict[int, float]
    summary: Summary
    open: Counter[RunState]
    paired: PairedDifference | None
    p_holm: float | None
    parameters: int
    flops: int
    published: tuple[float | None, ...]
    minus_published: float | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The conclusion of a study.

    Args:
        plan: the study.
        rows: in the order of the study's arms.
        protocols: whose published values the rows carry.
        comparable: whether these were measured under this study's protocol.
        mixture: what differs in code or packages between runs or within one; empty where nothing does.
    """

    plan: StudyPlan
    rows: tuple[Row, ...]
    protocols: tuple[str, ...]
    comparable: bool
    mixture: str


def build_table(plan: StudyPlan, journal: Journal, allow_mixed: bool = False) -> Table:
    """Conclude a study from what the journal holds, finished or not.

    Args:
        plan: the study.
        journal: where its runs are written down.
        allow_mixed: take runs of different code or package versions into one table and say so in its caption.

    Raises:
        InputError: the runs mix versions and ``allow_mixed`` is off.
    """
    return tabulate(plan, journal.records(plan), allow_mixed)


def tabulate(plan: StudyPlan, records: dict[str, RunRecord], allow_mixed: bool = False) -> Table:
    """Conclude a study from records that are already read, by run id. See :func:`build_table`."""
    mixture = mixture_of(plan, records, planned={})
    if mixture and not allow_mixed:
        raise InputError(
            f"study {plan.key} mixes versions: {mixture}; --mixed takes them into one table and says so in its caption"
        )
    values = {arm.name: _values(plan, records, arm.name) for arm in plan.arms}
    reference = values[plan.reference]
    paired = {name: paired_difference(own, reference) for name, own in values.items() if name != plan.reference}
    adjusted = holm({name: pair.p for name, pair in paired.items() if pair.p is not None})
    comparable = any(plan.protocol in arm.published for arm in plan.arms)
    named = {protocol for arm in plan.arms for protocol in arm.published}
    protocols = (plan.protocol,) if comparable else tuple(name for name in OTHER_PROTOCOLS if name in named)
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
                open=Counter(state for state in states if state is not RunState.COMPLETED),
                paired=paired.get(arm.name),
                p_holm=adjusted.get(arm.name),
                parameters=arm.parameters,
                flops=arm.flops,
                published=tuple(arm.published.get(protocol) for protocol in protocols),
                minus_published=_minus_published(arm, plan.protocol, summary),
            )
        )
    return Table(plan=plan, rows=tuple(rows), protocols=protocols, comparable=comparable, mixture=mixture)


def _values(plan: StudyPlan, records: dict[str, RunRecord], arm: str) -> dict[int, float]:
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
    published = arm.published.get(protocol)
    return None if published is None or summary.mean is None else 100 * summary.mean - published


def mixture_of(plan: StudyPlan, records: dict[str, RunRecord], planned: Mapping[str, Mapping[str, Any]]) -> str:
    """Name every version that differs between completed runs, or within one of them, with the cells that have it.

    Code is compared part by part: runs of different models have only the platform's in common.

    Args:
        plan: the study.
        records: run id -> record.
        planned: run id -> ``code`` and ``packages`` with which a run will be completed.
    """
    cells: dict[str, dict[str, list[str]]] = {}
    for run in plan.runs:
        record = records[run.run_id]
        last = record.context if record.state is RunState.COMPLETED else planned.get(run.run_id)
        counted = [] if last is None else [*record.trained, last]
        for context in counted:
            for what, version in _versions(context).items():
                where = cells.setdefault(what, {}).setdefault(version, [])
                if (cell := f"{run.arm}/seed {run.seed}") not in where:
                    where.append(cell)
    return "; ".join(
        f"{what} " + " and ".join(f"{version} ({', '.join(where)})" for version, where in found.items())
        for what, found in cells.items()
        if len(found) > 1
    )


def _versions(context: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run's context says of code and packages: part of the code, or package -> version."""
    code = context.get("code") or {}
    parts = code if isinstance(code, Mapping) else {PLATFORM: code}  # an earlier version wrote one digest of it all
    return {f"code of {part}": digest for part, digest in parts.items()} | dict(context.get("packages") or {})
