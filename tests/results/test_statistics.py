"""Statistics, checked against values computed by hand and against scipy's own tests."""

import itertools

import numpy as np
import pytest
from scipy import stats

from coablate_platform.results.statistics import holm, paired_difference, rank_correlation, summarise


def test_mean_and_sample_deviation() -> None:
    summary = summarise([0.8, 0.9, 0.7])
    assert (summary.n, summary.mean, summary.sd) == (3, pytest.approx(0.8), pytest.approx(0.1))
    assert summarise([0.8]).sd is None
    assert (summarise([]).n, summarise([]).mean, summarise([]).sd) == (0, None, None)


def test_a_paired_difference_by_hand() -> None:
    """Differences 2, 4, 6: mean 4, sd 2, error 2/√3, t(.975, 2) = 4.302653."""
    paired = paired_difference({0: 12.0, 1: 24.0, 2: 36.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert (paired.n, paired.effect) == (3, 4.0)
    assert paired.low == pytest.approx(4 - 4.302653 * 2 / np.sqrt(3), abs=1e-5)
    assert paired.high == pytest.approx(4 + 4.302653 * 2 / np.sqrt(3), abs=1e-5)


def test_a_paired_difference_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(0.8, 0.02, 7), generator.normal(0.78, 0.02, 7)
    paired = paired_difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(0.95)
    assert paired.p == pytest.approx(test.pvalue)
    assert (paired.low, paired.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_only_common_seeds_are_compared() -> None:
    paired = paired_difference({0: 0.5, 1: 0.6, 7: 0.99}, {0: 0.4, 1: 0.4, 2: 0.01})
    assert (paired.n, paired.effect) == (2, pytest.approx(0.15))


def test_too_few_seeds_give_no_interval() -> None:
    one = paired_difference({0: 0.5}, {0: 0.4})
    assert (one.n, one.effect, one.low, one.high, one.p) == (1, pytest.approx(0.1), None, None, None)
    none = paired_difference({0: 0.5}, {1: 0.4})
    assert (none.n, none.effect, none.low) == (0, None, None)


@pytest.mark.parametrize("clips", [4, 288, 430])
def test_equal_differences_give_no_interval(clips: int) -> None:
    """Both seeds classify the same number of clips more correctly; the differences of the shares vary by rounding."""
    for first, second, more in itertools.product(range(0, clips, 7), range(0, clips, 11), (0, 1, 3)):
        reference = {0: first / clips, 1: second / clips}
        paired = paired_difference({0: (first + more) / clips, 1: (second + more) / clips}, reference)
        assert (paired.effect, paired.low, paired.high, paired.p) == (pytest.approx(more / clips), None, None, None)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_rank_correlation_by_hand() -> None:
    """ρ = 1 − 6 Σd² / (n (n² − 1)) without ties."""
    assert rank_correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(1 - 6 * 2 / 60)
    assert rank_correlation([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlation([1, 2, 3], [1, 1, 1]) is None


def test_rank_correlation_with_ties_by_hand() -> None:
    """Ranks 1, 2.5, 2.5 and 1.5, 1.5, 3: Pearson's r is 0.75 / 1.5."""
    assert rank_correlation([0, 1, 1], [4, 4, 5]) == pytest.approx(0.5)
