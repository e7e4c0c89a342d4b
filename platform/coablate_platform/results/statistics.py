"""What may be said of a few numbers: mean and spread, and the paired difference from a reference."""

import math
import statistics as standard
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""Spread of differences, as a share of the values, that is arithmetic's: equal counts of hits differ by less."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean and sample standard deviation (n − 1) of n values; None where n is too small for it."""

    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Mean of the differences over the n seeds that both arms completed.

    Args:
        n: common seeds.
        effect: mean difference, arm minus reference; None where n is 0.
        low: lower end of the 95 % interval of Student's t with n − 1 degrees of freedom; None where n < 2, and where
            the differences do not vary: a few equal ones tell no spread.
        high: upper end.
        p: two-sided p-value of the paired t-test; None likewise.
    """

    n: int
    effect: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def summarise(values: Sequence[float]) -> Summary:
    """Return mean and sample standard deviation."""
    n = len(values)
    return Summary(
        n=n,
        mean=standard.fmean(values) if n else None,
        sd=standard.stdev(values) if n > 1 else None,
    )


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference:
    """Compare two arms seed by seed.

    Args:
        values: seed -> value of the arm.
        reference: seed -> value of the reference; seeds that only one of them has are left out.

    Returns:
        The mean difference with its 95 % interval.
    """
    pairs = [(values[seed], reference[seed]) for seed in sorted(values.keys() & reference.keys())]
    differences = summarise([own - other for own, other in pairs])
    n, effect, sd = differences.n, differences.mean, differences.sd
    if effect is None or sd is None:
        return PairedDifference(n=n, effect=effect)
    if sd <= ROUNDING * max(abs(value) for pair in pairs for value in pair):
        return PairedDifference(n=n, effect=effect)
    error = sd / math.sqrt(n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(effect) / error, n - 1))
    return PairedDifference(n=n, effect=effect, low=effect - half, high=effect + half, p=p)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's ρ of pairs, from −1 to 1; None for fewer than three, or where one side does not vary."""
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(stats.spearmanr(first, second).statistic)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values of one family of comparisons (Holm 1979, step-down)."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted
