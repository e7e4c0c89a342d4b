"""Searches that are cut off, killed, grown or shared: they come back as they were, and nothing else comes with them."""

import pytest
from curves import FACTORS, NUMBERS, SAMPLERS, said, search, simulate
from killing import KilledError, check_same_course_after_a_kill, check_same_course_when_cut_off, crashing
from optuna.trial import TrialState

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.search.samplers import rungs_of
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space
from coablate_platform.train.events import RunState

OWN = "curves:own_sampler"
CUT_OFF = [
    (sampler, rule)
    for sampler in SAMPLERS
    for rule in ("none", "asha", "asha_promotion", "hyperband", "median")
    if rule == "none" or sampler not in ("gp", "cmaes", "nsga2")  # these learn only from trials that came to their end
] + [(OWN, "none"), (OWN, "asha"), (OWN, "asha_promotion")]


@pytest.mark.parametrize(("sampler", "rule"), CUT_OFF)
def test_cut_off_anywhere_it_comes_back_whole(sampler, rule):
    declared = search(sampler=sampler, stopping=Stopping(rule=rule), **({"trials": 24} | SAMPLERS.get(sampler, {})))
    log = MemoryTrialLog()
    for events in (1, 7, 2, 40, 3, 11):  # killed after so many reports
        scheduler, simulator = simulate(declared, log, lanes=3)
        before = said(scheduler)
        rebuilt, _ = simulate(declared, log, lanes=3)
        assert said(rebuilt) == before
        simulator.run(events)
        live = rungs_of(scheduler.study)
        rebuilt, _ = simulate(declared, log, lanes=3)
        assert rungs_of(rebuilt.study) == live
        assert rebuilt.records == scheduler.records
    scheduler, simulator = simulate(declared, log, lanes=3)
    assert simulator.run()
    assert len(scheduler.records) == declared.trial_count
    assert all(record.outcome is not None for record in scheduler.records)
    assert all(trial.state.is_finished() for trial in scheduler.study.trials)
    assert [trial.number for trial in scheduler.study.trials] == [record.number for record in scheduler.records]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "grid", OWN])
def test_on_one_lane_being_cut_off_changes_nothing(sampler):
    declared = search(sampler=sampler, **({"trials": 24} | SAMPLERS.get(sampler, {})))
    check_same_course_when_cut_off(declared)


def test_another_sampler_goes_on_with_its_own_sequence():
    numbers = {"space": Space(NUMBERS), "stopping": Stopping(rule="none")}
    alone, simulator = simulate(search(sampler="qmc", trials=6, **numbers), MemoryTrialLog(), lanes=1)
    simulator.run()
    log = MemoryTrialLog()
    for sampler, trials in (("random", 8), ("qmc", 13), ("random", 15)):
        scheduler, simulator = simulate(search(sampler=sampler, trials=trials, **numbers), log, lanes=1)
        simulator.run()
    assert [record.sampler for record in scheduler.records] == ["", *["random"] * 7, *["qmc"] * 5, *["random"] * 2]
    assert [record.params for record in scheduler.records[8:13]] == [record.params for record in alone.records[1:]]


@pytest.mark.parametrize("writes", range(1, 40, 2))
def test_killed_between_any_two_writes_a_population_takes_the_same_course(writes):
    declared = search(trials=5, sampler="random", stopping=Stopping(rule="pbt", grace=7, reduction=2))
    check_same_course_after_a_kill(declared, writes, lanes=2)


@pytest.mark.parametrize("writes", range(1, 40, 3))
def test_killed_between_any_two_writes_it_comes_back_whole(writes):
    declared = search(trials=14, stopping=Stopping(rule="asha", grace=1, reduction=2))
    log = crashing(writes)()
    with pytest.raises(KilledError):
        simulate(declared, log, lanes=2)[1].run()
    ended = {number: record for number, record in log.records.items() if record.outcome is not None}
    scheduler, simulator = simulate(declared, log, lanes=2)
    assert simulator.run()
    assert len(scheduler.records) == 14
    assert all(record.outcome is not None for record in scheduler.records)
    assert {number: log.records[number] for number in ended} == ended
    assert all(trial.state.is_finished() for trial in scheduler.study.trials)
    assert [trial.user_attrs["run_id"] for trial in scheduler.study.trials] == [r.run_id for r in scheduler.records]
    for record in scheduler.records:
        assert (record.outcome is TrialOutcome.PRUNED) == (log.state(record.run_id) is RunState.STOPPED)


def test_a_lost_trial_leaves_the_others_their_numbers():
    log = MemoryTrialLog()
    scheduler, simulator = simulate(search(trials=6), log)
    simulator.run()
    before = dict(log.records)
    del log.records[2]
    scheduler, simulator = simulate(search(trials=6), log)
    simulator.run()
    assert sorted(log.records) == [0, 1, 3, 4, 5, 6]
    assert all(log.records[number] == before[number] for number in (0, 1, 3, 4, 5))
    assert [scheduler.study.trials[n].params for n in (3, 5)] == [before[n].params for n in (3, 5)]


def test_a_space_may_grow_and_keeps_its_trials():
    log = MemoryTrialLog()
    small = search(space=Space({"training.learning_rate": FACTORS["training.learning_rate"]}), trials=10)
    before, simulator = simulate(small, log)
    simulator.run()
    grown, simulator = simulate(search(trials=20), log)
    simulator.run()
    assert grown.records[:10] == before.records
    assert grown.study.trials[5].params["model.floor"] == 0.5  # the base's
    shrunk = search(space=Space({"training.learning_rate": Float(low=1e-3, high=1e-2, log=True)}), trials=22)
    last, simulator = simulate(shrunk, log)
    simulator.run()
    assert len(last.study.trials) == 22
    outside = [r.number for r in before.records if not 1e-3 <= r.params["training.learning_rate"] <= 1e-2]
    assert outside
    assert all(last.study.trials[number].state is TrialState.FAIL for number in outside)


