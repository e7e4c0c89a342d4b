"""A study's figures: paired differences of the arms, and learning curves. PNG to look at, SVG and PDF for papers.

Drawn without a display. The same table and records give the same SVG and PDF, byte for byte.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from coablate_platform.journal.journal import RunRecord
from coablate_platform.results.cells import contrast_grid
from coablate_platform.results.confusion_figure import confusion_figure
from coablate_platform.results.figure_style import COLOURS, LINES, figure_files, figure_style, short_name
from coablate_platform.results.statistics import Estimate
from coablate_platform.results.table import Row, Table
from coablate_platform.results.trend_figures import cost_figure, trends_figure
from coablate_platform.train.events import Predictions

_WIDEST = 2.0  # intervals that reach beyond this many times the largest difference of a seed end in arrows
_MARGIN = 1.25  # half the width of the axis of differences, relative to the largest value on it


def study_figures(
    table: Table, records: dict[str, RunRecord], predictions_of: Callable[[str], Predictions]
) -> dict[str, bytes]:
    """Return file name -> content of ``effects`` and ``curves``, and where they say something, of four more.

    These are ``contrasts``, ``cost``, ``trends`` and ``confusions``. There is no figure if no run is completed.

    Args:
        table: the study's table.
        records: run id -> record, of all runs of the study.
        predictions_of: reads the predictions of a completed run.

    Raises:
        InputError: the predictions of a run are damaged.
    """
    if not any(row.values for row in table.rows):
        return {}
    with figure_style():
        files = figure_files("effects", _effects(table)) | figure_files("curves", _curves(table, records))
        if any(row.estimate.n for row in table.contrasts):
            files |= figure_files("contrasts", _contrasts(table))
        more = {
            "cost": cost_figure(table),
            "trends": trends_figure(table),
            "confusions": confusion_figure(table, _predictions(table, predictions_of)),
        }
        for name, figure in more.items():
            if figure is not None:
                figure.suptitle(_title(table))
                files |= figure_files(name, figure)
        return files


def _predictions(table: Table, predictions_of: Callable[[str], Predictions]) -> dict[str, list[Predictions]]:
    """Return arm -> the predictions of its completed runs."""
    completed = {row.arm: row.values for row in table.rows}
    found: dict[str, list[Predictions]] = defaultdict(list)
    for run in table.plan.runs:
        if run.seed in completed[run.arm]:
            found[run.arm].append(predictions_of(run.run_id))
    return found


def _effects(table: Table) -> Figure:
    """Draw the metric of each seed and the mean (left), and the paired differences with their intervals (right)."""
    figure = Figure(figsize=(8, 1.6 + 0.34 * len(table.rows)), layout="constrained")
    values, differences = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(table.rows):
        colour = _colour(place)
        values.plot([100 * v for v in row.values.values()], [place] * len(row.values), "o", color=colour, alpha=0.45)
        if row.summary.mean is not None:
            values.plot([100 * row.summary.mean], [place], "|", color=colour, markersize=16, markeredgewidth=2)
    reach = _reach([row.estimate for row in table.rows])
    for place, row in enumerate(table.rows):
        _interval(differences, place, row.estimate, reach)
    differences.axvline(0, color="0.6", linewidth=0.8)
    differences.set_xlim(-reach, reach)
    values.set_yticks(range(len(table.rows)), [_label(row, table) for row in table.rows])
    values.set_ylim(len(table.rows) - 0.5, -0.5)
    values.set_xlabel(f"test {table.plan.metric} %\nseeds and mean")
    differences.set_xlabel(
        f"difference from {short_name(table.plan.reference)}, percentage points\n"
        "seeds, mean and 95 % confidence interval"
    )
    figure.suptitle(_title(table))
    return figure


def _interval(axes: Axes, place: int, estimate: Estimate | None, reach: float) -> None:
    """Draw a contrast's differences, their mean and its interval; an arrow marks an end beyond the axis."""
    if estimate is None or estimate.effect is None:
        return
    colour = _colour(place)
    differences = [100 * difference for difference in estimate.differences.values()]
    axes.plot(differences, [place] * len(differences), "o", color=colour, alpha=0.45)
    axes.plot([100 * estimate.effect], [place], "|", color=colour, markersize=16, markeredgewidth=2)
    if estimate.low is None or estimate.high is None:
        return
    low, high = max(100 * estimate.low, -reach), min(100 * estimate.high, reach)
    axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
    for end, cut, marker in ((low, 100 * estimate.low < -reach, "<"), (high, 100 * estimate.high > reach, ">")):
        axes.plot([end], [place], marker if cut else "|", color=colour, markersize=6, clip_on=False)


