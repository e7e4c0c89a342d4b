"""Searches that are cut off, killed, grown or shared: they come back as they were, and nothing else comes with them."""

import pytest
from curves import FACTORS, NUMBERS, SAMPLERS, said, search, simulate
from optuna.trial import TrialState

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.search.samplers import rungs_of
from coablate_platform.search.simulator import MemoryBook
from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space
from coablate_platform.train.events import RunState

CUT_OFF = [
    (sampler, rule)
    for sampler in SAMPLERS
    for rule in ("none", "asha", "hyperband", "median")
    if rule == "none" or sampler not in ("gp", "cmaes", "nsga2")  # these learn only from trials that came to their end
]


@pytest.mark.parametrize(("sampler", "rule"), CUT_OFF)
def test_cut_off_anywhere_it_comes_back_whole(sampler, rule):
    declared = search(sampler=sampler, stopping=Stopping(rule=rule), **({"trials": 24} | SAMPLERS[sampler]))
    book = MemoryBook()
    for events in (1, 7, 2, 40, 3, 11):  # killed after so many reports
        sweep, simulation = simulate(declared, book, lanes=3)
        before = said(sweep)
        rebuilt, _ = simulate(declared, book, lanes=3)
        assert said(rebuilt) == before
        simulation.run(events)
        live = rungs_of(sweep.study)
        rebuilt, _ = simulate(declared, book, lanes=3)
        assert rungs_of(rebuilt.study) == live
        assert rebuilt.records == sweep.records
    sweep, simulation = simulate(declared, book, lanes=3)
    assert simulation.run()
    assert len(sweep.records) == declared.size
    assert all(record.outcome is not None for record in sweep.records)
    assert all(trial.state.is_finished() for trial in sweep.study.trials)
    assert [trial.number for trial in sweep.study.trials] == [record.number for record in sweep.records]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "grid"])
def test_on_one_lane_being_cut_off_changes_nothing(sampler):
    declared = search(sampler=sampler, **({"trials": 24} | SAMPLERS[sampler]))
    whole, simulation = simulate(declared, MemoryBook(), lanes=1)
    simulation.run()
    book = MemoryBook()
    for events in (1, 5, 30, 2, 17, None):
        sweep, simulation = simulate(declared, book, lanes=1)
        simulation.run(events)
    assert said(sweep) == said(whole)


def test_another_sampler_goes_on_with_its_own_sequence():
    numbers = {"space": Space(NUMBERS), "stopping": Stopping(rule="none")}
    alone, simulation = simulate(search(sampler="qmc", trials=6, **numbers), MemoryBook(), lanes=1)
    simulation.run()
    book = MemoryBook()
    for sampler, trials in (("random", 8), ("qmc", 13), ("random", 15)):
        sweep, simulation = simulate(search(sampler=sampler, trials=trials, **numbers), book, lanes=1)
        simulation.run()
    assert [record.sampler for record in sweep.records] == ["", *["random"] * 7, *["qmc"] * 5, *["random"] * 2]
    assert [record.params for record in sweep.records[8:13]] == [record.params for record in alone.records[1:]]


class KilledError(Exception):
    """The process is killed."""


def _crashing(writes: int):
    """A book whose process dies at one of its writes: the word is written, and nothing after it."""

    class Crashing(MemoryBook):
        left = writes

        def _write(self) -> None:
            type(self).left -= 1
            if type(self).left == 0:
                raise KilledError

        def write_trial(self, record) -> None:
            super().write_trial(record)
            self._write()

        def stop(self, run_id: str) -> None:
            super().stop(run_id)
            self._write()

        def fork(self, parent: str, child: str) -> None:
            super().fork(parent, child)
            self._write()

    return Crashing


@pytest.mark.parametrize("writes", range(1, 40, 2))
def test_killed_between_any_two_writes_a_population_takes_the_same_course(writes):
    declared = search(trials=5, sampler="random", stopping=Stopping(rule="pbt", grace=7, reduction=2))
    whole, simulation = simulate(declared, MemoryBook(), lanes=2)
    simulation.run()
    book = _crashing(writes)()
    with pytest.raises(KilledError):
        simulate(declared, book, lanes=2)[1].run()
    sweep, simulation = simulate(declared, book, lanes=2)
    assert simulation.run()
    assert sweep.records == whole.records
    assert said(sweep) == said(whole)


@pytest.mark.parametrize("writes", range(1, 40, 3))
def test_killed_between_any_two_writes_it_comes_back_whole(writes):
    declared = search(trials=14, stopping=Stopping(rule="asha", grace=1, reduction=2))
    book = _crashing(writes)()
    with pytest.raises(KilledError):
        simulate(declared, book, lanes=2)[1].run()
    ended = {number: record for number, record in book.records.items() if record.outcome is not None}
    sweep, simulation = simulate(declared, book, lanes=2)
    assert simulation.run()
    assert len(sweep.records) == 14
    assert all(record.outcome is not None for record in sweep.records)
    assert {number: book.records[number] for number in ended} == ended
    assert all(trial.state.is_finished() for trial in sweep.study.trials)
    assert [trial.user_attrs["run_id"] for trial in sweep.study.trials] == [r.run_id for r in sweep.records]
    for record in sweep.records:
        assert (record.outcome is TrialOutcome.PRUNED) == (book.state(record.run_id) is RunState.STOPPED)


