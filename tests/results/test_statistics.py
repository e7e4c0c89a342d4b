"""Statistics, checked against values computed by hand and against scipy's own tests."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from coablate_platform.results.statistics import Verdict, estimate_family, holm, rank_correlation, summarise


def test_mean_and_sample_deviation() -> None:
    summary = summarise([0.8, 0.9, 0.7])
    assert (summary.n, summary.mean, summary.sd) == (3, pytest.approx(0.8), pytest.approx(0.1))
    assert summarise([0.8]).sd is None
    assert (summarise([]).n, summarise([]).mean, summarise([]).sd) == (0, None, None)


def against(reference: str, *arms: str) -> dict[str, dict[str, float]]:
    """Return the family of differences of arms from a reference."""
    return {arm: {arm: 1.0, reference: -1.0} for arm in arms}


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_a_single_contrast_is_the_paired_t_test() -> None:
    """Differences 2, 4, 6: mean 4, sd 2, error 2/√3, t(.975, 2) = 4.302653."""
    values = {"a": by_seed(12.0, 24.0, 36.0), "base": by_seed(10.0, 20.0, 30.0)}
    estimate = estimate_family(against("base", "a"), values, clips=None)["a"]
    assert (estimate.n, estimate.effect, estimate.spread) == (3, 4.0, pytest.approx(2.0))
    test = stats.ttest_rel(list(values["a"].values()), list(values["base"].values()))
    assert estimate.p == estimate.p_holm == pytest.approx(test.pvalue)
    assert (estimate.low, estimate.cut) == (pytest.approx(4 - 4.302653 * 2 / np.sqrt(3), abs=1e-5), True)


def test_a_single_contrast_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(0.8, 0.02, 7), generator.normal(0.78, 0.02, 7)
    estimate = estimate_family(against("base", "a"), {"a": by_seed(*ours), "base": by_seed(*theirs)}, clips=None)["a"]
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(0.95)
    assert estimate.p == pytest.approx(test.pvalue)
    assert (estimate.low, estimate.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert estimate.wins == sum(ours > theirs)


def test_spread_is_borrowed_by_hand() -> None:
    """Two contrasts with variances 1e-4 and 9e-4 in three seeds: q = 2, ū = 2.5e-4, d₀ = 2/3.

    The calm one has (d₀ ū + 2 · 0.5e-4) / (d₀ + 2), times q; the noisy one keeps its own.
    """
    values = {"base": by_seed(0.5, 0.5, 0.5), "calm": by_seed(0.51, 0.52, 0.53), "noisy": by_seed(0.51, 0.54, 0.57)}
    found = estimate_family(against("base", "calm", "noisy"), values, clips=None)
    calm, noisy = found["calm"], found["noisy"]
    assert calm.spread == pytest.approx(np.sqrt(2 * (2 / 3 * 2.5e-4 + 2 * 0.5e-4) / (2 / 3 + 2)))
    assert noisy.spread == pytest.approx(0.03)
    half = stats.t.ppf(0.975, 2 + 2 / 3) * noisy.spread / np.sqrt(3)
    assert (noisy.low, noisy.high) == (pytest.approx(0.04 - half), pytest.approx(0.04 + half))
    assert calm.p_holm == pytest.approx(2 * stats.t.sf(0.02 / (calm.spread / np.sqrt(3)), 2 + 2 / 3) * 2)


def test_the_test_clips_give_the_least_spread_by_hand() -> None:
    """Equal differences have half the binomial variance of 100 clips: (p(1 − p) of both) / 100 / 2."""
    values = {"base": by_seed(0.8, 0.81, 0.82), "a": by_seed(0.85, 0.86, 0.87)}
    estimate = estimate_family(against("base", "a"), values, clips=100)["a"]
    shares = [(100 * share + 1) / 102 for share in (0.81, 0.86)]
    floor = sum(share * (1 - share) for share in shares) / 100 / 2
    assert (estimate.effect, estimate.spread) == (pytest.approx(0.05), pytest.approx(np.sqrt(floor)))
    assert estimate.p is not None


def test_all_right_in_every_seed_still_has_an_interval() -> None:
    """Both shares count as 289/290: the spread is 0.003454, and t(.975, 2) = 4.3027."""
    values = {"base": by_seed(1.0, 1.0, 1.0), "a": by_seed(1.0, 1.0, 1.0)}
    estimate = estimate_family(against("base", "a"), values, clips=288)["a"]
    assert (estimate.effect, estimate.p_holm, estimate.verdict) == (0, 1, Verdict.UNDECIDED)
    assert (estimate.low, estimate.high) == (pytest.approx(-4.3027 * 0.003454 / np.sqrt(3), rel=1e-3), 0.0)
    assert estimate.cut
    unknown = estimate_family(against("base", "a"), values, clips=None)["a"]
    assert (unknown.low, unknown.p, unknown.verdict, unknown.effect) == (None, None, Verdict.UNDECIDED, 0)


def test_only_seeds_that_all_arms_of_a_contrast_have_are_compared() -> None:
    values = {"a": {0: 0.5, 1: 0.6, 7: 0.99}, "base": {0: 0.4, 1: 0.4, 2: 0.01}}
    estimate = estimate_family(against("base", "a"), values, clips=None)["a"]
    assert estimate.differences == {0: pytest.approx(0.1), 1: pytest.approx(0.2)}


def test_two_seeds_give_no_interval_and_no_verdict() -> None:
    values = {"a": by_seed(0.9, 0.91), "b": by_seed(0.5, 0.51), "base": by_seed(0.4, 0.41)}
    found = estimate_family(against("base", "a", "b"), values, clips=288)
    for estimate in found.values():
        assert (estimate.low, estimate.high, estimate.p, estimate.p_holm) == (None, None, None, None)
        assert (estimate.verdict, estimate.effect is None) == (Verdict.TOO_FEW, False)
        assert estimate.spread is not None
    none = estimate_family(against("base", "a"), {"a": {0: 0.5}, "base": {1: 0.4}}, clips=288)["a"]
    assert (none.n, none.effect, none.spread, none.verdict) == (0, None, None, Verdict.TOO_FEW)


def test_the_family_is_what_was_declared() -> None:
    """An arm without a p-value counts in Holm's adjustment all the same."""
    values = {
        "base": by_seed(0.5, 0.52, 0.54),
        "a": by_seed(0.6, 0.63, 0.64),
        "one seed": {0: 0.9},
        "not begun": {},
    }
    found = estimate_family(against("base", "a", "one seed", "not begun"), values, clips=288)
    assert found["a"].p_holm == pytest.approx(3 * found["a"].p)
    assert found["not begun"].p_holm is None