def test_an_open_trial_with_values_that_the_space_has_lost_has_failed():
    log = MemoryTrialLog()
    rates = {"training.learning_rate": FACTORS["training.learning_rate"]}
    before, simulator = simulate(search(space=Space(rates), trials=10, sampler="random"), log, lanes=8)
    simulator.run(2)
    opened = [record.number for record in before.records if record.outcome is None]
    narrow = Space({"training.learning_rate": Float(low=1e-3, high=1e-2, log=True)})
    after, _ = simulate(search(space=narrow, trials=10, sampler="random"), log)
    lost = [n for n in opened if not 1e-3 <= before.records[n].params["training.learning_rate"] <= 1e-2]
    assert 0 < len(lost) < len(opened)
    for record in after.records:
        assert log.records[record.number] == record
        if record.number in lost:
            assert record.outcome is TrialOutcome.FAILED
            assert record.reason.startswith("training.learning_rate")
        else:
            assert record == before.records[record.number]


def test_a_factor_added_under_a_condition_has_the_base_value_where_it_would_have_existed():
    log = MemoryTrialLog()
    fusion = {"model.fusion": FACTORS["model.fusion"]}
    reduction = {"model.reduction": Choice(options=(2, 4, 8), when={"model.fusion": ("mmtm",)})}
    before, simulator = simulate(search(space=Space(NUMBERS | fusion), trials=10), log)
    simulator.run()
    grown, simulator = simulate(search(space=Space(NUMBERS | fusion | reduction), trials=20), log)
    simulator.run()
    assert grown.records[:10] == before.records
    of_mmtm = [record.number for record in before.records if record.params["model.fusion"] == "mmtm"]
    assert of_mmtm
    for record in before.records:
        trial = grown.study.trials[record.number]
        assert trial.params.get("model.reduction") == (4 if record.number in of_mmtm else None)
        assert trial.state is not TrialState.FAIL


def test_a_grown_grid_tries_what_is_new():
    log = MemoryTrialLog()
    for reductions in ((2, 4), (2, 4, 8)):
        space = Space({"model.floor": Choice(options=(0.1, 0.5)), "model.reduction": Choice(options=reductions)})
        scheduler, simulator = simulate(search(space=space, sampler="grid", stopping=Stopping(rule="none")), log)
        simulator.run()
    found = {(record.params["model.floor"], record.params["model.reduction"]) for record in scheduler.records}
    assert found == {(floor, reduction) for floor in (0.1, 0.5) for reduction in (2, 4, 8)}
    assert len(scheduler.records) == 6


def test_a_grid_that_grows_by_a_factor_tries_what_is_new():
    """The earlier trials had the base's value of it; they are not tried again."""
    log = MemoryTrialLog()
    small = {"model.floor": Choice(options=(0.1, 0.5)), "model.reduction": Choice(options=(2, 4))}
    for factors in (small, small | {"model.tiam": Choice(options=("st", "none", "channel"))}):
        scheduler, simulator = simulate(
            search(space=Space(factors), sampler="grid", stopping=Stopping(rule="none")), log
        )
        simulator.run()
    assert len(scheduler.records) == len({record.run_id for record in scheduler.records}) == 12


def test_a_grid_is_over_when_all_of_it_was_tried():
    """What another sampler drew, or another grid, is none of its budget."""
    log = MemoryTrialLog()
    options = {"model.reduction": Choice(options=(2, 4, 8))}
    rule = {"stopping": Stopping(rule="none")}
    simulate(search(space=Space(options), sampler="random", trials=4, **rule), log)[1].run()
    factors = options | {"model.floor": Choice(options=(0.5, 0.7))}
    for floors in ((0.5, 0.7), (0.5, 0.9)):
        factors["model.floor"] = Choice(options=floors)
        scheduler, simulator = simulate(search(space=Space(factors), sampler="grid", **rule), log)
        assert not scheduler.exhausted
        simulator.run()
        assert scheduler.exhausted
    tried = {(record.config["model"]["floor"], record.config["model"]["reduction"]) for record in scheduler.records}
    assert tried == {(floor, reduction) for floor in (0.5, 0.7, 0.9) for reduction in (2, 4, 8)}


def test_a_sequence_goes_on_behind_a_trial_whose_file_is_gone():
    log = MemoryTrialLog()
    declared = search(sampler="qmc", space=Space(NUMBERS), stopping=Stopping(rule="none"), trials=12)
    simulate(declared, log, lanes=1)[1].run(7 * 28)
    del log.records[4]
    scheduler, simulator = simulate(declared, log, lanes=1)
    simulator.run()
    assert len({str(record.params) for record in scheduler.records}) == len(scheduler.records)


def test_a_space_that_changed_confirms_nothing_else_under_the_same_name():
    log = MemoryTrialLog()
    named = {"wide": 8, "narrow": 2, "four": 4}
    before, simulator = simulate(search(space=Space({"model.reduction": Choice(options=named)}), trials=6), log)
    simulator.run()
    other = Space({"model.reduction": Choice(options=named | {"wide": 16})})
    after, _ = simulate(search(space=other, trials=6), log)
    for record in before.records:
        same = record.params["model.reduction"] != "wide"
        assert (after.config(record) is not None) == same
        assert before.config(record) is not None
