"""Searches on known curves: they find the best, stop the hopeless, and come back whole after being cut off anywhere."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from curves import (
    BEST,
    EPOCHS,
    FACTORS,
    METRIC,
    NUMBERS,
    SAMPLERS,
    cost,
    curve,
    identify,
    plateau,
    said,
    scheduler_of,
    search,
    simulate,
)
from optuna.distributions import distribution_to_json
from optuna.trial import TrialState

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.search.samplers import rungs_of
from coablate_platform.search.simulator import Curve, MemoryTrialLog, Simulator
from coablate_platform.study.domains import Choice, Float, Int
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space
from coablate_platform.train.events import EpochReport, RunState


def _value(log: MemoryTrialLog, record) -> float:
    return log.epochs(record.run_id)[record.epoch - 1].metrics[METRIC]


@pytest.mark.parametrize("rule", ["none", "asha", "asha_promotion", "hyperband", "median"])
def test_every_rule_ends_with_all_trials_and_none_left_running(rule):
    log = MemoryTrialLog()
    scheduler, simulator = simulate(search(stopping=Stopping(rule=rule)), log)
    assert simulator.run()
    outcomes = Counter(record.outcome for record in scheduler.records)
    assert sum(outcomes.values()) == 60
    assert set(outcomes) == (
        {TrialOutcome.COMPLETE} if rule == "none" else {TrialOutcome.COMPLETE, TrialOutcome.PRUNED}
    )
    assert (simulator.epochs == 60 * EPOCHS) == (rule == "none")
    assert simulate(search(stopping=Stopping(rule=rule)), log)[0].exhausted  # as it is read back
    states = Counter(trial.state for trial in scheduler.study.trials)
    assert states == {TrialState[outcome.name]: count for outcome, count in outcomes.items()}
    for record in scheduler.records:
        assert record.values[0] == _value(log, record)
        assert log.state(record.run_id) is (
            RunState.COMPLETED if record.outcome is TrialOutcome.COMPLETE else RunState.STOPPED
        )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_reproducible_and_finds_something_better_than_the_base(sampler):
    declared = search(sampler=sampler, **({"stopping": Stopping(rule="none")} | SAMPLERS[sampler]))
    first, second = [simulate(declared, MemoryTrialLog()) for _ in range(2)]
    for scheduler, simulator in (first, second):
        assert simulator.run()
        assert len(scheduler.records) == declared.trial_count == scheduler.most
    assert said(first[0]) == said(second[0])
    other, simulator = simulate(replace(declared, seed=1), MemoryTrialLog())
    simulator.run()
    assert (said(other) == said(first[0])) == (sampler == "grid")
    if sampler == "gp":
        return  # after ten random trials its own are few
    best = max(record.values[0] for record in first[0].records)
    assert best > first[0].records[0].values[0]
    assert best > 0.94 * (1 - math.exp(-EPOCHS / 4))


def test_asha_spends_less_and_keeps_the_best():
    whole, stopped = (simulate(search(stopping=Stopping(rule=rule)), MemoryTrialLog()) for rule in ("none", "asha"))
    for _, simulator in (whole, stopped):
        simulator.run()
    assert stopped[1].epochs < 0.45 * whole[1].epochs
    best = max((r for r in stopped[0].records if r.outcome is TrialOutcome.COMPLETE), key=lambda r: r.values)
    assert abs(math.log10(best.params["training.learning_rate"] / BEST["training.learning_rate"])) < 0.35


def test_the_rungs_hold_what_successive_halving_says():
    log = MemoryTrialLog()
    scheduler, simulator = simulate(search(), log)
    simulator.run()
    rungs = rungs_of(scheduler.study)
    assert sorted(rungs) == [0, 1, 2, 3]  # epochs 1, 3, 9, 27
    for rung, values in rungs.items():
        for number, value in values.items():
            assert value == log.epochs(scheduler.records[number].run_id)[3**rung - 1].metrics[METRIC]
    for record in scheduler.records:
        if record.outcome is TrialOutcome.PRUNED:
            assert record.epoch in (1, 3, 9)


def test_the_base_is_the_first_trial_and_points_come_next():
    point = {"training.learning_rate": 5e-3, "model.fusion": "mmtm"}
    declared = search(points=(point,), trials=4)
    scheduler, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    assert scheduler.records[0].params == {"training.learning_rate": 2e-3, "model.fusion": "dsfm", "model.floor": 0.5}
    assert scheduler.records[1].params == point
    assert [record.sampler for record in scheduler.records] == ["", "", "tpe", "tpe"]


def test_a_trial_s_record_says_what_was_suggested_from_what_and_what_it_costs():
    scheduler, simulator = simulate(search(trials=3), MemoryTrialLog())
    simulator.run()
    for record in scheduler.records:
        config = scheduler.config(record)
        trial = scheduler.study.trials[record.number]
        assert record.params == trial.params
        assert record.ranges == {name: distribution_to_json(found) for name, found in trial.distributions.items()}
        assert record.changes == record.params  # each factor is one parameter
        assert record.config == canonical(config)
        assert record.cost == cost(config)


@dataclass(kw_only=True)
class Counting(MemoryTrialLog):
    """Counts how often the scheduler reads what a run has reported."""

    reads: Counter[str] = field(default_factory=Counter)

    def epochs(self, run_id: str) -> list[EpochReport]:
        self.reads[run_id] += 1
        return super().epochs(run_id)

    def reached(self, run_id: str) -> int:
        return len(self.reports.get(run_id, []))  # the simulator's own question


def test_what_a_run_has_reported_is_read_once():
    log = Counting()
    scheduler, simulator = simulate(search(trials=8), log)
    simulator.run()
    assert log.reads == Counter({record.run_id: 1 for record in scheduler.records})


def test_diverged_runs_are_failed_trials_and_the_search_goes_on():
    def planted(config):
        whole = curve(config)
        digits = int(identify(config)[:8], 16)
        return replace(whole, values=[*whole.values[:2], math.nan]) if digits % 4 == 0 else whole

    log = MemoryTrialLog()
    scheduler, simulator = simulate(search(), log, curves=planted)
    assert simulator.run()
    failed = [record for record in scheduler.records if record.outcome is TrialOutcome.FAILED]
    assert len(failed) > 2
    for record in failed:
        assert record.reason == "diverged: the loss became nan"
        assert record.epoch == 2  # the last one that was judged
        assert scheduler.study.trials[record.number].state is TrialState.FAIL
    rebuilt, _ = simulate(search(), log)
    assert said(rebuilt) == said(scheduler)


def test_a_configuration_that_was_tried_before_costs_nothing():
    space = Space({"model.reduction": Choice(options=(2, 4, 8))})
    scheduler, simulator = simulate(search(space=space, trials=12, stopping=Stopping(rule="none")), MemoryTrialLog())
    assert simulator.run()
    assert simulator.epochs <= 3 * EPOCHS
    assert len(scheduler.records) == 12
    by_run = {record.run_id: record.values for record in scheduler.records}
    assert all(record.values == by_run[record.run_id] for record in scheduler.records)


def test_a_configuration_that_is_drawn_again_is_judged_like_the_first_and_never_given_out_twice():
    space = Space({"model.reduction": Choice(options=(2, 4, 8)), "model.fusion": FACTORS["model.fusion"]})
    for rule in ("asha", "hyperband", "median"):
        declared, log = search(space=space, trials=40, stopping=Stopping(rule=rule)), MemoryTrialLog()
        scheduler, simulator = simulate(declared, log, lanes=3)
        given: list[str] = []
        plain = scheduler.next
        scheduler.next = lambda plain=plain, given=given: (task := plain()) and (given.append(task.run_id) or task)
        assert simulator.run()
        assert len(given) == len(set(given)) <= 6
        assert len(scheduler.records) == 40
        rebuilt, _ = simulate(declared, log, lanes=3)
        assert rungs_of(rebuilt.study) == rungs_of(scheduler.study)
        assert said(rebuilt) == said(scheduler)


def test_what_the_model_refuses_is_a_failed_trial_and_the_search_goes_on():
    space = Space({"model.reduction": Choice(options=(2, 4, 65, 128))})  # DSFM1's block has 64 channels
    scheduler, simulator = simulate(search(space=space, trials=20), MemoryTrialLog())
    assert simulator.run()
    refused = [record for record in scheduler.records if record.params["model.reduction"] > 64]
    assert refused
    for record in refused:
        assert (record.outcome, record.run_id) == (TrialOutcome.FAILED, "")
        assert "cannot be reduced by" in record.reason

    def no_cost(config):
        if config.model.reduction == 2:
            raise InputError("two cannot be built here")
        return {}

    declared, log = search(space=Space({"model.reduction": Choice(options=(2, 4))}), trials=8), MemoryTrialLog()
    scheduler = scheduler_of(declared, log, cost=no_cost)
    assert Simulator(scheduler, log, curve, METRIC, 1).run()
    assert {record.outcome for record in scheduler.records if record.params["model.reduction"] == 2} == {
        TrialOutcome.FAILED
    }


def test_a_metric_that_is_no_number_at_the_end_is_a_failure():
    ends_in_nan = Curve(values=[0.5] * (EPOCHS - 1) + [float("inf")])
    declared = search(trials=3, stopping=Stopping(rule="none"))
    scheduler, simulator = simulate(declared, MemoryTrialLog(), curves=lambda config: ends_in_nan)
    simulator.run()
    assert [(record.outcome, record.epoch) for record in scheduler.records] == [(TrialOutcome.FAILED, EPOCHS)] * 3
    assert "is inf" in scheduler.records[0].reason


def test_what_another_study_has_completed_is_taken_from_it():
    declared, log = search(trials=1), MemoryTrialLog()
    run_id = identify(declared.base)
    log.states[run_id] = RunState.COMPLETED
    values = curve(declared.base).values
    log.reports[run_id] = [
        EpochReport(epoch=number, metrics={METRIC: value}, seconds=1.0) for number, value in enumerate(values, start=1)
    ]
    scheduler, simulator = simulate(declared, log)
    assert simulator.run()
    assert simulator.epochs == 0
    assert scheduler.records[0].values == (values[-1],)


@pytest.mark.parametrize("embedded", [False, True])
def test_a_search_may_learn_from_an_earlier_one(tmp_path, embedded):
    first, simulator = simulate(search(), MemoryTrialLog())
    simulator.run()
    storage = f"sqlite:///{tmp_path}/optuna.db" if embedded else None
    declared, log = search(name="second", seed=5, trials=12), MemoryTrialLog()
    for events in (3, 20, None):  # cut off twice
        second, simulator = simulate(declared, log, earlier=first.records, storage=storage)
        simulator.run(events)
    ended = [record for record in first.records if record.outcome is TrialOutcome.COMPLETE]
    assert second.learnt == len(ended) >= 3
    taught = second.study.trials[: second.learnt]
    assert [trial.values for trial in taught] == [list(record.values) for record in ended]
    own = second.study.trials[second.learnt :]
    assert [trial.params for trial in own] == [record.params for record in second.records]
    assert all(trial.state.is_finished() for trial in own)
    cold, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    assert [record.params for record in second.records[1:]] != [record.params for record in cold.records[1:]]
    other = replace(declared, base=replace(declared.base, training=replace(declared.base.training, weight_decay=0.3)))
    assert simulate(other, MemoryTrialLog(), earlier=first.records)[0].learnt == 0  # other configurations


def test_costs_end_in_a_front():
    declared = search(sampler="nsga2", stopping=Stopping(rule="none"), costs=("flops",), trials=40)
    scheduler, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    front = scheduler.study.best_trials
    assert {trial.values[1] for trial in front} == {100, 200}
    assert all(len(record.values) == 2 for record in scheduler.records)


def test_the_selected_epoch_judges_a_trial():
    peaked = Curve(values=[0.2, 0.9, *[0.5] * (EPOCHS - 2)])
    for selection, value in (("last", 0.5), ("best", 0.9), (1, 0.2)):
        declared = search(trials=1)
        declared = replace(
            declared, base=replace(declared.base, training=replace(declared.base.training, selection=selection))
        )
        scheduler, simulator = simulate(declared, MemoryTrialLog(), curves=lambda config: peaked)
        simulator.run()
        assert scheduler.records[0].values == (value,)


def test_plateaus_are_where_they_are_said_to_be():
    assert plateau(search().config(BEST)) == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "trials=0: expected a whole number of at least 1"),
        ({"space": Space({"model.floor": Float(low=0.6, high=1.0)})}, "the base is outside the space"),
        ({"space": Space({"model.flor": Float(low=0.6, high=1.0)})}, "did you mean 'floor'"),
        ({"space": Space({"model.reduction": Int(low=2, high=9)}), "sampler": "grid", "trials": 5}, "more than the 5"),
        ({"sampler": "grid"}, "range of real numbers"),
        ({"sampler": "qmc"}, "has conditions or a placement"),
        ({"sampler": "cmaes", "space": Space({"model.fusion": FACTORS["model.fusion"]})}, "cmaes needs numbers"),
        (
            {"sampler": "gp", "space": Space(NUMBERS), "stopping": Stopping(rule="median")},
            "gp learns only from completed trials.*--grace 27",
        ),
        ({"sampler": "nsga2"}, "nsga2 learns only from completed trials, of which stopping rule 'asha' leaves"),
        ({"costs": ("flops",)}, "no single best"),
        ({"points": ({"model.floor": 2.0},)}, "floor"),
        ({"points": ({"training.batch_size": 8},)}, "point 1 sets 'training.batch_size', which is not a factor"),
        ({"points": ({},)}, "point 1 is the same configuration as the base"),
        ({"space": Space({"training.epochs": Int(low=1, high=99)})}, "training.epochs cannot vary"),
        ({"space": Space({"model.fusion": Choice(options=("dsfm", "mtmm"))})}, "factor model.fusion.*'mtmm'"),
        (
            {"space": Space({"model.reduction": Float(low=1.0, high=8.0)})},
            "factor model.reduction.*expected a whole number",
        ),
    ],
)
def test_searches_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        search(**changes)


def test_a_sampler_that_learns_from_the_end_may_draw_where_all_come_to_it():
    rule = Stopping(rule="asha", grace=EPOCHS)
    scheduler, simulator = simulate(
        search(sampler="cmaes", space=Space(NUMBERS), stopping=rule, trials=12), MemoryTrialLog()
    )
    simulator.run()
    assert {record.outcome for record in scheduler.records} == {TrialOutcome.COMPLETE}


def test_while_nothing_has_come_to_its_end_every_draw_is_another():
    def curves(config):
        return Curve(values=[math.nan]) if config.training.learning_rate > 6e-4 else curve(config)

    declared = search(sampler="qmc", space=Space(NUMBERS), trials=20)
    scheduler, simulator = simulate(declared, MemoryTrialLog(), lanes=1, curves=curves)
    simulator.run()
    assert len({str(record.params) for record in scheduler.records}) == 20


def test_a_search_needs_a_validation_split():
    declared = search()
    with pytest.raises(InputError, match="compared on the validation split"):
        declared.override({"data.validation": "none"})
    with pytest.raises(InputError, match="varies model"):
        declared.override({"model.floor": 0.3})
