"""Figure of class confusions: which pairs of classes one arm tells apart and another confuses."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from coablate_platform.results.figure_style import COLOURS, MARKERS, short_name
from coablate_platform.results.table import Table
from coablate_platform.train.events import Predictions

MOST_PAIRS = 12
"""How many pairs of classes are shown."""


def confusion_figure(table: Table, predictions: dict[str, list[Predictions]]) -> Figure | None:
    """Draw the pairs of classes in whose confusion the arms differ most; None where no arm confuses any.

    A pair's confusion is the share of the test clips of its two classes that are predicted as the other one, as the
    mean over an arm's seeds.

    Args:
        table: the study's table.
        predictions: arm -> the predictions of its completed runs; arms without any are left out.
    """
    shares = {row.arm: confusion_shares(predictions[row.arm]) for row in table.rows if predictions.get(row.arm)}
    pairs = most_varied_pairs(list(shares.values()))
    if not pairs:
        return None
    figure = Figure(figsize=(8, 1.3 + 0.34 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    for place, (arm, share) in enumerate(shares.items()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place // len(COLOURS) % len(MARKERS)]
        offset = 0.5 * ((place + 0.5) / len(shares) - 0.5)  # arms of the same share stay visible
        points = [100 * share[first, second] for first, second in pairs]
        axes.plot(points, [row + offset for row in range(len(pairs))], marker, color=colour, label=short_name(arm))
    names = table.plan.class_names
    axes.set_yticks(
        range(len(pairs)), [" / ".join(short_name(_name(names, label)) for label in pair) for pair in pairs]
    )
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlim(left=-1)
    axes.grid(axis="y", color="0.9")
    axes.set_xlabel("test clips of both classes that are taken for the other one, %, mean over seeds")
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right center")
    return figure


def confusion_shares(predictions: Sequence[Predictions]) -> NDArray[np.float64]:
    """Return the confusion of each pair of classes, (K, K), symmetric, as the mean over runs; 0 on the diagonal."""
    classes = predictions[0].scores.shape[1]
    total = np.zeros((classes, classes))
    for run in predictions:
        counts = np.zeros((classes, classes))
        np.add.at(counts, (run.labels, run.scores.argmax(1)), 1)
        clips = counts.sum(1)
        either = clips[:, None] + clips[None, :]
        total += (counts + counts.T) / np.maximum(either, 1)
    np.fill_diagonal(total, 0)
    return total / len(predictions)


def most_varied_pairs(shares: Sequence[NDArray[np.float64]]) -> list[tuple[int, int]]:
    """Return the pairs of classes in which the arms differ most, the most varied first.

    Pairs that every arm confuses equally come last, the most confused first; pairs that none confuses are left out.

    Args:
        shares: (K, K) of each arm, from :func:`confusion_shares`.
    """
    if not shares or len({share.shape for share in shares}) > 1:
        return []
    every = np.stack(shares)
    spread, most = every.max(0) - every.min(0), every.max(0)
    first, second = np.triu_indices(every.shape[1], 1)
    found = [(float(spread[a, b]), float(most[a, b]), int(a), int(b)) for a, b in zip(first, second, strict=True)]
    confused = sorted((pair for pair in found if pair[1] > 0), key=lambda pair: (-pair[0], -pair[1], *pair[2:]))
    return [(a, b) for _, _, a, b in confused[:MOST_PAIRS]]


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else f"class {label}"
