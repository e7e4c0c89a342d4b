"""The figure of a search over fusion sites: a heat map over the stages of the two streams."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coablate_platform.journal.trials import TrialRecord
from coablate_platform.study.plan import SearchPlan


def placement_figure(plan: SearchPlan, panels: Mapping[str, Sequence[TrialRecord]]) -> Figure | None:
    """Draw the mean metric of the trials that have a site at each pair of stages.

    Args:
        plan: the search's plan; its first placement is shown.
        panels: label -> trials whose values can be compared; a heat map for each that is not empty.

    Returns:
        The figure; None if the search has no placement, or no panel has a trial.
    """
    field = next(iter(plan.placements), None)
    panels = {label: trials for label, trials in panels.items() if trials}
    if field is None or not panels:
        return None
    (x_stream, x_stages), (y_stream, y_stages) = plan.placements[field].items()
    size = (1.5 + 0.75 * len(x_stages), (1.4 + 0.6 * len(y_stages)) * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (label, trials) in zip(rows, panels.items(), strict=True):
        values: dict[tuple[int, int], list[float]] = {}
        for trial in trials:
            for site in trial.changes.get(field, []):
                if site[y_stream] in y_stages and site[x_stream] in x_stages:  # the space may have had more stages
                    cell = (y_stages.index(site[y_stream]), x_stages.index(site[x_stream]))
                    values.setdefault(cell, []).append(100 * trial.values[0])
        _heat_map(axes, (len(y_stages), len(x_stages)), values, f"mean {label}")
        axes.set_xticks(range(len(x_stages)), x_stages, rotation=30, ha="right")
        axes.set_yticks(range(len(y_stages)), y_stages)
        axes.set_ylabel(f"← {y_stream} stream")
        without = [100 * trial.values[0] for trial in trials if not trial.changes.get(field, [])]
        axes.set_title(f"without a site: {np.mean(without):.1f} % (n = {len(without)})" if without else "", fontsize=8)
    rows[-1].set_xlabel(f"{x_stream} stream →")
    return figure


def _heat_map(
    axes: Axes, shape: tuple[int, int], values: Mapping[tuple[int, int], Sequence[float]], label: str
) -> None:
    """Colour each cell (row, column) by the mean of its values, and write the mean and their number in it."""
    means = np.full(shape, np.nan)
    box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}
    for (row, column), of_cell in values.items():
        means[row, column] = np.mean(of_cell)
        text = f"{means[row, column]:.1f}\nn = {len(of_cell)}"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, bbox=box)
    image = axes.imshow(means, cmap="viridis", aspect="auto")
    axes.figure.colorbar(image, ax=axes, label=label)
