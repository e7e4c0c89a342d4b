"""Searches on known curves: they find the best, stop the hopeless, and come back whole after being cut off anywhere."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from curves import BEST, EPOCHS, FACTORS, METRIC, NUMBERS, SAMPLERS, curve, identify, plateau, said, search, simulate
from optuna.trial import TrialState

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.search.samplers import rungs_of
from coablate_platform.search.scheduler import Sweep
from coablate_platform.search.simulator import Curve, MemoryBook, Simulation
from coablate_platform.study.domains import Choice, Float, Int
from coablate_platform.study.errors import InputError
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space
from coablate_platform.train.events import EpochReport, RunState


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
    assert said(first[0]) == said(second[0])
    other, simulation = simulate(replace(declared, seed=1), MemoryBook())
    simulation.run()
    assert (said(other) == said(first[0])) == (sampler == "grid")
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
    assert [record.sampler for record in sweep.records] == ["", "", "tpe", "tpe"]


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
    assert said(rebuilt) == said(sweep)


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
        assert said(rebuilt) == said(sweep)


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
        ({"sampler": "gp", "space": Space(NUMBERS)}, "gp learns only from trials that came to their end.*--grace 27"),
        ({"sampler": "nsga2"}, "nsga2 learns only from trials that came to their end, of which stopping 'asha' leaves"),
        ({"costs": ("flops",)}, "no one best"),
        ({"points": ({"model.floor": 2.0},)}, "floor"),
        ({"points": ({"training.batch_size": 8},)}, "which does not vary"),
        ({"space": Space({"training.epochs": Int(low=1, high=99)})}, "training.epochs cannot vary"),
        ({"space": Space({"model.fusion": Choice(options=("dsfm", "mtmm"))})}, "factor model.fusion.*'mtmm'"),
        ({"space": Space({"model.reduction": Float(low=1.0, high=8.0)})}, "factor model.reduction.*fractional"),
    ],
)
def test_searches_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        search(**changes)


def test_a_sampler_that_learns_from_the_end_may_draw_where_all_come_to_it():
    rule = Stopping(rule="asha", grace=EPOCHS)
    sweep, simulation = simulate(search(sampler="cmaes", space=Space(NUMBERS), stopping=rule, trials=12), MemoryBook())
    simulation.run()
    assert {record.outcome for record in sweep.records} == {TrialOutcome.COMPLETE}


def test_while_nothing_has_come_to_its_end_every_draw_is_another():
    def curves(config):
        return Curve(values=[math.nan]) if config.training.learning_rate > 6e-4 else curve(config)

    declared = search(sampler="qmc", space=Space(NUMBERS), trials=20)
    sweep, simulation = simulate(declared, MemoryBook(), lanes=1, curves=curves)
    simulation.run()
    assert len({str(record.params) for record in sweep.records}) == 20


def test_a_search_needs_a_validation_split():
    declared = search()
    with pytest.raises(InputError, match="judged by validation"):
        declared.override({"data.validation": "none"})
    with pytest.raises(InputError, match="varies model"):
        declared.override({"model.floor": 0.3})
