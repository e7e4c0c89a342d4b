"""Statistics of a few seeds: mean and spread, the paired difference from a reference, adjusted p-values."""

import math
import statistics as standard
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""Differences whose standard deviation is below this share of the values are taken as equal: it comes from rounding."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The mean of n values, None for n = 0, and their sample standard deviation (n − 1), None for n < 2."""

    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The paired difference of an arm from the reference, over the seeds that both have completed.

    Args:
        n: number of common seeds.
        effect: mean of the differences, arm minus reference; None if n is 0.
        low: lower end of the 95 % confidence interval, by Student's t with n − 1 degrees of freedom. None if n < 2, and
            if all differences are equal: a few equal differences do not tell their spread.
        high: upper end; None likewise.
        p: two-sided p-value of the paired t-test; None likewise.
    """

    n: int
    effect: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def summarise(values: Sequence[float]) -> Summary:
    """Return the mean and the sample standard deviation of some values."""
    n = len(values)
    return Summary(
        n=n,
        mean=standard.fmean(values) if n else None,
        sd=standard.stdev(values) if n > 1 else None,
    )


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference:
    """Compare an arm with the reference, seed by seed.

    Args:
        values: seed -> value of the arm.
        reference: seed -> value of the reference. Seeds that only one of the two has are left out.

    Returns:
        The mean difference with its 95 % confidence interval and the p-value of the paired t-test.
    """
    pairs = [(values[seed], reference[seed]) for seed in sorted(values.keys() & reference.keys())]
    differences = summarise([value - baseline for value, baseline in pairs])
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
    """Return Spearman's ρ, from −1 to 1, of two sequences whose values belong together in pairs.

    None for fewer than three pairs, and if one sequence does not vary.
    """
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(stats.spearmanr(first, second).statistic)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the Holm-adjusted p-values of one family of comparisons.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979 (step-down).
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted
