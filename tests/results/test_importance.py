"""Parameter importance: which parameters it finds, and over which trials it is computed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from curves import METRIC
from made_search import searched
from optuna.distributions import FloatDistribution, distribution_to_json

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.results.importance import Importance, importances, least_trials
from coablate_platform.study.domains import Float
from coablate_platform.study.space import Space


def made_up(
    score: Callable[[dict[str, float], np.random.Generator], float], trials: int = 30, seed: int = 0
) -> list[TrialRecord]:
    """Return completed trials of a learning rate on a log scale and three shares, with made-up scores."""
    generator = np.random.default_rng(seed)
    ranges = {"rate": FloatDistribution(1e-4, 1e-1, log=True)} | {name: FloatDistribution(0, 1) for name in "abc"}
    records = []
    for number in range(trials):
        params = {"rate": float(10 ** generator.uniform(-4, -1))} | {name: generator.random() for name in "abc"}
        records.append(
            TrialRecord(
                number=number,
                params=params,
                ranges={name: distribution_to_json(distribution) for name, distribution in ranges.items()},
                sampler="random",
                run_id=str(number),
                outcome=TrialOutcome.COMPLETE,
                values=(float(score(params, generator)),),
            )
        )
    return records


def of(trials: list[TrialRecord]) -> list[Importance]:
    return importances(trials, {}, METRIC, None)


@pytest.mark.timeout(180)
def test_the_parameter_that_decides_the_metric_is_the_most_important(tmp_path):
    space = Space(
        {"training.learning_rate": Float(low=1e-4, high=1e-1, log=True), "model.hcn_dropout": Float(low=0, high=1)}
    )
    _, log, _ = searched(tmp_path, space=space, sampler="random", trials=60)
    early = importances(log.trials(), log.reports, METRIC, 1)
    assert [importance.parameter for importance in early] == ["training.learning_rate", "model.hcn_dropout"]
    assert early[0].fanova > 0.6
    assert early[0].interval is not None
    assert early[0].interval[0] < early[0].fanova < early[0].interval[1] + 0.1
    assert (early[0].told_from_noise, early[1].told_from_noise) == (True, False)
    assert early[0].ped_anova > 0.5
    assert early[0].trials == 60


@pytest.mark.timeout(180)
def test_a_learning_rate_on_a_log_scale_is_not_overlooked():
    """It decides at the low end of its range, which is a thousandth of the linear one."""
    for seed in range(3):
        found = of(made_up(lambda p, _: np.exp(-((np.log10(p["rate"]) + 3.7) ** 2) / 0.1) + 0.45 * p["a"], seed=seed))
        assert [importance.parameter for importance in found][:2] == ["rate", "a"]
        assert found[0].fanova > 0.5
        assert found[0].told_from_noise


@pytest.mark.timeout(300)
def test_pure_noise_is_not_told_from_noise():
    """One search in twenty may exceed what chance gives in one of twenty."""
    told = [of(made_up(lambda _, generator: generator.normal(), seed=seed))[0].told_from_noise for seed in range(6)]
    assert sum(told) <= 1


@pytest.mark.timeout(120)
def test_shares_are_not_made_to_add_up_to_one():
    """A pure interaction is explained by no parameter alone."""
    found = of(made_up(lambda p, _: (p["a"] - 0.5) * (p["b"] - 0.5), trials=80))
    assert sum(importance.fanova for importance in found) < 0.75


@pytest.mark.timeout(120)
def test_few_trials_have_no_importances_and_fewer_than_twenty_no_ped_anova(tmp_path):
    _, log, _ = searched(tmp_path, trials=3)
    assert importances(log.trials(), log.reports, METRIC, 1) == []
    assert (least_trials(2), least_trials(5)) == (10, 13)
    assert of(made_up(lambda p, _: p["a"], trials=9)) == []
    assert {importance.ped_anova for importance in of(made_up(lambda p, _: p["a"], trials=19))} == {None}
    assert None not in {importance.ped_anova for importance in of(made_up(lambda p, _: p["a"], trials=20))}
    assert of(made_up(lambda *_: 0.5, trials=30)) == [], "equal scores"


@pytest.mark.timeout(120)
def test_final_values_are_those_of_completed_trials():
    trials = made_up(lambda p, _: p["a"], trials=24)
    pruned = [replace(trial, outcome=TrialOutcome.PRUNED) for trial in trials[20:]]
    assert {importance.trials for importance in of(trials[:20] + pruned)} == {20}


@pytest.mark.timeout(120)
def test_a_conditional_parameter_is_evaluated_over_the_trials_that_have_it(tmp_path):
    _, log, _ = searched(tmp_path, sampler="random", trials=60)
    by_name = {importance.parameter: importance for importance in importances(log.trials(), log.reports, METRIC, 1)}
    having = [trial for trial in log.trials() if "model.floor" in trial.params]
    assert by_name["model.floor"].trials == len(having) < 60
    assert (by_name["model.floor"].chance, by_name["model.floor"].told_from_noise) == (None, False)
    assert by_name["model.fusion"].trials == 60
    assert by_name["model.fusion"].chance is not None
