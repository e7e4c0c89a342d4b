"""The caption of a table: what the numbers are, and what a reader must know to believe them."""

from coablate_platform.results.cells import CUT, LEAST_FOR_WINS, effect_text, verdict_text
from coablate_platform.results.statistics import LEAST_SEEDS, Estimate, Verdict
from coablate_platform.results.table import Table
from coablate_platform.study.overrides import changes_text


def caption(table: Table) -> list[str]:
    """Return the caption of a table: the study's title, then what the numbers are, line by line."""
    plan = table.plan
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in plan.runs}))
    data = plan.data
    return [
        plan.title,
        f"Protocol {plan.protocol}; test {plan.metric} in percent, mean ± sample standard deviation over seeds "
        f"{seeds}; tested epoch: {plan.selection}.",
        *_differences(table),
        *_verdicts(table),
        *_notes(table),
        f"Data {_last_part(data.get('uri', 'unnamed'))}, fingerprint {str(data.get('fingerprint', 'unknown'))[:12]}; "
        f"study {plan.key}.",
        *_confirmation(table),
        *_provenance(table),
    ]


def _last_part(uri: str) -> str:
    """Return the name of a store without the folders of the machine that it lies on."""
    return uri.rstrip("/").rpartition("/")[2]


def _differences(table: Table) -> list[str]:
    """Return what the differences and their intervals are."""
    plan = table.plan
    clips, subjects = plan.data.get("test"), plan.data.get("test_subjects")
    on = f", on these {clips} test clips{f' of {subjects} subjects' if subjects else ''}" if clips else ""
    text = (
        f"n: completed/planned runs; runs that are not completed enter no mean. Differences from {plan.reference!r} "
        f"are paired by seed, in percentage points, with 95 % confidence intervals over retraining{on}: Student's t "
        "with spread borrowed from the other differences, p-values Holm-adjusted."
    )
    if table.contrasts:
        what = "what the components add" if plan.contributions else "the contrasts"
        text += f" The differences from the reference are one family of tests, {what} another."
    return [text]


def _verdicts(table: Table) -> list[str]:
    """Return what the verdicts mean, as far as the table has them."""
    estimates = _estimates(table)
    verdicts = {estimate.verdict for estimate in estimates if estimate.effect is not None}
    parts = []
    if verdicts & {Verdict.HELPS, Verdict.HURTS}:
        parts.append("helps, hurts: p (Holm) < 0.05")
    if Verdict.EQUAL in verdicts:
        parts.append("equal within δ: the 90 % interval lies between −δ and δ points")
    if Verdict.UNDECIDED in verdicts:
        parts.append(
            "undecided: not that there is no effect; n ≈ says how many seeds would show this difference with a power "
            "of 80 %, if its spread stays"
        )
    if Verdict.TOO_FEW in verdicts:
        parts.append(
            f"too few seeds: fewer than {LEAST_SEEDS} tell no interval; in brackets the values of the seeds, and about "
            "how many seeds would be needed"
        )
    if any(estimate.n >= LEAST_FOR_WINS for estimate in estimates):
        parts.append("seeds won: in how many the difference is above 0, half where it is 0")
    if any(estimate.cut for estimate in estimates):
        parts.append(f"{CUT}: cut at what is possible")
    return [f"{'; '.join(parts)}."] if parts else []


def _notes(table: Table) -> list[str]:
    """Return what a row does not show: means over other seeds, collapsed runs, failed runs counted at chance level."""
    lines = [
        f"{row.arm!r}: the mean is over the seeds that {table.plan.reference!r} has completed too; over all of its own "
        f"{row.summary.n} it is {100 * row.summary.mean:.2f}."
        for row in table.rows
        if row.summary.mean is not None and row.common.n != row.summary.n
    ]
    if collapsed := [f"{row.arm!r} seed {seed}" for row in table.rows for seed in row.collapsed]:
        lines.append(f"Collapsed runs, far below the arm's best seed or their own best epoch: {', '.join(collapsed)}.")
    lines += [
        f"{row.arm!r}: with failed runs at chance level the difference is {effect_text(row.worst)}: "
        f"{verdict_text(row.worst)}."
        for row in table.rows
        if row.worst is not None
    ]
    if table.plan.unknown:
        lines.append(f"These arms do not show: {', '.join(table.plan.unknown)}.")
    return lines


def _confirmation(table: Table) -> list[str]:
    plan = table.plan
    if not plan.confirms:
        return []
    chosen = [f"{row.arm}: {changes_text(row.difference)}." for row in table.rows if row.difference]
    if not chosen:
        return [f"No trial of {plan.confirms} except its base is completed."]
    lines = [f"The arms are the best trials of {plan.confirms} on the validation split, and its base:", *chosen]
    if table.curse is not None:
        lines.append(
            f"Winner's curse: the search chose these trials by a validation {plan.metric} that is on average "
            f"{100 * table.curse:+.2f} points above that of the same configurations over the seeds of this table."
        )
    return lines


def _provenance(table: Table) -> list[str]:
    lines = []
    if table.protocols and not table.comparable:
        lines.append(
            f"Published values are of other data than {table.plan.protocol} and cannot be compared with the measured "
            "ones."
        )
    if table.plan.as_recorded:
        lines.append(f"As recorded, by other code than was at hand: {table.plan.as_recorded}.")
    if table.mixture:
        lines.append(f"Mixed versions: {table.mixture}.")
    return lines


def _estimates(table: Table) -> list[Estimate]:
    return [row.estimate for row in table.rows if row.estimate] + [row.estimate for row in table.contrasts]
