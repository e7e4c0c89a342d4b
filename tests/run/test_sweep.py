"""Searches on known curves: they find the best, stop the hopeless, and come back whole after being cut off anywhere."""

import math
from collections import Counter
from dataclasses import replace

import optuna
import pytest
from curves import BEST, EPOCHS, FACTORS, METRIC, curve, identify, plateau, search, simulate
from optuna.trial import TrialState

from coablate_platform.run.records import EpochReport, RunState, TrialOutcome
from coablate_platform.run.samplers import rungs_of
from coablate_platform.run.simulation import Curve, MemoryBook, Simulation
from coablate_platform.run.sweep import Sweep
from coablate_platform.study.domains import Choice, Float, Int
from coablate_platform.study.errors import InputError
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space

NUMBERS = {name: FACTORS[name] for name in ("training.learning_rate",)} | {"model.floor": Float(low=0.0, high=1.0)}
SAMPLERS = {
    "random": {},
    "tpe": {},
    "qmc": {"space": Space(NUMBERS)},
    "gp": {"space": Space(NUMBERS), "trials": 14},
    "cmaes": {"space": Space(NUMBERS)},
    "nsga2": {},
    "grid": {
        "space": Space({"model.floor": Choice(options=(0.1, 0.5, 0.7)), "model.reduction": Choice(options=(2, 4))})
    },
}


def _said(sweep: Sweep) -> list[tuple]:
    """Everything that two equal searches have in common."""
    optuna_says = [
        (trial.number, trial.state, trial.params, trial.values, trial.intermediate_values)
        for trial in sweep.study.get_trials(deepcopy=False)
    ]
    return [sweep.records, optuna_says, rungs_of(sweep.study)]


def _value(book: MemoryBook, record) -> float:
    return book.epochs(record.run_id)[record.epoch - 1].metrics[METRIC]


@pytest.mark.parametrize("rule", ["none", "asha", "hyperband", "median"])
def test_every_rule_ends_with_all_trials_and_none_left_running(rule):
    book = MemoryBook()
    sweep, simulation = simulate(search(stopping=Stopping(rule=rule)), book)
    assert simulation.run()
    outcomes = Counter(record.outcome for record in sweep.records)
    assert sum(outcomes.values()) == 60
    assert set(outcomes) == (
        {TrialOutcome.COMPLETE} if rule == "none" else {TrialOutcome.COMPLETE, TrialOutcome.PRUNED}
    )
    assert (simulation.epochs == 60 * EPOCHS) == (rule == "none")
    states = Counter(trial.state for trial in sweep.study.trials)
    assert states == {TrialState[outcome.name]: count for outcome, count in outcomes.items()}
    for record in sweep.records:
        assert record.values[0] == _value(book, record)
        assert book.state(record.run_id) is (
            RunState.COMPLETED if record.outcome is TrialOutcome.COMPLETE else RunState.STOPPED
        )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_reproducible_and_finds_something_better_than_the_base(sampler):
    declared = search(sampler=sampler, **({"stopping": Stopping(rule="none")} | SAMPLERS[sampler]))
    first, second = [simulate(declared, MemoryBook()) for _ in range(2)]
    for sweep, simulation in (first, second):
        assert simulation.run()
        assert len(sweep.records) == declared.size
    assert _said(first[0]) == _said(second[0])
    other, simulation = simulate(replace(declared, seed=1), MemoryBook())
    simulation.run()
    assert (_said(other) == _said(first[0])) == (sampler == "grid")
    if sampler == "gp":
        return  # after ten random trials its own are few
    best = max(record.values[0] for record in first[0].records)
    assert best > first[0].records[0].values[0]
    assert best > 0.94 * (1 - math.exp(-EPOCHS / 4))


def test_asha_spends_less_and_keeps_the_best():
    whole, stopped = (simulate(search(stopping=Stopping(rule=rule)), MemoryBook()) for rule in ("none", "asha"))
    for _, simulation in (whole, stopped):
        simulation.run()
    assert stopped[1].epochs < 0.45 * whole[1].epochs
    best = max((r for r in stopped[0].records if r.outcome is TrialOutcome.COMPLETE), key=lambda r: r.values)
    assert abs(math.log10(best.params["training.learning_rate"] / BEST["training.learning_rate"])) < 0.35


