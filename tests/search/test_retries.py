"""Searches whose runs fail for a cause that passes: failed trials are tried again, and a row of failures ends it."""

from dataclasses import replace

import pytest
from curves import EPOCHS, METRIC, NUMBERS, SAMPLERS, curve, population, said, scheduler_of, search

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.search.simulator import MemoryTrialLog, Simulator
from coablate_platform.study.domains import Choice
from coablate_platform.study.errors import RepeatedFailureError
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space
from coablate_platform.train.events import RunState, RunUpdate
from coablate_platform.train.failures import MAX_ALIKE

FULL = "OSError: [Errno 28] No space left on device"


class Faulty(Simulator):
    """Lanes whose runs fail instead of reporting, from a number of reports to another."""

    def __init__(
        self, scheduler, log, lanes: int, state: RunState = RunState.CRASHED, faults: range = range(0)
    ) -> None:
        super().__init__(scheduler, log, curve, METRIC, lanes)
        self.faults, self.count, self.state, self.checks = faults, 0, state, False

    def _fill(self) -> None:
        if self.checks:
            self._scheduler.check()
        super()._fill()

    def _report(self, due) -> None:
        self.count += 1
        if self.count - 1 in self.faults:
            self.time = due.time
            self._idle.append(due.lane)
            self._log.states[due.task.run_id] = self.state
            self._scheduler.report(due.task.run_id, RunUpdate(state=self.state, reason=FULL))
        else:
            super()._report(due)


def simulate(declared, log, lanes: int = 1, **faults) -> tuple:
    scheduler = scheduler_of(declared, log)
    return scheduler, Faulty(scheduler, log, lanes, **faults)


def outcomes_of(scheduler) -> list[TrialOutcome | None]:
    return [record.outcome for record in scheduler.records]


@pytest.mark.parametrize("state", [RunState.CRASHED, RunState.LOST, RunState.OUT_OF_MEMORY])
@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_trials_that_a_passing_fault_failed_come_back_as_if_it_had_not_been(sampler, state):
    declared = search(sampler=sampler, stopping=Stopping(rule="none"), **({"trials": 6} | SAMPLERS[sampler]))
    whole, simulator = simulate(declared, MemoryTrialLog())
    assert simulator.run()
    log = MemoryTrialLog()
    failed, simulator = simulate(declared, log, state=state, faults=range(EPOCHS + 4, 10_000))
    assert simulator.run()
    assert outcomes_of(failed) == [TrialOutcome.COMPLETE] + [TrialOutcome.FAILED] * (declared.trial_count - 1)
    assert failed.exhausted
    resumed, simulator = simulate(declared, log)
    assert not resumed.exhausted
    assert log.records == {record.number: record for record in resumed.records}
    assert outcomes_of(resumed)[1:] == [None] * (declared.trial_count - 1)
    assert [record.reason for record in resumed.records] == [""] * declared.trial_count
    assert simulator.run()
    assert resumed.records == whole.records
    assert said(resumed) == said(whole)
    assert len(log.epochs(resumed.records[1].run_id)) == EPOCHS  # it went on behind its checkpoint


@pytest.mark.parametrize("rule", ["asha", "hyperband", "median"])
def test_what_is_tried_again_is_judged_like_the_others(rule):
    declared, log = search(trials=24, stopping=Stopping(rule=rule)), MemoryTrialLog()
    _, simulator = simulate(declared, log, lanes=3, faults=range(20, 26))
    assert simulator.run()
    resumed, simulator = simulate(declared, log, lanes=3)
    assert outcomes_of(resumed).count(None) == 6
    for events in (2, None):
        simulator.run(events)
        rebuilt, _ = simulate(declared, log, lanes=3)
        assert rebuilt.records == resumed.records
        assert said(rebuilt) == said(resumed)
    assert set(outcomes_of(resumed)) == {TrialOutcome.COMPLETE, TrialOutcome.PRUNED}


def test_what_would_fail_again_stays_failed():
    space = Space({"model.reduction": Choice(options=(2, 4, 65))})  # DSFM1's block has 64 channels
    declared, log = search(space=space, sampler="grid", stopping=Stopping(rule="none")), MemoryTrialLog()
    scheduler, simulator = simulate(declared, log, state=RunState.DIVERGED, faults=range(1))
    assert simulator.run()
    assert sorted(outcomes_of(scheduler)) == ["complete", "failed", "failed"]
    resumed, _ = simulate(declared, log)
    assert resumed.exhausted
    assert resumed.records == scheduler.records