def _reach(estimates: Sequence[Estimate | None]) -> float:
    """Return half the width of the axis of differences, in percentage points."""
    shown = [estimate for estimate in estimates if estimate is not None]
    seeds = [abs(100 * difference) for estimate in shown for difference in estimate.differences.values()]
    ends = [abs(100 * end) for estimate in shown for end in (estimate.low, estimate.high) if end]
    widest = _WIDEST * max([*seeds, 1.0])
    return _MARGIN * min(max([*seeds, *ends, 1.0]), widest)


def _contrasts(table: Table) -> Figure:
    """Draw each contrast of the seeds, the mean and its interval."""
    figure = Figure(figsize=(6, 1.4 + 0.34 * len(table.contrasts)), layout="constrained")
    axes = figure.subplots()
    reach = _reach([row.estimate for row in table.contrasts])
    for place, row in enumerate(table.contrasts):
        _interval(axes, place, row.estimate, reach)
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(table.contrasts) - 0.5, -0.5)
    axes.set_yticks(range(len(table.contrasts)), [short_name(row.name) for row in table.contrasts])
    axes.set_xlabel("percentage points\nseeds, mean and 95 % confidence interval")
    figure.suptitle(f"{_title(table)}: {contrast_grid(table).title.lower()}")
    return figure


def _curves(table: Table, records: dict[str, RunRecord]) -> Figure:
    """Draw the metric and the training loss over the epochs.

    The metric is that of the validation split, or of the training split if the study has no validation split.
    """
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    metric = table.plan.metric
    has_validation = any(
        f"validation/{metric}" in report.metrics for record in records.values() for report in record.epochs
    )
    split = "validation" if has_validation else "train"
    for place, row in enumerate(table.rows):
        arm_records = [records[run.run_id] for run in table.plan.runs if run.arm == row.arm]
        _curve(left, arm_records, f"{split}/{metric}", 100.0, place, short_name(row.arm))
        _curve(right, arm_records, "train/loss", 1.0, place, short_name(row.arm))
    for axes, label in ((left, f"{split} {metric} %"), (right, "training loss")):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
    figure.suptitle(f"{_title(table)}: mean over seeds, band from minimum to maximum")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(table.rows), 5))
    return figure


def _curve(axes: Axes, records: list[RunRecord], metric: str, scale: float, place: int, arm: str) -> None:
    """Draw the mean and the range of a metric over an arm's runs, after each epoch."""
    points: dict[int, list[float]] = defaultdict(list)
    for record in records:
        for report in record.epochs:
            if metric in report.metrics:
                points[report.epoch].append(scale * report.metrics[metric])
    if not points:
        return
    epochs = sorted(points)
    means = [sum(points[epoch]) / len(points[epoch]) for epoch in epochs]
    line = LINES[place // len(COLOURS) % len(LINES)]
    axes.plot(epochs, means, line, color=_colour(place), label=arm, linewidth=1.3)
    low, high = ([end(points[epoch]) for epoch in epochs] for end in (min, max))
    axes.fill_between(epochs, low, high, color=_colour(place), alpha=0.15, linewidth=0)


def _label(row: Row, table: Table) -> str:
    missing = f"  (n = {row.summary.n} of {row.planned})" if row.not_completed else ""
    return short_name(row.arm) + (" (reference)" if row.arm == table.plan.reference else "") + missing


def _title(table: Table) -> str:
    return f"{short_name(table.plan.title)} · {table.plan.protocol}"


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
