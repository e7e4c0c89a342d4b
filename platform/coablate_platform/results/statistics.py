"""Statistics of a few seeds: means, and contrasts of arms with intervals, adjusted p-values and verdicts.

A contrast is a weighted sum of arms whose weights add up to 0, such as an arm minus the reference. The contrasts of a
family borrow spread from each other: with three seeds, the differences of one contrast say little about how much
retraining changes them, but those of the whole family say more. A contrast never borrows calm: its spread is at least
its own.
"""

import math
import statistics as standard
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from scipy import special, stats

CONFIDENCE = 0.95
ALPHA = 0.05
LEAST_SEEDS = 3
"""With fewer seeds there is no interval, no p-value and no verdict: two differences do not tell their spread."""
POWER = 0.8
MOST_SEEDS = 999
"""More seeds than this are not named as what would decide."""
_MOST_BORROWED = 2.0  # degrees of freedom that a contrast borrows from its family
_ROUNDING = 1e-20  # variances below it come from rounding

Weights = Mapping[str, float]
"""Arm -> weight in a contrast."""
Values = Mapping[str, Mapping[int, float]]
"""Arm -> seed -> metric of its completed run."""


class Verdict(StrEnum):
    """What a contrast's interval says."""

    HELPS = "helps"
    HURTS = "hurts"
    EQUAL = "equal"
    UNDECIDED = "undecided"
    TOO_FEW = "too few seeds"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The mean of n values, None for n = 0, and their sample standard deviation (n − 1), None for n < 2."""

    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A contrast as estimated from the seeds that all its arms have completed. Shares are fractions of 1.

    Args:
        differences: seed -> the contrast.
        effect: their mean; None without a common seed.
        low: lower end of the 95 % confidence interval. None with fewer than :data:`LEAST_SEEDS` seeds, and where
            neither the seeds nor the number of test clips tell a spread.
        high: upper end; None likewise.
        cut: whether an end of the interval was cut at what is possible.
        p: two-sided p-value; None likewise.
        p_holm: p-value, Holm-adjusted over the family.
        verdict: what is known.
        margin: the margin within which a difference counts as equal; None: none was declared.
        within_margin: whether the 90 % interval lies inside the margin (two one-sided tests).
        spread: standard deviation of the contrast from seed to seed, with what is borrowed; None for n < 2.
        borrowed: degrees of freedom that were borrowed.
        family: number of contrasts in the family.
    """

    differences: Mapping[int, float]
    effect: float | None
    low: float | None = None
    high: float | None = None
    cut: bool = False
    p: float | None = None
    p_holm: float | None = None
    verdict: Verdict = Verdict.TOO_FEW
    margin: float | None = None
    within_margin: bool = False
    spread: float | None = None
    borrowed: float = 0.0
    family: int = 1

    @property
    def n(self) -> int:
        """Number of seeds that all arms of the contrast have completed."""
        return len(self.differences)

    @property
    def wins(self) -> float:
        """In how many seeds the contrast is above 0; one that is 0 counts half."""
        return sum(float(difference > 0) + (difference == 0) / 2 for difference in self.differences.values())

    def seeds_needed(self, difference: float) -> int | None:
        """Return how many seeds would tell a difference from 0 with a power of 80 %, if the spread stays.

        None where no spread is known, and where more than :data:`MOST_SEEDS` would be needed. By the sum of the two
        quantiles of Student's t, with Bonferroni's level for the family.
        """
        if self.spread is None or difference == 0:
            return None
        enough = (n for n in range(LEAST_SEEDS, MOST_SEEDS + 1) if self._visible(n) <= abs(difference))
        return next(enough, None)

    def _visible(self, n: int) -> float:
        """Return the smallest difference that n seeds tell from 0 with a power of 80 %."""
        assert self.spread is not None
        freedom = n - 1 + self.borrowed
        quantiles = _quantile(1 - ALPHA / 2 / self.family, freedom) + _quantile(POWER, freedom)
        return quantiles * self.spread / math.sqrt(n)


def summarise(values: Sequence[float]) -> Summary:
    """Return the mean and the sample standard deviation of some values."""
    n = len(values)
    return Summary(
        n=n,
        mean=standard.fmean(values) if n else None,
        sd=standard.stdev(values) if n > 1 else None,
    )


