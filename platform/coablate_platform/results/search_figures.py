"""The figures of a search: its history, learning curves, parameter importance and effects, Pareto front, fusion sites.

PNG to look at, SVG for papers and for the report. Drawn without a display.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.results.figure_style import COLOURS, figure_files, figure_style
from coablate_platform.results.importance import LEAST_TRIALS, Importance, scores_of
from coablate_platform.results.parameter_axis import ParameterAxis
from coablate_platform.results.placement_figure import placement_figure
from coablate_platform.results.ranking import common_epoch, rung_epochs
from coablate_platform.study.plan import SearchPlan
from coablate_platform.study.search import COST_LABELS
from coablate_platform.train.events import EpochReport

_MARKERS = {
    TrialOutcome.COMPLETE: (COLOURS[0], "o", "completed"),
    TrialOutcome.PRUNED: ("0.65", "x", "pruned"),
}
"""Outcome -> colour, marker and label of its points."""
_SLICES_A_ROW = 4
_MOST_SLICES = 16
_MOST_COORDINATES = 8
Reports = Mapping[str, Sequence[EpochReport]]


def search_figures(
    plan: SearchPlan, trials: Sequence[TrialRecord], reports: Reports, importances: Sequence[Importance]
) -> dict[str, bytes]:
    """Return file name -> content of every figure that has something to show, as PNG and SVG.

    Args:
        plan: the search's plan.
        trials: all trials.
        reports: run id -> its reports.
        importances: the parameters' importances, highest first; they order the parameters in the figures.
    """
    with_values = [trial for trial in trials if trial.values]
    if not with_values:
        return {}
    epoch = common_epoch(trials)
    early, early_label = _after(epoch, plan, trials, reports), f"validation {plan.metric} % after epoch {epoch}"
    panels = {early_label: early}
    if epoch < plan.epochs:
        completed = [trial for trial in with_values if trial.outcome is TrialOutcome.COMPLETE]
        panels[f"validation {plan.metric} % of completed trials"] = completed
    order = [importance.parameter for importance in importances]
    names = sorted(_varied(with_values), key=lambda name: order.index(name) if name in order else len(order))
    makers: dict[str, Callable[[], Figure | None]] = {
        "history": lambda: _history(plan, with_values),
        "curves": lambda: _curves(plan, trials, reports),
        "importance": lambda: _importance(importances),
        "effects": lambda: _effects(plan, with_values, names[:_MOST_SLICES]),
        "interaction": lambda: _interaction(early, names, early_label),
        "parallel": lambda: _parallel(plan, with_values, names),
        "pareto": lambda: _pareto(plan, with_values),
        "placement": lambda: placement_figure(plan, panels),
    }
    files: dict[str, bytes] = {}
    with figure_style():
        for name, make in makers.items():
            if (figure := make()) is not None:
                files |= figure_files(name, figure)
    return files


def _after(epoch: int, plan: SearchPlan, trials: Sequence[TrialRecord], reports: Reports) -> list[TrialRecord]:
    """Return the trials that have reported this epoch, each with the metric after it as its value."""
    scores = scores_of(trials, reports, f"validation/{plan.metric}", epoch)
    return [replace(trial, values=(scores[trial.number],)) for trial in trials if trial.number in scores]


def _varied(trials: Sequence[TrialRecord]) -> list[str]:
    """Return the parameters that differ between trials, in the order of suggestion."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({repr(t.params[name]) for t in trials if name in t.params}) > 1]


