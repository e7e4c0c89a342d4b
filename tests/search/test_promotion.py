"""Successive halving by promotion: trials pause at rungs, the best of a rung train on, and a kill changes nothing."""

from collections import Counter
from typing import Any

import pytest
from curves import EPOCHS, METRIC, SAMPLERS, curve, scheduler_of, search, simulate
from killing import check_same_course_after_a_kill, check_same_course_when_cut_off

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.search.rungs import PAUSED
from coablate_platform.search.scheduler import SearchScheduler
from coablate_platform.search.simulator import Curve, MemoryTrialLog
from coablate_platform.study.config import RunConfig
from coablate_platform.study.search import Search, Stopping
from coablate_platform.train.events import EpochReport, RunState, RunUpdate

RUNGS = (1, 3, 9)


def promotion(paused: int = 50, **changes: Any) -> Search:
    rule = Stopping(rule="asha_promotion", grace=1, reduction=3, paused=paused)
    return search(**({"trials": 30, "sampler": "random", "stopping": rule} | changes))


class ByHand:
    """A search whose runs report what the test says."""

    def __init__(self, trials: int, paused: int = 50) -> None:
        self.log = MemoryTrialLog()
        self.declared = promotion(paused, trials=trials)
        self.scheduler: SearchScheduler = scheduler_of(self.declared, self.log)

    def next(self) -> int | None:
        """Hand out a run and return the number of its trial."""
        if (task := self.scheduler.next()) is None:
            return None
        self.log.states[task.run_id] = RunState.RUNNING
        return next(record.number for record in self.scheduler.records if record.run_id == task.run_id)

    def report(self, number: int, *values: float) -> bool:
        """Report the next epochs of a trial, and return whether it stops after the last."""
        run_id, stops = self.scheduler.records[number].run_id, False
        for value in values:
            assert not stops
            report = EpochReport(epoch=self.log.reached(run_id) + 1, metrics={METRIC: value}, seconds=1)
            self.log.reports.setdefault(run_id, []).append(report)
            stops = self.scheduler.report(run_id, RunUpdate.of_epoch(report))
        return stops

    def fail(self, number: int) -> None:
        run_id = self.scheduler.records[number].run_id
        self.log.states[run_id] = RunState.DIVERGED
        self.scheduler.report(run_id, RunUpdate(state=RunState.DIVERGED, reason="the loss became nan"))

    def paused(self) -> list[int]:
        return [trial.number for trial in self.scheduler.study.trials if trial.user_attrs.get(PAUSED)]


def test_a_paused_trial_trains_on_when_others_have_made_room_for_it():
    hand = ByHand(trials=8)
    assert [hand.next() for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert not hand.report(0, 0.9)  # the first is the best so far
    assert hand.report(1, 0.8)  # one in three goes on
    assert hand.report(2, 0.3)
    assert hand.report(3, 0.2)
    assert hand.paused() == [1, 2, 3]
    assert hand.next() == 6
    assert hand.report(4, 0.1)
    assert hand.report(5, 0.15)  # six have come: two go on, and trial 1 is the second
    assert hand.paused() == [2, 3, 4, 5]
    assert hand.log.trials()[1].rung == RUNGS[1]
    assert hand.next() == 1  # before trial 7 begins
    assert not hand.report(1, 0.82)
    assert not hand.report(1, 0.83)  # the first at epoch 3
    assert hand.next() == 7


def test_the_highest_rung_is_served_first():
    hand = ByHand(trials=9)
    for number in range(8):
        assert hand.next() == number
    hand.report(0, 0.5, 0.5, 0.5)  # on its way to epoch 9
    for number, value in ((1, 0.6), (2, 0.7)):
        hand.report(number, value)
    hand.report(1, 0.4, 0.4)
    assert hand.report(2, 0.45, 0.45) is True
    assert hand.paused() == [1, 2]
    for number in (3, 4):
        hand.report(number, 0.1)
    hand.fail(0)  # whoever is best at epoch 3 takes its place
    assert hand.next() == 2


def test_a_failed_trial_takes_nobody_s_place_and_a_search_always_completes_one():
    def curves(config: RunConfig) -> Curve:
        plain = curve(config).values
        best = config.training.learning_rate > 1e-3
        return Curve(values=[float("nan") if best and epoch > 10 else value for epoch, value in enumerate(plain)])

    log = MemoryTrialLog()
    scheduler, simulator = simulate(promotion(), log, curves=curves)
    assert simulator.run()
    outcomes = Counter(record.outcome for record in scheduler.records)
    assert outcomes[TrialOutcome.FAILED]
    assert outcomes[TrialOutcome.COMPLETE]


def test_at_the_end_no_rung_would_promote_another_trial():
    log = MemoryTrialLog()
    scheduler, simulator = simulate(promotion(trials=60), log)
    assert simulator.run()
    at = {rung: {} for rung in (*RUNGS, EPOCHS)}
    for record in scheduler.records:
        for report in log.epochs(record.run_id):
            if report.epoch in at:
                at[report.epoch][record.number] = report.metrics[METRIC]
    for rung, following in zip(RUNGS, (*RUNGS[1:], EPOCHS), strict=True):
        ranked = sorted(at[rung], key=lambda number, rung=rung: (-at[rung][number], number))
        assert set(ranked[: len(ranked) // 3]) <= set(at[following])
        assert len(at[following]) < len(at[rung]) / 2
    again = [r for r in scheduler.records if log.states[r.run_id] is RunState.COMPLETED]
    assert {record.number for record in again} == set(at[EPOCHS])


@pytest.mark.parametrize("bound", [1, 4])
def test_no_more_than_so_many_paused_trials_keep_their_checkpoints(bound):
    log = MemoryTrialLog()
    scheduler, simulator = simulate(promotion(paused=bound), log)
    over = False
    while not over:
        over = simulator.run(1)
        paused = [t.number for t in scheduler.study.trials if t.user_attrs.get(PAUSED) and not t.state.is_finished()]
        assert len(paused) <= bound
        assert not {scheduler.records[number].run_id for number in paused} & log.discarded
    pruned = {record.run_id for record in scheduler.records if record.outcome is TrialOutcome.PRUNED}
    assert log.discarded == pruned  # also of those that were paused to the end


def test_the_worst_of_their_rungs_are_given_up():
    hand = ByHand(trials=9, paused=2)
    for number in range(5):
        assert hand.next() == number
    hand.report(0, 0.9)
    for number, value in ((1, 0.3), (2, 0.2), (3, 0.25)):
        assert hand.report(number, value)
    assert [record.outcome for record in hand.scheduler.records[:4]] == [None, None, TrialOutcome.PRUNED, None]
    assert hand.scheduler.records[2].values == (0.2,)


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "qmc"])
def test_on_one_lane_being_cut_off_changes_nothing(sampler):
    declared = promotion(**({"trials": 20, "sampler": sampler} | SAMPLERS[sampler]))
    check_same_course_when_cut_off(declared)


@pytest.mark.parametrize("writes", range(1, 62, 2))
def test_killed_between_any_two_writes_it_takes_the_same_course(writes):
    declared = promotion(trials=14)
    check_same_course_after_a_kill(declared, writes, lanes=1)