def estimate_family(
    family: Mapping[str, Weights], values: Values, *, clips: int | None, margin: float | None = None
) -> dict[str, Estimate]:
    """Estimate the contrasts of a family, which share one Holm adjustment and borrow spread from each other.

    With d_cs the contrast c in seed s, n_c its seeds, and q_c the sum of its squared weights:

    - v_c is the variance of d_cs, and f_c half of the binomial variance that the test clips give it, the least that
      retraining shows on a finite test set. u_c = max(v_c, f_c) / q_c, and ū is the mean over the family.
    - d₀ = min(2, 2(m − 1)/3) degrees of freedom are borrowed in a family of m contrasts.
    - s² = q_c · max(u_c, (d₀ ū + (n_c − 1) u_c) / (d₀ + n_c − 1)), with n_c − 1 + d₀ degrees of freedom.

    Args:
        family: name -> weights of each contrast, all that were declared: those without a p-value count in the
            adjustment as well.
        values: the metric of each arm by seed.
        clips: number of test clips N, where the metric is a share of them; None for another metric.
        margin: half the width of the interval in which a difference counts as equal; None: none is declared.

    Returns:
        Name -> estimate, in the order of ``family``.
    """
    contrasts = {name: _Contrast(weights, values, clips) for name, weights in family.items()}
    units = [contrast.unit for contrast in contrasts.values() if contrast.unit is not None]
    mean_unit = standard.fmean(units) if units else 0.0
    borrowed = min(_MOST_BORROWED, 2 * (len(family) - 1) / 3)
    tests = {name: contrast.test(mean_unit, borrowed) for name, contrast in contrasts.items()}
    p_values = {name: test.p for name, test in tests.items() if test and contrasts[name].n >= LEAST_SEEDS}
    adjusted = holm({name: p_values.get(name, 1.0) for name in family})
    return {
        name: contrasts[name].conclude(test, adjusted[name], margin, borrowed, len(family))
        for name, test in tests.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Test:
    """Student's t of a contrast: mean, standard error, degrees of freedom and two-sided p."""

    effect: float
    spread: float
    error: float
    freedom: float
    p: float

    def half_width(self, confidence: float) -> float:
        return _quantile((1 + confidence) / 2, self.freedom) * self.error


class _Contrast:
    """A contrast's differences and their variance per unit of squared weights; see :func:`estimate_family`."""

    def __init__(self, weights: Weights, values: Values, clips: int | None) -> None:
        arms = [arm for arm, weight in weights.items() if weight]
        seeds = sorted(set.intersection(*(set(values[arm]) for arm in arms))) if arms else []
        self.differences = {seed: sum(weights[arm] * values[arm][seed] for arm in arms) for seed in seeds}
        self.n = len(seeds)
        self.squares = sum(weights[arm] ** 2 for arm in arms)
        subtracted = [sum(-weights[arm] * values[arm][seed] for arm in arms if weights[arm] < 0) for seed in seeds]
        added = sum(weights[arm] for arm in arms if weights[arm] > 0)
        self.least, self.most = (-max(subtracted), added - min(subtracted)) if seeds else (0.0, 0.0)
        self.unit: float | None = None
        if len(seeds) > 1:
            variance = standard.variance(list(self.differences.values()))
            floor = 0.0
            if clips:
                shares = {arm: standard.fmean(values[arm][seed] for seed in seeds) for arm in arms}
                floor = sum(weights[arm] ** 2 * share_variance(shares[arm], clips) for arm in arms)
            self.unit = max(variance, floor) / self.squares

    def test(self, mean_unit: float, borrowed: float) -> _Test | None:
        """Test the contrast against 0; None where its spread is not known."""
        if self.unit is None:
            return None
        freedom = self.n - 1 + borrowed
        pooled = (borrowed * mean_unit + (self.n - 1) * self.unit) / freedom
        variance = self.squares * max(self.unit, pooled)
        if variance < _ROUNDING:
            return None
        effect, spread = standard.fmean(self.differences.values()), math.sqrt(variance)
        error = spread / math.sqrt(self.n)
        p = 2 * float(special.stdtr(freedom, -abs(effect) / error))
        return _Test(effect=effect, spread=spread, error=error, freedom=freedom, p=p)

    def conclude(
        self, test: _Test | None, p_holm: float, margin: float | None, borrowed: float, family: int
    ) -> Estimate:
        """Return the estimate; without a test, or with too few seeds, only the differences and their spread."""
        effect = standard.fmean(self.differences.values()) if self.differences else None
        estimate = Estimate(
            differences=self.differences, effect=effect, margin=margin, borrowed=borrowed, family=family
        )
        if test is not None:
            estimate = replace(estimate, spread=test.spread)
        if self.n < LEAST_SEEDS:
            return estimate
        if test is None:
            return replace(estimate, verdict=Verdict.UNDECIDED)
        low, high = (test.effect + sign * test.half_width(CONFIDENCE) for sign in (-1, 1))
        reach = abs(test.effect) + test.half_width(1 - 2 * ALPHA)
        within = margin is not None and reach < margin
        if p_holm < ALPHA:
            verdict = Verdict.HELPS if test.effect > 0 else Verdict.HURTS
        else:
            verdict = Verdict.EQUAL if within else Verdict.UNDECIDED
        return replace(
            estimate,
            low=max(low, self.least),
            high=min(high, self.most),
            cut=low < self.least or high > self.most,
            p=test.p,
            p_holm=p_holm,
            verdict=verdict,
            within_margin=within,
        )


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


def share_variance(share: float, clips: int) -> float:
    """Return half the binomial variance of a share of clips: the least that retraining shows on a finite test set.

    The share is drawn towards one half (one clip right and one wrong are added), so that it is above 0 at 0 and 100 %.
    """
    drawn = (clips * share + 1) / (clips + 2)
    return drawn * (1 - drawn) / clips / 2


def _quantile(share: float, freedom: float) -> float:
    """Return a quantile of Student's t."""
    return float(special.stdtrit(freedom, share))