def _history(plan: SearchPlan, trials: Sequence[TrialRecord]) -> Figure:
    """Draw the metric of each trial over the trials' numbers, and the best completed one so far."""
    figure, axes = _new_figure(7, 3)
    _scatter(axes, trials, lambda trial: trial.number, size=18)
    best, steps = -math.inf, []
    for trial in trials:
        if trial.outcome is TrialOutcome.COMPLETE and trial.values[0] > best:
            best = trial.values[0]
        steps.append(100 * best if math.isfinite(best) else math.nan)
    axes.step([t.number for t in trials], steps, where="post", color=COLOURS[1], linewidth=1, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation {plan.metric} %")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _curves(plan: SearchPlan, trials: Sequence[TrialRecord], reports: Reports) -> Figure:
    """Draw the metric of each trial over the epochs; a pruned one up to the epoch at which that was decided."""
    figure, axes = _new_figure(7, 3.4)
    for rung in rung_epochs(plan):
        axes.axvline(rung, color="0.85", linewidth=0.8, zorder=0)
    best = max((trial.values[0] for trial in trials if trial.outcome is TrialOutcome.COMPLETE), default=None)
    for trial in trials:
        points = [
            (report.epoch, 100 * report.metrics[f"validation/{plan.metric}"])
            for report in reports.get(trial.run_id, ())
            if trial.outcome is not TrialOutcome.PRUNED or report.epoch <= trial.epoch
        ]
        if not points:
            continue
        completed = trial.outcome is TrialOutcome.COMPLETE
        is_best = completed and trial.values[0] == best
        colour = COLOURS[1] if is_best else COLOURS[0] if completed else "0.7"
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6 if is_best else 0.8, zorder=1 + is_best)
        if not completed:
            axes.plot(*points[-1], "x", color="0.5", markersize=4)
    axes.set_xlabel("epoch (grey lines: where trials are compared; ×: pruned, failed or still open; red: the best)")
    axes.set_ylabel(f"validation {plan.metric} %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _importance(importances: Sequence[Importance]) -> Figure | None:
    """Draw the importance of each parameter with its interval, and what chance gives."""
    if not importances:
        return None
    figure, axes = _new_figure(7, 1.2 + 0.3 * len(importances))
    for place, importance in enumerate(importances):
        colour = COLOURS[0] if importance.told_from_noise else "0.75"
        axes.barh(place, 100 * importance.fanova, 0.6, color=colour)
        if importance.interval is not None:
            axes.plot([100 * end for end in importance.interval], [place, place], color="0.2", linewidth=1)
        if importance.chance is not None:
            axes.plot([100 * importance.chance] * 2, [place - 0.4, place + 0.4], color=COLOURS[1], linewidth=1.4)
    axes.set_yticks(range(len(importances)), [f"{i.parameter} (n = {i.trials})" for i in importances])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(
        "share of the variance % by itself (fANOVA), with its 95 % interval\n"
        "orange: what chance gives in one of twenty searches; grey bars are not told from noise"
    )
    return figure


def _effects(plan: SearchPlan, trials: Sequence[TrialRecord], names: Sequence[str]) -> Figure | None:
    """Draw the metric over each parameter by itself, a panel each."""
    if not names:
        return None
    rows = -(-len(names) // _SLICES_A_ROW)
    figure = Figure(figsize=(2.4 * min(len(names), _SLICES_A_ROW), 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, min(len(names), _SLICES_A_ROW), sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        axis = ParameterAxis(name, trials)
        _scatter(axes, [trial for trial in trials if name in trial.params], axis.position, size=12, alpha=0.8)
        axis.set_ticks(axes)
        axes.set_title(name, fontsize=7)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    figure.supylabel(f"validation {plan.metric} %")
    return figure


def _interaction(trials: Sequence[TrialRecord], names: Sequence[str], label: str) -> Figure | None:
    """Draw the most important pair of parameters that enough trials have in common, coloured by the metric."""
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    having = {pair: [t for t in trials if set(pair) <= t.params.keys()] for pair in pairs}
    pair = next((pair for pair in pairs if len(having[pair]) >= LEAST_TRIALS), None)
    if pair is None:
        return None
    figure, axes = _new_figure(5, 3.8)
    shown = having[pair]
    first, second = ParameterAxis(pair[0], shown), ParameterAxis(pair[1], shown)
    x, y = [first.position(t) for t in shown], [second.position(t) for t in shown]
    points = axes.scatter(x, y, c=[100 * t.values[0] for t in shown], s=40, cmap="viridis", edgecolors="white")
    figure.colorbar(points, label=label)
    first.set_ticks(axes)
    second.set_ticks(axes, vertical=True)
    axes.set_xlabel(pair[0])
    axes.set_ylabel(pair[1])
    return figure


def _parallel(plan: SearchPlan, trials: Sequence[TrialRecord], names: Sequence[str]) -> Figure | None:
    """Draw parallel coordinates: each completed trial is a line through the parameters that all of them have."""
    completed = sorted((t for t in trials if t.outcome is TrialOutcome.COMPLETE), key=lambda t: t.values[0])
    shared = [name for name in names if all(name in t.params for t in completed)][:_MOST_COORDINATES]
    if len(completed) < 2 or len(shared) < 2:
        return None
    coordinates = [ParameterAxis(name, completed) for name in shared]
    low, high = completed[0].values[0], completed[-1].values[0]
    figure, axes = _new_figure(1.2 + 1.3 * len(shared), 3.4)
    colours = mpl.colormaps["viridis"]
    for trial in completed:
        share = (trial.values[0] - low) / ((high - low) or 1)
        line = [*(axis.share(trial) for axis in coordinates), share]
        axes.plot(range(len(line)), line, color=colours(share), linewidth=1.2)
    axes.set_xticks(range(len(shared) + 1), [*shared, f"{plan.metric} %"], rotation=20, ha="right", fontsize=7)
    for place, axis in enumerate(coordinates):
        for share, text in axis.labels():
            at, offset = (place, share), (-3, 0)
            axes.annotate(text, at, offset, textcoords="offset points", fontsize=6, ha="right", va="center")
    for share, value in ((0, low), (1, high)):
        axes.annotate(f"{100 * value:.1f}", (len(shared), share), (4, -2), textcoords="offset points", fontsize=7)
    axes.set_yticks([])
    return figure


def _pareto(plan: SearchPlan, trials: Sequence[TrialRecord]) -> Figure | None:
    """Draw the metric over each cost, with the Pareto front of the two."""
    if not plan.costs:
        return None
    figure = Figure(figsize=(5 * len(plan.costs), 3.6), layout="constrained")
    panels = figure.subplots(1, len(plan.costs), sharey=True, squeeze=False)[0]
    for place, (cost, axes) in enumerate(zip(plan.costs, panels, strict=True), start=1):
        axes.scatter([t.values[place] for t in trials], [100 * t.values[0] for t in trials], s=18, color="0.65")
        best, front = -math.inf, []
        for trial in sorted(trials, key=lambda t: (t.values[place], -t.values[0])):
            if trial.values[0] > best:
                best = trial.values[0]
                front.append((trial.values[place], 100 * best))
        axes.step(*zip(*front, strict=True), where="post", color=COLOURS[1], marker="o", label="Pareto front")
        axes.set_xlabel(COST_LABELS[cost])
    panels[0].set_ylabel(f"validation {plan.metric} %")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _scatter(
    axes: Axes,
    trials: Sequence[TrialRecord],
    x: Callable[[TrialRecord], float],
    size: float,
    alpha: float | None = None,
) -> None:
    """Draw the metric of completed and pruned trials in percent over ``x``."""
    for outcome, (colour, marker, label) in _MARKERS.items():
        chosen = [trial for trial in trials if trial.outcome is outcome]
        values = [100 * trial.values[0] for trial in chosen]
        axes.scatter([x(t) for t in chosen], values, s=size, color=colour, marker=marker, label=label, alpha=alpha)


def _new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