def test_the_rungs_hold_what_successive_halving_says():
    book = MemoryBook()
    sweep, simulation = simulate(search(), book)
    simulation.run()
    rungs = rungs_of(sweep.study)
    assert sorted(rungs) == [0, 1, 2, 3]  # epochs 1, 3, 9, 27
    for rung, values in rungs.items():
        for number, value in values.items():
            assert value == book.epochs(sweep.records[number].run_id)[3**rung - 1].metrics[METRIC]
    for record in sweep.records:
        if record.outcome is TrialOutcome.PRUNED:
            assert record.epoch in (1, 3, 9)


def test_the_base_is_the_first_trial_and_points_come_next():
    point = {"training.learning_rate": 5e-3, "model.fusion": "mmtm"}
    declared = search(points=(point,), trials=4)
    sweep, simulation = simulate(declared, MemoryBook())
    simulation.run()
    assert sweep.records[0].params == {"training.learning_rate": 2e-3, "model.fusion": "dsfm", "model.floor": 0.5}
    assert sweep.records[1].params == point
    assert [record.sampled for record in sweep.records] == [False, False, True, True]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("rule", ["none", "asha", "hyperband", "median"])
def test_cut_off_anywhere_it_comes_back_whole(sampler, rule):
    if SAMPLERS[sampler].get("trials") and rule != "asha":
        pytest.skip("the Gaussian process takes seconds; once is enough")
    declared = search(sampler=sampler, stopping=Stopping(rule=rule), **({"trials": 24} | SAMPLERS[sampler]))
    book = MemoryBook()
    for events in (1, 7, 2, 40, 3, 11):  # killed after so many reports
        sweep, simulation = simulate(declared, book, lanes=3)
        before = _said(sweep)
        rebuilt, _ = simulate(declared, book, lanes=3)
        assert _said(rebuilt) == before
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
    assert _said(sweep) == _said(whole)


def test_the_storage_holds_what_the_book_says_and_nothing_of_another_search(tmp_path):
    storage = f"sqlite:///{tmp_path}/optuna.db"
    book, other = MemoryBook(), MemoryBook()
    declared = search(trials=8)
    for events in (9, None):
        sweep, simulation = simulate(declared, book, storage=storage)
        simulation.run(events)
    second, simulation = simulate(replace(declared, name="second", seed=3), other, storage=storage)
    simulation.run()
    for name, has in (("curves", sweep), ("second", second)):
        study = optuna.load_study(study_name=name, storage=storage)
        assert len(study.trials) == 8
        assert [trial.user_attrs["run_id"] for trial in study.trials] == [record.run_id for record in has.records]
        assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        for trial, record in zip(study.trials, has.records, strict=True):
            assert trial.values == list(record.values)


def test_a_storage_that_cannot_be_opened_is_one_clear_line(tmp_path):
    for storage in (f"sqlite:///{tmp_path}/no/such/folder/optuna.db", "nonsense://x"):
        with pytest.raises(InputError, match="Optuna storage"):
            simulate(search(), MemoryBook(), storage=storage)


def test_diverged_runs_are_failed_trials_and_the_search_goes_on():
    def planted(config):
        whole = curve(config)
        digits = int(identify(config)[:8], 16)
        return replace(whole, values=[*whole.values[:2], math.nan]) if digits % 5 == 0 else whole

    book = MemoryBook()
    sweep, simulation = simulate(search(), book, curves=planted)
    assert simulation.run()
    failed = [record for record in sweep.records if record.outcome is TrialOutcome.FAILED]
    assert len(failed) > 2
    for record in failed:
        assert record.reason.startswith("diverged")
        assert sweep.study.trials[record.number].state is TrialState.FAIL
    rebuilt, _ = simulate(search(), book)
    assert _said(rebuilt) == _said(sweep)