def test_a_trial_that_the_space_has_lost_stays_failed_and_says_why():
    declared, log = search(space=Space(NUMBERS), trials=3), MemoryTrialLog()
    _, simulator = simulate(declared, log, faults=range(1, 2))
    simulator.run(2)
    before = log.records[0]
    assert before.outcome is TrialOutcome.FAILED
    del log.states[before.run_id]
    log.records[0] = replace(before, run_id="0" * 16)  # another run than its parameters mean today
    simulate(declared, log)
    assert log.records[0].reason == before.reason


def test_trials_of_one_configuration_are_tried_again_together():
    space = Space({"model.reduction": Choice(options=(2, 4))})
    declared, log = search(space=space, trials=8, stopping=Stopping(rule="none")), MemoryTrialLog()
    failed, simulator = simulate(declared, log, faults=range(2))
    assert simulator.run()
    assert set(outcomes_of(failed)) == {TrialOutcome.FAILED}
    resumed, simulator = simulate(declared, log)
    assert simulator.run()
    assert set(outcomes_of(resumed)) == {TrialOutcome.COMPLETE}
    assert simulator.epochs == 2 * EPOCHS


@pytest.mark.parametrize("until", [3, 41, 60, 80])
def test_a_member_that_a_passing_fault_failed_is_tried_again_unless_a_generation_has_passed(until):
    """Others of its generation were still to come, so it was not replaced."""
    declared = population(sampler="random")
    whole, simulator = simulate(declared, MemoryTrialLog())
    assert simulator.run()
    log = MemoryTrialLog()
    failed, simulator = simulate(declared, log, faults=range(until, until + 3))
    simulator.run(until + 1)
    assert TrialOutcome.FAILED in outcomes_of(failed)
    resumed, simulator = simulate(declared, log)
    assert simulator.run()
    assert resumed.records == whole.records
    assert said(resumed) == said(whole)


def test_a_member_that_was_replaced_stays_failed():
    declared, log = population(sampler="random"), MemoryTrialLog()
    failed, simulator = simulate(declared, log, faults=range(2, 3))
    assert simulator.run()
    assert failed.records[0].outcome is TrialOutcome.FAILED
    resumed, _ = simulate(declared, log)
    assert resumed.exhausted
    assert resumed.records == failed.records


def test_a_member_that_failed_after_the_last_pause_is_tried_again():
    declared, log = population(sampler="random"), MemoryTrialLog()
    whole, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    total = simulator.count
    failed, simulator = simulate(declared, log, faults=range(total - 1, total + 1))
    assert simulator.run()
    assert outcomes_of(failed).count(TrialOutcome.FAILED) == 1
    resumed, simulator = simulate(declared, log)
    assert simulator.run()
    assert resumed.records == whole.records


def test_a_row_of_alike_failures_ends_a_search_and_the_next_start_goes_on():
    declared, log = search(trials=30, sampler="random", stopping=Stopping(rule="none")), MemoryTrialLog()
    whole, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    scheduler, simulator = simulate(declared, log, lanes=2, faults=range(EPOCHS * 4, 10_000))
    simulator.checks = True
    said_why = (
        rf"search curves has stopped: {MAX_ALIKE} runs in a row failed alike \(crashed: OSError: .Errno 28. No space"
    )
    with pytest.raises(RepeatedFailureError, match=said_why):
        simulator.run()
    assert outcomes_of(scheduler).count(TrialOutcome.FAILED) == MAX_ALIKE
    resumed, simulator = simulate(declared, log, lanes=2)
    simulator.checks = True
    assert simulator.run()
    assert resumed.records == whole.records


def test_where_configurations_fail_for_good_a_search_can_go_on():
    """All of them are tried again in a row at every start."""
    declared, log = search(trials=20, sampler="random", stopping=Stopping(rule="none")), MemoryTrialLog()
    starts = 0
    while True:
        scheduler, simulator = simulate(declared, log, faults=range(10_000))
        simulator.checks, starts = True, starts + 1
        try:
            assert simulator.run()
            scheduler.check()
        except RepeatedFailureError:
            assert len(scheduler.records) == MAX_ALIKE * starts
        else:
            break
    assert starts == 20 // MAX_ALIKE + 1
    assert set(outcomes_of(scheduler)) == {TrialOutcome.FAILED}


def test_runs_that_are_stopped_or_end_between_failures_show_that_runs_can_train():
    declared = search(trials=30, sampler="random", stopping=Stopping(rule="asha", grace=1, reduction=2))
    scheduler, simulator = simulate(declared, MemoryTrialLog(), lanes=4)
    simulator.faults = [count for count in range(10_000) if count % 3 == 0]
    simulator.checks = True
    assert simulator.run()
    assert outcomes_of(scheduler).count(TrialOutcome.FAILED) > MAX_ALIKE
    scheduler.check()
