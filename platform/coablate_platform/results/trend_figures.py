"""Figures in which arms are points: the metric against a network's cost, and over a number that arms differ in."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from coablate_platform.results.figure_style import COLOURS, MARKERS, short_name
from coablate_platform.results.table import Row, Table


def cost_figure(table: Table) -> Figure | None:
    """Draw each arm's metric against the operations of classifying a clip; None where all arms cost the same.

    The point is the mean over seeds, the line reaches from the worst to the best, and the area of a point is in
    proportion to the number of parameters.
    """
    rows = [row for row in table.rows if row.values]
    if len({row.flops for row in rows}) < 2:
        return None
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    most = max(row.parameters for row in rows)
    for place, row in enumerate(rows):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place // len(COLOURS) % len(MARKERS)]
        low, mean, high = _range(row)
        axes.plot([row.flops / 1e9] * 2, [low, high], color=colour, linewidth=1)
        axes.scatter(
            [row.flops / 1e9], [mean], s=20 + 160 * row.parameters / most, color=colour, marker=marker, alpha=0.7
        )
        axes.plot([], [], marker, color=colour, label=f"{short_name(row.arm)} ({row.parameters / 1e6:.2g} M)")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("GFLOPs a clip (area: parameters)")
    axes.set_ylabel(f"test {table.plan.metric} %: mean, worst to best seed")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def trends_figure(table: Table) -> Figure | None:
    """Draw the study's trends side by side: means with a band from the worst to the best seed; None without any."""
    trends, rows = table.plan.trends, {row.arm: row for row in table.rows if row.values}
    shown = [trend for trend in trends if any(arm in rows for _, points in trend.lines for _, arm in points)]
    if not shown:
        return None
    figure = Figure(figsize=(4 * len(shown), 3.4), layout="constrained")
    every = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, trend in zip(every, shown, strict=True):
        for place, (name, points) in enumerate(trend.lines):
            _line(axes, name, [(x, rows[arm]) for x, arm in points if arm in rows], COLOURS[place % len(COLOURS)])
        axes.set_xlabel(trend.axis)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    every[0].set_ylabel(f"test {table.plan.metric} %")
    every[0].legend(frameon=False, fontsize=8)
    return figure


def _line(axes: Axes, name: str, points: list[tuple[float, Row]], colour: str) -> None:
    if not points:
        return
    numbers = [number for number, _ in points]
    low, mean, high = zip(*(_range(row) for _, row in points), strict=True)
    axes.plot(numbers, mean, "o-", color=colour, label=name, linewidth=1.3, markersize=4)
    axes.fill_between(numbers, low, high, color=colour, alpha=0.15, linewidth=0)


def _range(row: Row) -> tuple[float, float, float]:
    """Return the worst seed, the mean and the best seed, in percent."""
    values = [100 * value for value in row.values.values()]
    return min(values), sum(values) / len(values), max(values)