def test_a_configuration_that_was_tried_before_costs_nothing():
    space = Space({"model.reduction": Choice(options=(2, 4, 8))})
    sweep, simulation = simulate(search(space=space, trials=12, stopping=Stopping(rule="none")), MemoryBook())
    assert simulation.run()
    assert simulation.epochs <= 3 * EPOCHS
    assert len(sweep.records) == 12
    by_run = {record.run_id: record.values for record in sweep.records}
    assert all(record.values == by_run[record.run_id] for record in sweep.records)


def test_a_configuration_that_is_drawn_again_is_judged_like_the_first_and_never_given_out_twice():
    space = Space({"model.reduction": Choice(options=(2, 4, 8)), "model.fusion": FACTORS["model.fusion"]})
    for rule in ("asha", "hyperband", "median"):
        declared, book = search(space=space, trials=40, stopping=Stopping(rule=rule)), MemoryBook()
        sweep, simulation = simulate(declared, book, lanes=3)
        given: list[str] = []
        plain = sweep.next
        sweep.next = lambda plain=plain, given=given: (draw := plain()) and (given.append(draw.run_id) or draw)
        assert simulation.run()
        assert len(given) == len(set(given)) <= 6
        assert len(sweep.records) == 40
        rebuilt, _ = simulate(declared, book, lanes=3)
        assert rungs_of(rebuilt.study) == rungs_of(sweep.study)
        assert _said(rebuilt) == _said(sweep)


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

    return Crashing


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


def test_what_the_model_refuses_is_a_failed_trial_and_the_search_goes_on():
    space = Space({"model.reduction": Choice(options=(2, 4, 65, 128))})  # DSFM1's block has 64 channels
    sweep, simulation = simulate(search(space=space, trials=20), MemoryBook())
    assert simulation.run()
    refused = [record for record in sweep.records if record.params["model.reduction"] > 64]
    assert refused
    for record in refused:
        assert (record.outcome, record.run_id) == (TrialOutcome.FAILED, "")
        assert "cannot be reduced by" in record.reason

    def no_cost(config):
        if config.model.reduction == 2:
            raise InputError("two cannot be built here")
        return {}

    declared, book = search(space=Space({"model.reduction": Choice(options=(2, 4))}), trials=8), MemoryBook()
    sweep = Sweep(declared, "refused", book, identify, no_cost)
    assert Simulation(sweep, book, curve, METRIC, 1).run()
    assert {record.outcome for record in sweep.records if record.params["model.reduction"] == 2} == {
        TrialOutcome.FAILED
    }


def test_a_metric_that_is_no_number_at_the_end_is_a_failure():
    ends_in_nan = Curve(values=[0.5] * (EPOCHS - 1) + [float("inf")])
    declared = search(trials=3, stopping=Stopping(rule="none"))
    sweep, simulation = simulate(declared, MemoryBook(), curves=lambda config: ends_in_nan)
    simulation.run()
    assert [record.outcome for record in sweep.records] == [TrialOutcome.FAILED] * 3
    assert "is inf" in sweep.records[0].reason


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


def test_a_grown_grid_tries_what_is_new():
    book = MemoryBook()
    for reductions in ((2, 4), (2, 4, 8)):
        space = Space({"model.floor": Choice(options=(0.1, 0.5)), "model.reduction": Choice(options=reductions)})
        sweep, simulation = simulate(search(space=space, sampler="grid", stopping=Stopping(rule="none")), book)
        simulation.run()
    found = {(record.params["model.floor"], record.params["model.reduction"]) for record in sweep.records}
    assert found == {(floor, reduction) for floor in (0.1, 0.5) for reduction in (2, 4, 8)}
    assert len(sweep.records) == 6


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


def test_a_storage_keeps_what_another_folder_has_in_it(tmp_path):
    storage = f"sqlite:///{tmp_path}/optuna.db"
    simulate(search(trials=2), MemoryBook(owner="mine"), storage=storage)
    simulate(search(trials=2), MemoryBook(owner="mine"), storage=storage)
    with pytest.raises(InputError, match="belongs to mine"):
        simulate(search(trials=2), MemoryBook(owner="theirs"), storage=storage)


