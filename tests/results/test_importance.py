"""Parameter importance: which parameters it finds, and over which trials it is computed."""

from curves import METRIC
from made_search import searched

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.results.importance import importances
from coablate_platform.study.domains import Float
from coablate_platform.study.space import Space


def test_the_parameter_that_decides_the_metric_is_the_most_important(tmp_path):
    space = Space(
        {"training.learning_rate": Float(low=1e-4, high=1e-1, log=True), "model.hcn_dropout": Float(low=0, high=1)}
    )
    _, log, _ = searched(tmp_path, space=space, sampler="random", trials=60)
    early = importances(log.trials(), log.reports, METRIC, 1)
    assert [importance.parameter for importance in early] == ["training.learning_rate", "model.hcn_dropout"]
    assert early[0].fanova > 0.6
    assert early[0].ped_anova > 0.5
    assert early[0].trials == 60
    final = importances(log.trials(), log.reports, METRIC, None)
    assert final[0].trials == sum(trial.outcome is TrialOutcome.COMPLETE for trial in log.trials())


def test_a_conditional_parameter_is_evaluated_over_the_trials_that_have_it(tmp_path):
    _, log, _ = searched(tmp_path, sampler="random", trials=60)
    by_name = {importance.parameter: importance for importance in importances(log.trials(), log.reports, METRIC, 1)}
    having = [trial for trial in log.trials() if "model.floor" in trial.params]
    assert by_name["model.floor"].trials == len(having) < 60
    assert by_name["model.fusion"].trials == 60


def test_too_few_trials_have_no_importances(tmp_path):
    _, log, _ = searched(tmp_path, trials=3)
    assert importances(log.trials(), log.reports, METRIC, 1) == []