def test_intervals_end_where_accuracies_end() -> None:
    values = {"base": by_seed(0.97, 0.99, 0.95), "a": by_seed(0.9, 0.99, 0.6)}
    estimate = estimate_family(against("base", "a"), values, clips=288)["a"]
    assert (estimate.high, estimate.cut) == (pytest.approx(0.05), True)
    assert estimate.low is not None
    assert estimate.low > -0.99


def test_a_small_difference_is_equal_only_within_a_declared_margin() -> None:
    generator = np.random.default_rng(3)
    base = generator.normal(0.9, 0.001, 10)
    values = {"base": by_seed(*base), "a": by_seed(*(base + generator.normal(0, 0.001, 10)))}
    verdicts = [
        estimate_family(against("base", "a"), values, clips=None, margin=margin)["a"].verdict
        for margin in (None, 0.0001, 0.01)
    ]
    assert verdicts == [Verdict.UNDECIDED, Verdict.UNDECIDED, Verdict.EQUAL]
    better = values | {"a": by_seed(*(base + 0.004 + generator.normal(0, 0.001, 10)))}
    helps = estimate_family(against("base", "a"), better, clips=None, margin=0.01)["a"]
    assert (helps.verdict, helps.within_margin) == (Verdict.HELPS, True)
    worse = values | {"a": by_seed(*(base - 0.1 + generator.normal(0, 0.001, 10)))}
    assert estimate_family(against("base", "a"), worse, clips=None)["a"].verdict is Verdict.HURTS


