"""A study's figures: what each arm changes, and how its runs learned. PNG to look at, SVG for papers.

Drawn without a display. The same table and records give the same SVG, byte for byte.
"""

import io
from collections import defaultdict
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from coablate_platform.journal.journal import RunRecord
from coablate_platform.results.table import Row, Table

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people who are colour-blind tell apart."""
LINES = ("-", "--", ":", "-.")
FORMATS = ("png", "svg")
STYLE: Any = {
    "svg.hashsalt": "coablate",
    "text.parse_math": False,  # names are names, dollars and all
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_WIDEST = 2.0  # times the seeds' own spread; wider intervals are cut and end in arrows
_MARGIN = 1.25  # of the axis of differences, over what it must show


def study_figures(table: Table, records: dict[str, RunRecord]) -> dict[str, bytes]:
    """Return file name -> content of ``effects`` and ``curves``, in every format; nothing while no run has completed.

    Args:
        table: the study's table.
        records: run id -> record, of all the study's runs.
    """
    if not any(row.values for row in table.rows):
        return {}
    with mpl.rc_context(STYLE):
        figures = {"effects": _effects(table), "curves": _curves(table, records)}
        return {
            f"{name}.{format}": written(figure, format)
            for name, figure in figures.items()
            for format in FORMATS  # noqa: A001
        }


def _effects(table: Table) -> Figure:
    """Every seed's value and the mean on the left; on the right the paired difference with its 95 % interval."""
    figure = Figure(figsize=(8, 1.6 + 0.34 * len(table.rows)), layout="constrained")
    values, differences = figure.subplots(1, 2, sharey=True)
    reference = next(row for row in table.rows if row.arm == table.plan.reference)
    for place, row in enumerate(table.rows):
        colour = _colour(place)
        values.plot([100 * v for v in row.values.values()], [place] * len(row.values), "o", color=colour, alpha=0.45)
        if row.summary.mean is not None:
            values.plot([100 * row.summary.mean], [place], "|", color=colour, markersize=16, markeredgewidth=2)
    reach = _reach(table, reference)
    for place, row in enumerate(table.rows):
        _interval(differences, place, row, reference, reach)
    differences.axvline(0, color="0.6", linewidth=0.8)
    differences.set_xlim(-reach, reach)
    values.set_yticks(range(len(table.rows)), [_label(row, table) for row in table.rows])
    values.set_ylim(len(table.rows) - 0.5, -0.5)
    values.set_xlabel(f"test {table.plan.metric} %: seeds and mean")
    differences.set_xlabel(f"points from {table.plan.reference}: seeds, mean, 95 % interval")
    figure.suptitle(f"{table.plan.title} · {table.plan.protocol}")
    return figure


def _interval(axes: Axes, place: int, row: Row, reference: Row, reach: float) -> None:
    pair = row.paired
    if pair is None or pair.effect is None:
        return
    colour = _colour(place)
    own = _differences(row, reference)
    axes.plot(own, [place] * len(own), "o", color=colour, alpha=0.45)
    axes.plot([100 * pair.effect], [place], "|", color=colour, markersize=16, markeredgewidth=2)
    if pair.low is None or pair.high is None:
        return
    low, high = max(100 * pair.low, -reach), min(100 * pair.high, reach)
    axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
    for end, cut, marker in ((low, 100 * pair.low < -reach, "<"), (high, 100 * pair.high > reach, ">")):
        axes.plot([end], [place], marker if cut else "|", color=colour, markersize=6, clip_on=False)


def _differences(row: Row, reference: Row) -> list[float]:
    return [100 * (value - reference.values[seed]) for seed, value in row.values.items() if seed in reference.values]


def _reach(table: Table, reference: Row) -> float:
    """Return half the width of the axis of differences, in percentage points."""
    seeds = [abs(d) for row in table.rows for d in _differences(row, reference)]
    ends = [abs(100 * end) for row in table.rows if row.paired for end in (row.paired.low, row.paired.high) if end]
    widest = _WIDEST * max([*seeds, 1.0])
    return _MARGIN * min(max([*seeds, *ends, 1.0]), widest)


def _curves(table: Table, records: dict[str, RunRecord]) -> Figure:
    """The metric on the data held out (on the training data where none is) and the training loss, over the epochs."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    metric = table.plan.metric
    held_out = any(f"validation/{metric}" in epoch.metrics for record in records.values() for epoch in record.epochs)
    split = "validation" if held_out else "train"
    for place, row in enumerate(table.rows):
        own = [records[run.run_id] for run in table.plan.runs if run.arm == row.arm]
        _curve(left, own, f"{split}/{metric}", 100.0, place, row.arm)
        _curve(right, own, "train/loss", 1.0, place, row.arm)
    for axes, label in ((left, f"{split} {metric} %"), (right, "training loss")):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
    figure.suptitle(f"{table.plan.title} · {table.plan.protocol}: mean over seeds, band from least to most")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(table.rows), 5))
    return figure


def _curve(axes: Axes, records: list[RunRecord], key: str, scale: float, place: int, arm: str) -> None:
    points: dict[int, list[float]] = defaultdict(list)
    for record in records:
        for epoch in record.epochs:
            if key in epoch.metrics:
                points[epoch.epoch].append(scale * epoch.metrics[key])
    if not points:
        return
    epochs = sorted(points)
    means = [sum(points[epoch]) / len(points[epoch]) for epoch in epochs]
    line = LINES[place // len(COLOURS) % len(LINES)]
    axes.plot(epochs, means, line, color=_colour(place), label=arm, linewidth=1.3)
    low, high = ([end(points[epoch]) for epoch in epochs] for end in (min, max))
    axes.fill_between(epochs, low, high, color=_colour(place), alpha=0.15, linewidth=0)


def _label(row: Row, table: Table) -> str:
    short = f"  (n = {row.summary.n} of {row.planned})" if row.open else ""
    return row.arm + (" (reference)" if row.arm == table.plan.reference else "") + short


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def written(figure: Figure, format: str) -> bytes:  # noqa: A002
    """Return a figure as the bytes of a file."""
    sink = io.BytesIO()
    figure.savefig(sink, format=format, dpi=150, metadata={"Date": None} if format == "svg" else None)
    return sink.getvalue()
