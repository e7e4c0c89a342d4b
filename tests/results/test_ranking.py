"""Which trials are the best, and at which epochs trials are compared."""

from dataclasses import replace

import pytest
from curves import METRIC, scheduler_of, search
from made_search import plan_of, searched

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.results.ranking import best, rung_epochs, tied
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.search import Stopping
from coablate_platform.train.events import EpochReport, RunState, RunUpdate


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


def test_equal_trials_are_ordered_by_loss_then_by_their_last_epochs_then_by_number(tmp_path):
    declared, log, _ = searched(tmp_path, trials=6, stopping=Stopping(rule="none"))
    facts = [(0.9, 0.3, 0.9), (0.9, 0.2, 0.7), (0.9, 0.2, 0.8), (0.9, None, 1.0), (0.95, 0.9, 0.1), (0.9, 0.2, 0.8)]
    trials = [
        replace(trial, values=(value,), loss=loss, late=late)
        for trial, (value, loss, late) in zip(log.trials(), facts, strict=True)
    ]
    assert [trial.number for trial in best(declared.costs, trials, 6)] == [4, 2, 5, 1, 0, 3]
    assert tied(declared.costs, trials) == 1
    assert tied(declared.costs, [trials[0], *trials[1:4]]) == 4
    assert tied(declared.costs, []) == tied(("flops",), trials) == 0


def test_a_completed_trial_has_its_loss_and_the_mean_of_its_last_epochs(tmp_path):
    log = MemoryTrialLog()
    scheduler = scheduler_of(search(trials=1, stopping=Stopping(rule="none")), log)
    task = scheduler.next()
    for epoch, (value, loss) in enumerate([(0.1, 3.0), *[(0.5, 2.0)] * 24, (0.8, 1.5), (0.7, 1.0)], 1):
        report = EpochReport(epoch=epoch, metrics={METRIC: value, "validation/loss": loss}, seconds=1)
        scheduler.report(task.run_id, RunUpdate.of_epoch(report))
    scheduler.report(task.run_id, RunUpdate(state=RunState.COMPLETED))
    (trial,) = scheduler.records
    assert (trial.values, trial.loss) == ((0.7,), 1.0)
    assert trial.late == pytest.approx((0.5 + 0.8 + 0.7) / 3)


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
