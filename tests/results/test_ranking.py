"""Which trials are the best, and at which epochs trials are compared."""

from dataclasses import replace

from curves import search
from made_search import plan_of, searched

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.results.ranking import best, rung_epochs
from coablate_platform.study.search import Stopping


def test_the_best_trials_are_completed_ones(tmp_path):
    declared, log, _ = searched(tmp_path)
    chosen = best(declared.costs, log.trials(), 3)
    completed = [trial.values[0] for trial in log.trials() if trial.outcome is TrialOutcome.COMPLETE]
    assert [trial.values[0] for trial in chosen] == sorted(completed, reverse=True)[:3]
    assert len({trial.run_id for trial in chosen}) == 3


def test_of_several_trials_of_a_configuration_the_best_counts(tmp_path):
    """Two members of a population may have the same configuration, with different weights."""
    declared, log, _ = searched(tmp_path, trials=3, stopping=Stopping(rule="none"))
    first, second, third = log.trials()
    trials = [replace(first, values=(0.9,)), replace(second, values=(0.8,))]
    trials.append(replace(third, config=first.config, values=(0.7,)))
    assert [trial.number for trial in best(declared.costs, trials, 3)] == [0, 1]
    assert [trial.number for trial in best(declared.costs, trials, 1)] == [0]


def test_with_costs_the_best_trials_are_the_pareto_front(tmp_path):
    declared, log, scheduler = searched(tmp_path, sampler="random", stopping=Stopping(rule="none"), costs=("flops",))
    chosen = best(declared.costs, log.trials(), 10)
    assert {trial.number for trial in chosen} == {trial.number for trial in scheduler.study.best_trials}


def test_rungs_are_the_epochs_at_which_the_rule_compares_trials():
    assert rung_epochs(plan_of(search())) == [1, 3, 9]
    assert rung_epochs(plan_of(search(stopping=Stopping(rule="asha")))) == [2, 6, 18], "a thirteenth of 27 epochs"
    assert rung_epochs(plan_of(search(stopping=Stopping(rule="median")))) == []
    population = search(stopping=Stopping(rule="pbt", grace=6))
    assert rung_epochs(plan_of(population)) == [6, 12, 18, 24]