@pytest.mark.parametrize("margin", [0.004, 0.006])
def test_equal_means_two_one_sided_tests(margin: float) -> None:
    """Both one-sided tests reject at 5 % exactly where the 90 % interval is within the margin."""
    base, other = by_seed(0.9, 0.91, 0.93, 0.92), by_seed(0.901, 0.913, 0.93, 0.925)
    estimate = estimate_family(against("base", "a"), {"base": base, "a": other}, clips=None, margin=margin)["a"]
    differences = np.array(list(other.values())) - np.array(list(base.values()))
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    assert estimate.within_margin == (max(above, below) < 0.05)


def test_a_power_of_80_percent_is_what_the_needed_seeds_have() -> None:
    values = {"base": by_seed(0.5, 0.5, 0.5), "a": by_seed(0.51, 0.53, 0.47)}
    estimate = estimate_family(against("base", "a"), values, clips=None)["a"]
    n = estimate.seeds_needed(0.02)
    assert n is not None
    generator = np.random.default_rng(0)
    draws = generator.normal(0.02, estimate.spread, (20_000, n))
    power = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert 0.78 < power < 0.85
    assert estimate.seeds_needed(0.0) is None
    assert estimate.seeds_needed(1e-6) is None


def noise(model: str, generator: np.random.Generator, arms: int, seeds: int) -> NDArray[np.float64]:
    """Return the accuracies (arms, seeds) of arms that do not differ."""
    shape = (arms, seeds)
    if model == "normal":
        return generator.normal(0.8, 0.02, shape)
    if model == "unequal":
        return generator.normal(0.5, np.geomspace(0.0025, 0.11, arms)[:, None], shape)
    if model == "collapses":
        lost = generator.uniform(0.05, 0.2, shape) * (generator.random(shape) < 0.2)
        return generator.normal(0.9, 0.01, shape) - lost
    clips, share = {"288 at 90 %": (288, 0.9), "288 at 99.5 %": (288, 0.995), "24 with ties": (24, 0.8)}[model]
    return generator.binomial(clips, share, shape) / clips


MODELS = ("normal", "unequal", "collapses", "288 at 90 %", "288 at 99.5 %", "24 with ties")
LADDER = (
    {"DSFM": {"+DSFM": 1.0, "MMTM": -1.0}}
    | {"TIAM": {"+TIAM": 0.5, "all": 0.5, "+DSFM": -0.5, "+MFFM": -0.5}}
    | {"MFFM": {"+MFFM": 0.5, "all": 0.5, "+DSFM": -0.5, "+TIAM": -0.5}}
    | {"TIAM×MFFM": {"all": 1.0, "+DSFM": 1.0, "+TIAM": -1.0, "+MFFM": -1.0}}
)


@pytest.mark.parametrize(
    ("studies", "limit"), [(300, 0.092), pytest.param(2000, 0.065, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize("model", MODELS)
def test_few_studies_without_effects_find_any_and_intervals_hold_the_truth(
    model: str, studies: int, limit: float
) -> None:
    """The family-wise error is at most 6.5 %, plus 2 standard errors of fewer studies; 94 % of intervals hold 0."""
    generator = np.random.default_rng(7)
    clips = 24 if model.startswith("24") else 288
    for contrasts, seeds in itertools.product((1, 4, 7, 0), (3, 5)):
        names = [str(arm) for arm in range(contrasts + 1)] if contrasts else ["MMTM", "+DSFM", "+MFFM", "+TIAM", "all"]
        family = against(*names) if contrasts else LADDER
        errors, covered = 0, []
        for _ in range(studies):
            values = noise(model, generator, len(names), seeds)
            found = estimate_family(
                family, {name: by_seed(*row) for name, row in zip(names, values.tolist(), strict=True)}, clips=clips
            )
            errors += any(estimate.verdict in (Verdict.HELPS, Verdict.HURTS) for estimate in found.values())
            covered += [e.low <= 0 <= e.high for e in found.values() if e.low is not None and e.high is not None]
        assert errors / studies <= limit, (contrasts, seeds)
        assert np.mean(covered) >= 0.94 - (0.02 if studies < 1000 else 0), (contrasts, seeds)


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
