"""A search's figures: its history, its learning curves with their rungs, what each parameter does, where fusion stands.

PNG to look at, SVG for papers and for the report; drawn without a display.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution, json_to_distribution

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.results.figures import COLOURS, FORMATS, STYLE, written
from coablate_platform.results.importance import LEAST_TRIALS, Importance, scores_of
from coablate_platform.results.ranking import common_epoch
from coablate_platform.study.plan import SearchPlan
from coablate_platform.study.search import COST_LABELS
from coablate_platform.train.events import EpochReport

_LOOKS: dict[TrialOutcome, Any] = {
    TrialOutcome.COMPLETE: {"color": COLOURS[0], "marker": "o", "label": "completed"},
    TrialOutcome.PRUNED: {"color": "0.65", "marker": "x", "label": "given up"},
}
_SLICES_A_ROW = 4
_MOST_SLICES = 16
Reports = Mapping[str, Sequence[EpochReport]]


def search_figures_of(
    plan: SearchPlan, trials: Sequence[TrialRecord], reports: Reports, importance: Sequence[Importance]
) -> dict[str, bytes]:
    """Return file name -> content of every figure that has something to show, in every format.

    Args:
        plan: the search's.
        trials: all of them.
        reports: run id -> what it reported.
        importance: of the parameters, most important first; decides their order.
    """
    judged = [trial for trial in trials if trial.values]
    epoch = common_epoch(trials)
    early, label = _early(plan, trials, reports, epoch), f"validation {plan.metric} % after epoch {epoch}"
    panels = {label: early}
    if epoch < plan.epochs:
        ended = [trial for trial in judged if trial.outcome is TrialOutcome.COMPLETE]
        panels[f"validation {plan.metric} % of completed trials"] = ended
    if not judged:
        return {}
    order = [found.parameter for found in importance]
    names = sorted(_names(judged), key=lambda name: order.index(name) if name in order else len(order))
    makers: dict[str, Callable[[], Figure | None]] = {
        "history": lambda: _history(plan, judged),
        "curves": lambda: _curves(plan, trials, reports),
        "importance": lambda: _importance(importance),
        "effects": lambda: _effects(plan, judged, names[:_MOST_SLICES]),
        "interaction": lambda: _interaction(early, names, label),
        "parallel": lambda: _parallel(plan, judged, names),
        "pareto": lambda: _pareto(plan, judged),
        "placement": lambda: _placement(plan, panels),
    }
    files: dict[str, bytes] = {}
    with mpl.rc_context(STYLE):
        for name, make in makers.items():
            if (figure := make()) is not None:
                files |= {f"{name}.{format}": written(figure, format) for format in FORMATS}  # noqa: A001
    return files


def _early(plan: SearchPlan, trials: Sequence[TrialRecord], reports: Reports, epoch: int) -> list[TrialRecord]:
    """Return the trials with the value they had after an epoch that all of them reached."""
    scores = scores_of(trials, reports, f"validation/{plan.metric}", epoch)
    return [replace(trial, values=(scores[trial.number],)) for trial in trials if trial.number in scores]


def _history(plan: SearchPlan, trials: Sequence[TrialRecord]) -> Figure:
    figure, axes = _plain(7, 3)
    for outcome, look in _LOOKS.items():
        own = [trial for trial in trials if trial.outcome is outcome]
        axes.scatter([t.number for t in own], [100 * t.values[0] for t in own], s=18, **look)
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
    figure, axes = _plain(7, 3.4)
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
        kept = trial.outcome is TrialOutcome.COMPLETE
        is_best = kept and trial.values[0] == best
        colour = COLOURS[1] if is_best else COLOURS[0] if kept else "0.7"
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6 if is_best else 0.8, zorder=1 + is_best)
        if not kept:
            axes.plot(*points[-1], "x", color="0.5", markersize=4)
    axes.set_xlabel("epoch (grey lines: where trials are compared; ×: given up or failed; red: the best)")
    axes.set_ylabel(f"validation {plan.metric} %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def rung_epochs(plan: SearchPlan) -> list[int]:
    """Return the epochs at which successive halving decides, or a population is renewed; none with other rules."""
    if plan.stopping.rule == "pbt":
        return list(range(plan.stopping.grace, plan.epochs, plan.stopping.grace))
    if plan.stopping.rule not in ("asha", "hyperband"):
        return []
    epoch, found = plan.stopping.grace, []
    while epoch <= plan.epochs:
        found.append(epoch)
        epoch *= plan.stopping.reduction
    return found


def _importance(importance: Sequence[Importance]) -> Figure | None:
    if not importance:
        return None
    figure, axes = _plain(7, 1 + 0.3 * len(importance))
    places = np.arange(len(importance))
    axes.barh(places - 0.19, [100 * i.fanova for i in importance], 0.36, color=COLOURS[0], label="fANOVA")
    axes.barh(places + 0.19, [100 * i.ped_anova for i in importance], 0.36, color=COLOURS[4], label="PED-ANOVA")
    axes.set_yticks(places, [f"{i.parameter} (n = {i.trials})" for i in importance])
    axes.invert_yaxis()
    axes.set_xlabel("importance %")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _effects(plan: SearchPlan, trials: Sequence[TrialRecord], names: Sequence[str]) -> Figure | None:
    """The value against each parameter alone."""
    if not names:
        return None
    rows = -(-len(names) // _SLICES_A_ROW)
    figure = Figure(figsize=(2.4 * min(len(names), _SLICES_A_ROW), 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, min(len(names), _SLICES_A_ROW), sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        axis = _Axis(name, trials)
        for outcome, look in _LOOKS.items():
            own = [trial for trial in trials if trial.outcome is outcome and name in trial.params]
            axes.scatter([axis.place(t) for t in own], [100 * t.values[0] for t in own], s=12, alpha=0.8, **look)
        axis.mark(axes)
        axes.set_title(name, fontsize=7)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    figure.supylabel(f"validation {plan.metric} %")
    return figure


def _interaction(trials: Sequence[TrialRecord], names: Sequence[str], label: str) -> Figure | None:
    """The two most important parameters that trials have together, coloured by the value."""
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    together = {pair: [t for t in trials if set(pair) <= t.params.keys()] for pair in pairs}
    pair = next((pair for pair in pairs if len(together[pair]) >= LEAST_TRIALS), None)
    if pair is None:
        return None
    figure, axes = _plain(5, 3.8)
    own = together[pair]
    first, second = _Axis(pair[0], own), _Axis(pair[1], own)
    x, y = [first.place(t) for t in own], [second.place(t) for t in own]
    shown = axes.scatter(x, y, c=[100 * t.values[0] for t in own], s=40, cmap="viridis", edgecolors="white")
    figure.colorbar(shown, label=label)
    first.mark(axes)
    second.mark(axes, vertical=True)
    axes.set_xlabel(pair[0])
    axes.set_ylabel(pair[1])
    return figure


def _parallel(plan: SearchPlan, trials: Sequence[TrialRecord], names: Sequence[str]) -> Figure | None:
    """Each completed trial a line through the parameters that all of them have, best on top."""
    ended = sorted((t for t in trials if t.outcome is TrialOutcome.COMPLETE), key=lambda t: t.values[0])
    shared = [name for name in names if all(name in t.params for t in ended)][:8]
    if len(ended) < 2 or len(shared) < 2:
        return None
    axes_of = [_Axis(name, ended) for name in shared]
    low, high = ended[0].values[0], ended[-1].values[0]
    figure, axes = _plain(1.2 + 1.3 * len(shared), 3.4)
    colours = mpl.colormaps["viridis"]
    for trial in ended:
        share = (trial.values[0] - low) / ((high - low) or 1)
        line = [*(axis.share(trial) for axis in axes_of), share]
        axes.plot(range(len(line)), line, color=colours(share), linewidth=1.2)
    axes.set_xticks(range(len(shared) + 1), [*shared, f"{plan.metric} %"], rotation=20, ha="right", fontsize=7)
    for place, axis in enumerate(axes_of):
        for share, text in axis.ends():
            axes.annotate(text, (place, share), fontsize=6, ha="right", va="center", xytext=(-3, 0), **_POINTS)
    for share, value in ((0, low), (1, high)):
        axes.annotate(f"{100 * value:.1f}", (len(shared), share), fontsize=7, xytext=(4, -2), **_POINTS)
    axes.set_yticks([])
    return figure


_POINTS: Any = {"textcoords": "offset points"}


def _pareto(plan: SearchPlan, trials: Sequence[TrialRecord]) -> Figure | None:
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
        axes.step(*zip(*front, strict=True), where="post", color=COLOURS[1], marker="o", label="front")
        axes.set_xlabel(COST_LABELS[cost])
    panels[0].set_ylabel(f"validation {plan.metric} %")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _placement(plan: SearchPlan, compared: Mapping[str, Sequence[TrialRecord]]) -> Figure | None:
    """For each pair of stages the mean value of the trials with a site there, over the diagram of the two streams.

    Args:
        plan: the search's.
        compared: label -> trials whose values can be compared; a panel each.
    """
    field = next(iter(plan.placements), None)
    panels = {label: trials for label, trials in compared.items() if trials}
    if field is None or not panels:
        return None
    (first, ahead), (second, behind) = plan.placements[field].items()
    size = (1.5 + 0.75 * len(ahead), (1.4 + 0.6 * len(behind)) * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (label, trials) in zip(rows, panels.items(), strict=True):
        values: dict[tuple[int, int], list[float]] = {}
        for trial in trials:
            for site in trial.changes.get(field, []):
                if site[second] in behind and site[first] in ahead:  # stages that the space has now
                    where = (behind.index(site[second]), ahead.index(site[first]))
                    values.setdefault(where, []).append(100 * trial.values[0])
        _heat(axes, (len(behind), len(ahead)), values, f"mean {label}")
        axes.set_xticks(range(len(ahead)), ahead, rotation=30, ha="right")
        axes.set_yticks(range(len(behind)), behind)
        axes.set_ylabel(f"← {second} stream")
        none = [100 * trial.values[0] for trial in trials if not trial.changes.get(field, [])]
        axes.set_title(f"without a site: {np.mean(none):.1f} % (n = {len(none)})" if none else "", fontsize=8)
    rows[-1].set_xlabel(f"{first} stream →")
    return figure


def _heat(axes: Axes, shape: tuple[int, int], values: Mapping[tuple[int, int], Sequence[float]], label: str) -> None:
    """Colour each (row, column) by the mean of its values, and write it there with how many there are."""
    means = np.full(shape, np.nan)
    for place, found in values.items():
        means[place] = np.mean(found)
        text = f"{means[place]:.1f}\nn = {len(found)}"
        axes.text(place[1], place[0], text, ha="center", va="center", fontsize=6, **_BOX)
    shown = axes.imshow(means, cmap="viridis", aspect="auto")
    axes.figure.colorbar(shown, ax=axes, label=label)


_BOX: Any = {"bbox": {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}}


class _Axis:
    """Places a parameter's values: numbers where they are (or their logarithms), choices in their order."""

    def __init__(self, name: str, trials: Sequence[TrialRecord]) -> None:
        self.name = name
        having = [trial for trial in trials if name in trial.params]
        drawn: Any = [json_to_distribution(trial.ranges[name]) for trial in having]
        self.choices: list[str] | None = None
        if any(isinstance(one, CategoricalDistribution) for one in drawn):
            kinds = [one for one in drawn if isinstance(one, CategoricalDistribution)]
            values = [choice for one in kinds for choice in one.choices] + [trial.params[name] for trial in having]
            self.choices = list(dict.fromkeys(map(str, values)))
        places = [self.place(trial) for trial in having]
        self.low, self.high = min(places), max(places)
        self.log = self.choices is None and all(one.log for one in drawn)

    def place(self, trial: TrialRecord) -> float:
        value = trial.params[self.name]
        return float(value) if self.choices is None else self.choices.index(str(value))  # type: ignore[arg-type]

    def share(self, trial: TrialRecord) -> float:
        """Where the value lies between the lowest and the highest."""
        scale = math.log if self.log else float
        return (scale(self.place(trial)) - scale(self.low)) / ((scale(self.high) - scale(self.low)) or 1)

    def ends(self) -> list[tuple[float, str]]:
        if self.choices is None:
            return [(0, f"{self.low:.3g}"), (1, f"{self.high:.3g}")]
        width = (self.high - self.low) or 1
        shown = self.choices[int(self.low) : int(self.high) + 1]
        return [(place / width, choice) for place, choice in enumerate(shown)]

    def mark(self, axes: Axes, vertical: bool = False) -> None:
        axis = axes.yaxis if vertical else axes.xaxis
        if self.choices is not None:
            axis.set_ticks(range(len(self.choices)), self.choices)
            (axes.set_ylim if vertical else axes.set_xlim)(-0.5, len(self.choices) - 0.5)
        elif self.log:
            (axes.set_yscale if vertical else axes.set_xscale)("log")


def _names(trials: Sequence[TrialRecord]) -> list[str]:
    """Return the parameters that trials differ in, in the order in which they are drawn."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({repr(t.params[name]) for t in trials if name in t.params}) > 1]


def _plain(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