def test_a_lost_trial_leaves_the_others_their_numbers():
    book = MemoryBook()
    sweep, simulation = simulate(search(trials=6), book)
    simulation.run()
    before = dict(book.records)
    del book.records[2]
    sweep, simulation = simulate(search(trials=6), book)
    simulation.run()
    assert sorted(book.records) == [0, 1, 3, 4, 5, 6]
    assert all(book.records[number] == before[number] for number in (0, 1, 3, 4, 5))
    assert [sweep.study.trials[n].params for n in (3, 5)] == [before[n].params for n in (3, 5)]


def test_a_space_may_grow_and_keeps_its_trials():
    book = MemoryBook()
    small = search(space=Space({"training.learning_rate": FACTORS["training.learning_rate"]}), trials=10)
    before, simulation = simulate(small, book)
    simulation.run()
    grown, simulation = simulate(search(trials=20), book)
    simulation.run()
    assert grown.records[:10] == before.records
    assert grown.study.trials[5].params["model.floor"] == 0.5  # the base's
    shrunk = search(space=Space({"training.learning_rate": Float(low=1e-3, high=1e-2, log=True)}), trials=22)
    last, simulation = simulate(shrunk, book)
    simulation.run()
    assert len(last.study.trials) == 22
    outside = [r.number for r in before.records if not 1e-3 <= r.params["training.learning_rate"] <= 1e-2]
    assert outside
    assert all(last.study.trials[number].state is TrialState.FAIL for number in outside)


def test_a_factor_added_under_a_condition_has_the_base_value_where_it_would_have_existed():
    book = MemoryBook()
    fusion = {"model.fusion": FACTORS["model.fusion"]}
    reduction = {"model.reduction": Choice(options=(2, 4, 8), when={"model.fusion": ("mmtm",)})}
    before, simulation = simulate(search(space=Space(NUMBERS | fusion), trials=10), book)
    simulation.run()
    grown, simulation = simulate(search(space=Space(NUMBERS | fusion | reduction), trials=20), book)
    simulation.run()
    assert grown.records[:10] == before.records
    of_mmtm = [record.number for record in before.records if record.params["model.fusion"] == "mmtm"]
    assert of_mmtm
    for record in before.records:
        trial = grown.study.trials[record.number]
        assert trial.params.get("model.reduction") == (4 if record.number in of_mmtm else None)
        assert trial.state is not TrialState.FAIL


def test_a_grown_grid_tries_what_is_new():
    book = MemoryBook()
    for reductions in ((2, 4), (2, 4, 8)):
        space = Space({"model.floor": Choice(options=(0.1, 0.5)), "model.reduction": Choice(options=reductions)})
        sweep, simulation = simulate(search(space=space, sampler="grid", stopping=Stopping(rule="none")), book)
        simulation.run()
    found = {(record.params["model.floor"], record.params["model.reduction"]) for record in sweep.records}
    assert found == {(floor, reduction) for floor in (0.1, 0.5) for reduction in (2, 4, 8)}
    assert len(sweep.records) == 6


def test_a_grid_that_grows_by_a_factor_tries_what_is_new():
    """The earlier trials had the base's value of it; they are not tried again."""
    book = MemoryBook()
    small = {"model.floor": Choice(options=(0.1, 0.5)), "model.reduction": Choice(options=(2, 4))}
    for factors in (small, small | {"model.tiam": Choice(options=("st", "none", "channel"))}):
        sweep, simulation = simulate(search(space=Space(factors), sampler="grid", stopping=Stopping(rule="none")), book)
        simulation.run()
    assert len(sweep.records) == len({record.run_id for record in sweep.records}) == 12


def test_a_grid_is_over_when_all_of_it_was_tried():
    """What another sampler drew, or another grid, is none of its budget."""
    book = MemoryBook()
    options = {"model.reduction": Choice(options=(2, 4, 8))}
    rule = {"stopping": Stopping(rule="none")}
    simulate(search(space=Space(options), sampler="random", trials=4, **rule), book)[1].run()
    factors = options | {"model.floor": Choice(options=(0.5, 0.7))}
    for floors in ((0.5, 0.7), (0.5, 0.9)):
        factors["model.floor"] = Choice(options=floors)
        sweep, simulation = simulate(search(space=Space(factors), sampler="grid", **rule), book)
        assert not sweep.exhausted
        simulation.run()
        assert sweep.exhausted
    tried = {(record.config["model"]["floor"], record.config["model"]["reduction"]) for record in sweep.records}
    assert tried == {(floor, reduction) for floor in (0.5, 0.7, 0.9) for reduction in (2, 4, 8)}


def test_a_sequence_goes_on_behind_a_trial_whose_file_is_gone():
    book = MemoryBook()
    declared = search(sampler="qmc", space=Space(NUMBERS), stopping=Stopping(rule="none"), trials=12)
    simulate(declared, book, lanes=1)[1].run(7 * 28)
    del book.records[4]
    sweep, simulation = simulate(declared, book, lanes=1)
    simulation.run()
    assert len({str(record.params) for record in sweep.records}) == len(sweep.records)


def test_a_space_that_changed_confirms_nothing_else_under_the_same_name():
    book = MemoryBook()
    named = {"wide": 8, "narrow": 2, "four": 4}
    before, simulation = simulate(search(space=Space({"model.reduction": Choice(options=named)}), trials=6), book)
    simulation.run()
    other = Space({"model.reduction": Choice(options=named | {"wide": 16})})
    after, _ = simulate(search(space=other, trials=6), book)
    for record in before.records:
        same = record.params["model.reduction"] != "wide"
        assert (after.config(record) is not None) == same
        assert before.config(record) is not None
