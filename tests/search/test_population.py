"""Population-based training: the worst go on from better ones' weights, and the course follows from what is written."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from clips import MemoryClips
from curves import METRIC, NUMBERS, POPULATION, curve, population, said, scheduler_of, search, simulate, task_of

from coablate_model.hcn import LAYERS
from coablate_model.placement import RGB_SITES, Site
from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.planning.resolve import prepare_search, resolve
from coablate_platform.results.ranking import best
from coablate_platform.search.population import Population
from coablate_platform.search.simulator import Curve, MemoryTrialLog
from coablate_platform.study.domains import Choice, Float, Int, Placement
from coablate_platform.study.errors import InputError
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import EpochReport, RunState, RunUpdate
from coablate_platform.train.loop import train
from coablate_platform.train.task import Task
from coablate_search_spaces.smoke import STUDY

STREAMS = {"rgb": RGB_SITES, "skeleton": LAYERS}


def test_a_population_keeps_its_size_and_ends_with_it():
    declared, log = population(), MemoryTrialLog()
    scheduler, simulator = simulate(declared, log, lanes=3)
    assert simulator.run()
    outcomes = Counter(record.outcome for record in scheduler.records)
    assert outcomes == {TrialOutcome.COMPLETE: 8, TrialOutcome.PRUNED: 8}  # two at each of four turns
    assert all(trial.state.is_finished() for trial in scheduler.study.trials)
    for record in scheduler.records[8:]:
        parent = scheduler.records[record.origin["parent"]]
        assert log.begun[record.run_id] == record.origin["epoch"]
        assert parent.number < record.number
        assert parent.run_id != record.run_id
    last = {record.epoch for record in scheduler.records if record.outcome is TrialOutcome.COMPLETE}
    assert last == {declared.base.training.epochs}


def test_a_new_member_has_its_parent_s_values_perturbed():
    declared = population()
    scheduler, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    for record in scheduler.records[8:]:
        parent, origin = scheduler.records[record.origin["parent"]], record.origin
        perturbed = Population(declared).perturbed(parent.params, origin["epoch"], origin["slot"])
        declared.space.suggest(perturbed)
        assert record.params == perturbed.params
        assert record.params["training.learning_rate"] != parent.params["training.learning_rate"]
        assert record.sampler == ""


class Strict(MemoryTrialLog):
    """Knows no run without an id."""

    def epochs(self, run_id: str) -> list[EpochReport]:
        assert run_id
        return super().epochs(run_id)


def test_members_that_the_model_refuses_are_replaced_too():
    space = Space({"model.reduction": Choice(options=(2, 4, 65))})  # DSFM1's block has 64 channels
    scheduler, simulator = simulate(population(space=space), Strict())
    assert simulator.run()
    refused = [record for record in scheduler.records if record.params["model.reduction"] == 65]
    assert refused
    assert {record.outcome for record in refused} == {TrialOutcome.FAILED}
    outcomes = Counter(record.outcome for record in scheduler.records)
    assert outcomes[TrialOutcome.COMPLETE] >= 7  # one that is replaced at the last pause may be refused


def test_a_trial_that_is_refused_while_the_others_wait_lets_them_go_on():
    def refuses(config):
        if config.model.reduction == 2:
            raise InputError("two cannot be built here")
        return {}

    space = Space({"model.reduction": Choice(options=(2, 4))})
    rule = Stopping(rule="pbt", grace=1, reduction=2)
    declared = population(trials=2, space=space, points=({"model.reduction": 2},), stopping=rule)
    log = MemoryTrialLog()
    scheduler = scheduler_of(declared, log, cost=refuses)
    first = scheduler.next()
    log.reports[first.run_id] = [EpochReport(epoch=1, metrics={METRIC: 0.5}, seconds=1.0)]
    assert scheduler.report(first.run_id, RunUpdate.of_epoch(log.reports[first.run_id][0]))
    assert {scheduler.next().run_id for _ in range(2)} == {scheduler.records[number].run_id for number in (0, 2)}
    assert scheduler.records[1].outcome is TrialOutcome.FAILED


def test_a_member_s_run_is_known_by_its_configuration_its_place_and_whose_weights_it_continues():
    declared = population()
    scheduler, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    for record in scheduler.records:
        parent = scheduler.records[record.origin["parent"]].run_id if "parent" in record.origin else ""
        lineage = (declared.name, parent, record.origin["epoch"], record.origin["slot"])
        assert record.run_id == task_of(scheduler.config(record), lineage).run_id
    assert [record.origin for record in scheduler.records[:8]] == [{"epoch": 0, "slot": slot} for slot in range(8)]


class Hand:
    """A scheduler of two members, compared after each ``grace`` epochs, worked off by hand."""

    def __init__(self, log: MemoryTrialLog, grace: int = 1) -> None:
        self.declared = population(trials=2, stopping=Stopping(rule="pbt", grace=grace, reduction=2))
        self.log = log
        self.scheduler, _ = simulate(self.declared, log)

    def trains(self, run_id: str, value: float) -> None:
        """The lane writes an epoch down; nobody has heard of it yet."""
        epoch = MemoryTrialLog.reached(self.log, run_id) + 1
        report = EpochReport(epoch=epoch, metrics={METRIC: value}, seconds=1.0)
        self.log.reports.setdefault(run_id, []).append(report)

    def tells(self, run_id: str) -> bool:
        said = self.log.epochs(run_id)[-1]
        return self.scheduler.report(run_id, RunUpdate.of_epoch(said))

    def fails(self, run_id: str) -> None:
        self.log.states[run_id] = RunState.DIVERGED
        self.scheduler.report(run_id, RunUpdate(state=RunState.DIVERGED, reason="nan"))


def test_a_population_is_exhausted_when_no_member_can_come_any_more():
    hand = Hand(MemoryTrialLog(), grace=14)  # one pause in 27 epochs
    first, second = hand.scheduler.next(), hand.scheduler.next()
    assert not hand.scheduler.exhausted
    hand.fails(first.run_id)
    assert not hand.scheduler.exhausted  # the other one's copy replaces it
    for epoch in range(14):
        hand.trains(second.run_id, epoch / 14)
    assert hand.tells(second.run_id)
    assert not hand.scheduler.exhausted
    assert {hand.scheduler.next().run_id for _ in range(2)} == {record.run_id for record in hand.scheduler.records[1:]}
    assert hand.scheduler.exhausted  # although both train


def test_a_population_of_failed_members_is_exhausted():
    hand = Hand(MemoryTrialLog())
    for task in (hand.scheduler.next(), hand.scheduler.next()):
        assert not hand.scheduler.exhausted
        hand.fails(task.run_id)
    assert hand.scheduler.exhausted


@pytest.mark.parametrize("values", [(0.2, 0.4), (0.4, 0.2)], ids=["the late one stays", "the late one is replaced"])
def test_a_member_has_come_when_it_says_so_not_when_it_is_written(values):
    hand = Hand(MemoryTrialLog())
    first, second = hand.scheduler.next(), hand.scheduler.next()
    for task, value in zip((first, second), values, strict=True):
        hand.trains(task.run_id, value)
    assert hand.tells(first.run_id)
    assert len(hand.scheduler.records) == 2
    assert hand.scheduler.next() is None
    assert not hand.scheduler.exhausted
    assert hand.tells(second.run_id)
    worse = min((0, 1), key=lambda number: values[number])
    assert hand.scheduler.records[worse].outcome is TrialOutcome.PRUNED
    assert hand.scheduler.records[2].origin == {"epoch": 1, "slot": 0, "parent": 1 - worse}


class Lagging(MemoryTrialLog):
    """A run was killed between its report and its checkpoint."""

    lags: str = ""

    def reached(self, run_id: str) -> int:
        return super().reached(run_id) - (run_id == self.lags)


def test_a_member_whose_checkpoint_lags_behind_its_report_trains_that_epoch_again_first():
    log = Lagging()
    hand = Hand(log)
    first, second = hand.scheduler.next(), hand.scheduler.next()
    hand.trains(first.run_id, 0.2)
    assert hand.tells(first.run_id)
    hand.trains(second.run_id, 0.4)
    log.lags = second.run_id
    again = Hand(log)  # after a kill
    assert len(again.scheduler.records) == 2
    assert again.scheduler.next().run_id == second.run_id
    assert again.scheduler.next() is None
    log.lags = ""
    assert again.tells(second.run_id)  # the same epoch, the same value
    assert again.scheduler.records[0].outcome is TrialOutcome.PRUNED
    assert {again.scheduler.next().run_id for _ in range(2)} == {r.run_id for r in again.scheduler.records[1:3]}


def test_what_a_member_reported_after_its_checkpoint_does_not_count():
    log = Lagging()
    hand = Hand(log)
    first, second = hand.scheduler.next(), hand.scheduler.next()
    for task, value in ((first, 0.2), (second, 0.4)):
        hand.trains(task.run_id, value)
        assert hand.tells(task.run_id)
    child = next(task for task in (hand.scheduler.next(), hand.scheduler.next()) if task.run_id != second.run_id)
    hand.trains(child.run_id, 0.3)
    assert hand.tells(child.run_id)
    hand.trains(second.run_id, 0.1)
    log.lags = second.run_id
    again = Hand(log)  # after a kill
    assert len(again.scheduler.records) == 3
    assert again.scheduler.next().run_id == second.run_id


def test_a_lost_member_is_missed():
    log = MemoryTrialLog()
    simulate(population(), log)[1].run()
    del log.records[3]
    with pytest.raises(InputError, match="trial 3 of the population is gone"):
        simulate(population(), log)


def test_of_equal_configurations_one_is_among_the_best():
    declared = population(space=Space({"model.fusion": Choice(options=("dsfm", "mmtm"))}))
    scheduler, simulator = simulate(declared, MemoryTrialLog())
    simulator.run()
    chosen = best((), scheduler.records, 5)
    assert len(chosen) == len({str(trial.config) for trial in chosen}) <= 2
    found = {str(trial.number): scheduler.config(trial) for trial in chosen}
    declared.confirmation({name: config for name, config in found.items() if config != declared.base})


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_neither_lanes_nor_being_cut_off_change_its_course(sampler):
    declared = population(sampler=sampler, **({"space": Space(NUMBERS)} if sampler == "qmc" else {}))
    whole, simulator = simulate(declared, MemoryTrialLog(), lanes=8)
    simulator.run()
    for lanes in (1, 3):
        log = MemoryTrialLog()
        for events in (1, 7, 46, 2, 60, 11, 3, None):
            scheduler, simulator = simulate(declared, log, lanes=lanes)
            simulator.run(events)
        assert [(r.params, r.origin, r.outcome, r.values) for r in scheduler.records] == [
            (r.params, r.origin, r.outcome, r.values) for r in whole.records
        ]
        rebuilt, _ = simulate(declared, log, lanes=lanes)
        assert said(rebuilt) == said(scheduler)


def test_diverged_members_make_room():
    seen = Counter()

    def sometimes(config):
        values = list(curve(config).values)
        seen["runs"] += 1
        if config.training.learning_rate > 2e-2:
            values[3] = float("nan")
        return Curve(values=values)

    scheduler, simulator = simulate(population(trials=12), MemoryTrialLog(), lanes=4, curves=sometimes)
    assert simulator.run()
    outcomes = Counter(record.outcome for record in scheduler.records)
    assert outcomes[TrialOutcome.FAILED] > 0
    assert outcomes[TrialOutcome.COMPLETE] == 12


def test_where_every_member_fails_the_search_ends():
    scheduler, simulator = simulate(
        population(), MemoryTrialLog(), curves=lambda config: Curve(values=[float("nan")] * 27), lanes=2
    )
    assert simulator.run()
    assert {record.outcome for record in scheduler.records} == {TrialOutcome.FAILED}
    assert len(scheduler.records) == 8


def test_its_runs_are_nobody_else_s():
    log = MemoryTrialLog()
    plain, simulator = simulate(search(trials=4, sampler="random", stopping=Stopping(rule="none")), log)
    simulator.run()
    renewed, simulator = simulate(population(trials=4), MemoryTrialLog())
    simulator.run(1)
    assert {r.config["training"]["learning_rate"] for r in renewed.records} & {
        r.config["training"]["learning_rate"] for r in plain.records
    }
    assert not {r.run_id for r in renewed.records} & {r.run_id for r in plain.records}
    assert all(log.state(r.run_id) is RunState.COMPLETED for r in plain.records)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 1}, "expected at least 2"),
        ({"stopping": replace(POPULATION, grace=27)}, "stopping.grace must be smaller"),
        ({"costs": ("flops",)}, "no single best"),
        ({"space": Space({"training.optimiser": Choice(options=("adamw", "sgd"))})}, "training.optimiser cannot vary"),
        ({"base": apply_changes(search().base, {"training.selection": 20})}, "training.selection must be 'last'"),
        ({"sampler": "grid", "space": Space({"model.reduction": Choice(options=(2, 4))})}, "a grid cannot"),
    ],
)
def test_populations_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        population(**changes)


@pytest.mark.parametrize(
    ("factor", "domain", "fits"),
    [
        ("training.learning_rate", Float(low=1e-4, high=1e-2), True),
        ("model.floor", Float(low=0.0, high=1.0), True),
        ("model.width", Choice(options=(0.125, 0.5)), False),
        ("model.fusion", Choice(options=("dsfm", "mmtm")), False),
        (
            "model.placement",
            Placement(site=Site, streams=STREAMS, most=1, fields={"channels": Int(low=16, high=64)}),
            False,
        ),
    ],
    ids=str,
)
def test_what_changes_the_weights_cannot_vary(store, factor, domain, fits):
    sites = {"model.placement": ()} if factor == "model.placement" else {}
    base = apply_changes(STUDY.base, {"training.epochs": 27, **sites})
    declared = resolve(population(base=base, space=Space({factor: domain})), store)
    if fits:
        first, second = (prepare_search(replace(declared, trials=trials), store, {}) for trials in (8, 9))
        assert first.plan.key != second.plan.key  # another population
        return
    with pytest.raises(InputError, match=f"factor {factor} changes the network's"):
        prepare_search(declared, store, {})


def trained(checkpoints: Checkpoints, epochs: int, **changes) -> list:
    small = {"model.streams": ("skeleton",), "model.tiam": "none", "data.validation": "none"}
    config = apply_changes(STUDY.base, {"training.epochs": epochs, "training.batch_size": 4, **small, **changes})
    task = Task(run_id="x", config=config, seed=(0, 0))
    events = train(task, MemoryClips(validation=0), checkpoints, lambda report: None, torch.device("cpu"))
    found = [next(events) for _ in range(epochs - (checkpoints.load() or {"epoch": 0})["epoch"])]
    events.close()
    return found


def test_a_run_goes_on_from_another_s_weights_with_rates_of_its_own(tmp_path):
    parent, child = Checkpoints(str(tmp_path / "parent")), Checkpoints(str(tmp_path / "child"))
    trained(parent, 2)
    child.copy_from(parent)
    before = child.load()["model"]
    still = {"training.learning_rate": 1e-12, "training.weight_decay": 0.5, "training.schedule": "constant"}
    reports = trained(child, 3, **still)
    assert [report.epoch for report in reports] == [3]
    after = child.load()
    moved = [
        name
        for name, tensor in after["model"].items()
        if tensor.is_floating_point() and "running" not in name and not torch.allclose(tensor, before[name], atol=1e-6)
    ]
    assert not moved
    assert {group["weight_decay"] for group in after["optimisers"][0]["param_groups"]} == {0.5}
    assert parent.load()["epoch"] == 2


def test_nobody_goes_on_from_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint to continue from"):
        Checkpoints(str(tmp_path / "child")).copy_from(Checkpoints(str(tmp_path / "nobody")))