def test_what_another_study_has_completed_is_taken_from_it():
    declared, book = search(trials=1), MemoryBook()
    run_id = identify(declared.base)
    book.states[run_id] = RunState.COMPLETED
    values = curve(declared.base).values
    book.reports[run_id] = [
        EpochReport(epoch=number, metrics={METRIC: value}, seconds=1.0) for number, value in enumerate(values, start=1)
    ]
    sweep, simulation = simulate(declared, book)
    assert simulation.run()
    assert simulation.epochs == 0
    assert sweep.records[0].values == (values[-1],)


@pytest.mark.parametrize("embedded", [False, True])
def test_a_search_may_learn_from_an_earlier_one(tmp_path, embedded):
    first, simulation = simulate(search(), MemoryBook())
    simulation.run()
    storage = f"sqlite:///{tmp_path}/optuna.db" if embedded else None
    declared, book = search(name="second", seed=5, trials=12), MemoryBook()
    for events in (3, 20, None):  # cut off twice
        second, simulation = simulate(declared, book, earlier=first.records, storage=storage)
        simulation.run(events)
    ended = [record for record in first.records if record.outcome is TrialOutcome.COMPLETE]
    assert second.learnt == len(ended) > 3
    taught = second.study.trials[: second.learnt]
    assert [trial.values for trial in taught] == [list(record.values) for record in ended]
    own = second.study.trials[second.learnt :]
    assert [trial.params for trial in own] == [record.params for record in second.records]
    assert all(trial.state.is_finished() for trial in own)
    cold, simulation = simulate(declared, MemoryBook())
    simulation.run()
    assert [record.params for record in second.records[1:]] != [record.params for record in cold.records[1:]]
    other = replace(declared, base=replace(declared.base, training=replace(declared.base.training, weight_decay=0.3)))
    assert simulate(other, MemoryBook(), earlier=first.records)[0].learnt == 0  # other configurations


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


def test_costs_end_in_a_front():
    declared = search(sampler="nsga2", stopping=Stopping(rule="none"), costs=("flops",), trials=40)
    sweep, simulation = simulate(declared, MemoryBook())
    simulation.run()
    front = sweep.study.best_trials
    assert {trial.values[1] for trial in front} == {100, 200}
    assert all(len(record.values) == 2 for record in sweep.records)


def test_the_selected_epoch_judges_a_trial():
    peaked = Curve(values=[0.2, 0.9, *[0.5] * (EPOCHS - 2)])
    for selection, value in (("last", 0.5), ("best", 0.9), (1, 0.2)):
        declared = search(trials=1)
        declared = replace(
            declared, base=replace(declared.base, training=replace(declared.base.training, selection=selection))
        )
        sweep, simulation = simulate(declared, MemoryBook(), curves=lambda config: peaked)
        simulation.run()
        assert sweep.records[0].values == (value,)


def test_plateaus_are_where_they_are_said_to_be():
    assert plateau(search().config(BEST)) == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"space": Space({"model.floor": Float(low=0.6, high=1.0)})}, "the base is outside the space"),
        ({"space": Space({"model.flor": Float(low=0.6, high=1.0)})}, "did you mean 'floor'"),
        ({"space": Space({"model.reduction": Int(low=2, high=9)}), "sampler": "grid", "trials": 5}, "more than the 5"),
        ({"sampler": "grid"}, "range of real numbers"),
        ({"sampler": "qmc"}, "has conditions or a placement"),
        ({"sampler": "cmaes", "space": Space({"model.fusion": FACTORS["model.fusion"]})}, "cmaes needs numbers"),
        ({"costs": ("flops",)}, "no one best"),
        ({"points": ({"model.floor": 2.0},)}, "floor"),
        ({"points": ({"training.batch_size": 8},)}, "which does not vary"),
        ({"space": Space({"training.epochs": Int(low=1, high=99)})}, "training.epochs cannot vary"),
    ],
)
def test_searches_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        search(**changes)


def test_a_search_needs_a_validation_split():
    declared = search()
    with pytest.raises(InputError, match="judged by validation"):
        declared.override({"data.validation": "none"})
    with pytest.raises(InputError, match="varies model"):
        declared.override({"model.floor": 0.3})
