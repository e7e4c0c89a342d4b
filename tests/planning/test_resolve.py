"""What a plan says of a study or a search, and what must change for its key and its runs' ids to change."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest
from faulty_study import Faulty
from torch import nn

from coablate_model.hcn import LAYERS
from coablate_model.placement import RGB_SITES, Site
from coablate_platform.data.clips import clips_of
from coablate_platform.data.protocols import PROTOCOLS, Rule
from coablate_platform.planning.resolve import prepare_search, prepare_study, resolve, task_of, trial_task
from coablate_platform.study.component import Component
from coablate_platform.study.config import DataConfig
from coablate_platform.study.contrasts import Contrast
from coablate_platform.study.domains import Choice, Float, Int, Placement, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical, run_id
from coablate_platform.study.model import ClipShape
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.plan import PlannedContrast, SearchPlan, StudyPlan, plan_from_json
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space
from coablate_platform.study.study import Arm, Study
from coablate_platform.train.provenance import origin_of
from coablate_search_spaces.smoke import STUDY

BASE = apply_changes(STUDY.base, {"model.streams": ("skeleton",), "model.tiam": "none", "training.epochs": 9})
DECAY = {"training.weight_decay": 0.5}
SPACE = Space({"training.learning_rate": Float(low=1e-4, high=1e-1, log=True), "model.floor": Float(low=0.0, high=1.0)})
COMMAND = {"data": "/d"}


def study(**changes: Any) -> Study:
    arms = (Arm(name="plain", changes={}), Arm(name="decay", changes=DECAY, published={"utd/cs": 93.5}))
    declared = {"name": "s", "title": "T", "base": BASE, "arms": arms, "reference": "plain", "seeds": 2, "seed": 5}
    return Study(**(declared | changes))


def search(**changes: Any) -> Search:
    declared = {"name": "s", "title": "T", "base": BASE, "space": SPACE, "trials": 12, "sampler": "random", "seed": 5}
    return Search(**(declared | changes))


def changed(**changes: Any) -> Any:
    """The base with changes; ``data__protocol`` is ``data.protocol``."""
    return apply_changes(BASE, {name.replace("__", "."): value for name, value in changes.items()})


def planned(declared: Study, store, **options: Any) -> StudyPlan:
    return prepare_study(resolve(declared, store), store, COMMAND, **options).plan


def searched(declared: Search, store) -> SearchPlan:
    return prepare_search(resolve(declared, store), store, COMMAND).plan


# the protocol


@pytest.mark.parametrize("declare", [study, search])
def test_the_protocol_is_the_store_s_unless_one_is_named(store, declare):
    assert resolve(declare(), store).base == changed(data__protocol="utd/cs")
    few = declare(base=changed(data__protocol="utd/few"))
    assert resolve(few, store) == few


def test_an_arm_that_brings_its_whole_data_gets_the_protocol_too(store):
    data = DataConfig(skeleton_frames=8, frames=8, size=32)
    arms = (*study().arms, Arm(name="short", changes={"data": data, **DECAY}))
    resolved = resolve(study(arms=arms), store)
    assert resolved.arms[:2] == arms[:2]
    assert resolved.arms[2] == Arm(name="short", changes={"data": replace(data, protocol="utd/cs"), **DECAY})


def test_a_protocol_of_another_source_is_refused_with_those_of_the_store_s(store):
    said = rf"protocol ucla/cv divides nw_ucla data; {re.escape(store.uri)} holds utd_mhad \(its protocols: utd/cs, "
    with pytest.raises(InputError, match=said):
        resolve(study(base=changed(data__protocol="ucla/cv")), store)


def test_a_store_without_validation_clips_is_refused_where_they_are_needed(tmp_path, make_store, make_reader):
    two = make_store(tmp_path / "two", make_reader(clips=2))  # subjects 1 and 2, of whom none validates
    with pytest.raises(InputError, match=r"protocol utd/cs: the store has no validation clips \(\{'train': 1, 'val"):
        resolve(study(), two)
    assert resolve(study(base=changed(data__validation="none")), two)


# a study


def test_a_study_s_runs_come_seed_block_by_seed_block(store):
    prepared = prepare_study(resolve(study(first_seed=3), store), store, COMMAND)
    runs, tasks = prepared.plan.runs, prepared.tasks
    assert [(run.arm, run.seed) for run in runs] == [("plain", 3), ("decay", 3), ("plain", 4), ("decay", 4)]
    assert [run.run_id for run in runs] == [task.run_id for task in tasks]
    assert len({run.run_id for run in runs}) == 4
    for run, task in zip(runs, tasks, strict=True):
        config = prepared.study.config(prepared.study.arm(run.arm))
        assert task == task_of(config, store.fingerprint, (5, run.seed))


def test_a_run_is_its_configuration_its_data_its_seeds_and_what_it_continues():
    task = task_of(BASE, "f" * 64, (5, 3), ("parent", 7))
    assert task.run_id == run_id(BASE, "f" * 64, (5, 3), ("parent", 7))
    assert (task.config, task.seed, task.origin) == (BASE, (5, 3), origin_of(BASE))
    assert task_of(BASE, "f" * 64, (5, 3)).run_id == run_id(BASE, "f" * 64, (5, 3))


def test_a_study_s_plan_says_what_its_table_needs(store):
    plan = planned(study(), store, confirms="s-0a1b2c")
    assert (plan.name, plan.title, plan.metric, plan.selection) == ("s", "T", "accuracy", "last")
    assert (plan.protocol, plan.reference, plan.confirms) == ("utd/cs", "plain", "s-0a1b2c")
    assert plan.command == COMMAND
    own = {"uri": store.uri, "fingerprint": store.fingerprint, "source": "utd_mhad", "classes": 3, "test_subjects": 4}
    assert plan.data == own | {"train": 15, "validation": 5, "test": 20}
    plain, decay = plan.arms
    assert (plain.name, plain.difference, plain.published) == ("plain", {}, {})
    assert (decay.name, decay.difference, decay.published) == ("decay", DECAY, {"utd/cs": 93.5})
    assert decay.config == canonical(changed(data__protocol="utd/cs", training__weight_decay=0.5))
    assert decay.parameters == plain.parameters > 1000
    assert decay.flops == plain.flops > 1000
    fixed = planned(study(base=changed(training__selection=4)), store)
    assert (fixed.selection, fixed.confirms) == ("epoch 4", None)


def test_a_study_s_plan_holds_its_contrasts(store):
    contrast = Contrast(name="decay", plus={"decay": 1}, minus={"plain": 1})
    plan = planned(study(contrasts=(contrast,), margin=0.5), store)
    assert plan.contrasts == (PlannedContrast(name="decay", weights={"decay": 1.0, "plain": -1.0}),)
    assert (plan.contributions, plan.margin, plan.key) == (False, 0.5, planned(study(), store).key)
    training = study().base.training
    decay = Component(name="decay", on=DECAY, off={"training.weight_decay": training.weight_decay})
    always_off = {"training.learning_rate": training.learning_rate}
    rate = Component(name="rate", on={"training.learning_rate": 1.0}, off=always_off)
    shown = planned(study(components=(decay, rate)), store)
    assert shown.contributions
    assert (shown.contrasts, shown.unknown) == (plan.contrasts, ("rate", "decay×rate"))
    assert plan_from_json(shown.to_json()) == shown
    without = json.loads(plan.to_json())
    for name in ("contrasts", "contributions", "unknown", "margin"):
        del without[name]  # as earlier versions wrote it
    assert plan_from_json(json.dumps(without)) == planned(study(), store)


def test_an_arm_that_cannot_be_built_is_named(store):
    bad = Arm(name="bad", changes={"training.batch_size": 0})
    with pytest.raises(InputError, match=r"^arm 'bad': training.batch_size=0: expected a whole number of at least 1"):
        study(arms=(*study().arms, bad))
    bad = Arm(name="bad", changes={"training.selection": 99})
    with pytest.raises(InputError, match=r"^arm 'bad': training.selection=99: expected"):
        planned(study(arms=(*study().arms, bad)), store)


def test_a_study_s_key_is_that_of_its_arms_data_and_seed(store, skeleton_store):
    key = planned(study(), store).key
    assert re.fullmatch("s-[0-9a-f]{6}", key)
    assert planned(study(seeds=3, first_seed=1, title="another", reference="decay"), store).key == key
    others = {
        planned(study(seed=6), store).key,
        planned(study(base=changed(training__batch_size=6)), store).key,
        planned(study(arms=study().arms[:1]), store).key,
        planned(study(arms=(study().arms[0], replace(study().arms[1], name="other"))), store).key,
        planned(study(), skeleton_store).key,
    }
    assert len(others - {key}) == 5


# a search


def test_a_search_s_plan_says_what_its_report_needs(store):
    sites = Placement(
        site=Site, streams={"rgb": RGB_SITES, "skeleton": LAYERS}, most=1, fields={"channels": Int(low=16, high=64)}
    )
    rate = SPACE.factors["training.learning_rate"]
    space = Space({"training.learning_rate": rate, "model.placement": sites})
    plan = searched(search(base=changed(model__placement=()), space=space, costs=("flops",), stopping=NONE), store)
    assert (plan.name, plan.trials, plan.sampler, plan.stopping, plan.epochs) == ("s", 12, "random", NONE, 9)
    assert plan.costs == ("flops",)
    assert plan.factors == {"training.learning_rate": str(rate), "model.placement": str(sites)}
    assert plan.placements == {"model.placement": {"rgb": list(RGB_SITES), "skeleton": list(LAYERS)}}
    assert plan.data["validation"] == 5


NONE = Stopping(rule="none")
ASHA = Stopping(rule="asha", grace=2)
PBT = Stopping(rule="pbt", grace=2)


def test_a_search_s_key_stays_where_its_trials_can_be_kept(store, skeleton_store):
    key = searched(search(), store).key
    assert re.fullmatch("s-[0-9a-f]{6}", key)
    grown = Space(SPACE.factors | {"model.hcn_dropout": Float(low=0.0, high=0.9)})
    for kept in (search(trials=13), search(sampler="tpe"), search(stopping=ASHA), search(space=grown)):
        assert searched(kept, store).key == key
    others = {
        searched(search(seed=6), store).key,
        searched(search(base=changed(training__batch_size=6)), store).key,
        searched(search(costs=("flops",), stopping=NONE), store).key,
        searched(search(), skeleton_store).key,
    }
    assert len(others - {key}) == 4


def test_another_size_or_pace_is_another_population(store):
    keys = {
        searched(declared, store).key
        for declared in (
            search(),
            search(stopping=PBT),
            search(stopping=PBT, trials=13),
            search(stopping=replace(PBT, grace=3)),
        )
    }
    assert len(keys) == 4


def test_a_base_or_a_point_that_cannot_be_built_is_named(store):
    with pytest.raises(InputError, match=r"^the base: training.metric: no metric 'acc'"):
        searched(search(base=changed(training__metric="acc")), store)
    declared = search(
        base=changed(training__workers=2),
        space=Space({"training.batch_size": Int(low=1, high=64)}),
        points=({"training.batch_size": 6}, {"training.batch_size": 5}),
    )
    with pytest.raises(InputError, match=r"^point 2: training.batch_size=5: cannot be shared evenly by 2 workers"):
        searched(declared, store)


@dataclass(frozen=True, kw_only=True)
class Parted(Faulty):
    """A model of parts with weights; ``rate`` changes none. Not everything can be built."""

    parts: tuple[str, ...] = ("a", "b")
    least: int = 0
    rate: int = 1

    def build(self, shape: ClipShape) -> nn.Module:
        if self.rate == 13 or len(self.parts) < self.least:
            raise ZeroDivisionError("no such network")
        return nn.ModuleDict({"whole": super().build(shape)} | {part: nn.Linear(2, 2) for part in self.parts})


@pytest.mark.parametrize(
    ("base", "factor", "domain", "fits"),
    [
        (Parted(), "rate", Choice(options=(13, 1, 2)), True),  # a trial will say what cannot be built
        (Parted(), "hidden", Choice(options=(16,)), True),
        (Parted(), "hidden", Choice(options=(16, 17)), False),
        (Parted(), "parts", Choice(options={"both": ("a", "b")}), True),
        (Parted(), "parts", Subset(of=("a", "b")), False),  # none of them is other weights
        (Parted(parts=("a",), least=1), "parts", Subset(of=("a", "b")), False),  # all of them are
    ],
)
def test_a_population_varies_nothing_that_changes_the_weights(store, base, factor, domain, fits):
    space = Space({f"model.{factor}": domain})
    declared = search(base=replace(BASE, model=base), space=space, stopping=PBT)
    if fits:
        assert searched(declared, store)
        return
    said = rf"^search s: factor model\.{factor} changes the network's weights, which members of a population copy"
    with pytest.raises(InputError, match=said):
        searched(declared, store)
    assert searched(replace(declared, stopping=NONE), store)


def test_a_trial_s_run_has_the_search_s_seed_and_seed_0_and_is_not_tested(store):
    base = changed(data__protocol="utd/cs")
    for lineage in ((), ("s", "", 0, 1)):
        task = trial_task(search(), base, store, lineage)
        assert task == replace(task_of(base, store.fingerprint, (5, 0), (*lineage, "untested")), tested=False)
        assert task.run_id != task_of(base, store.fingerprint, (5, 0), lineage).run_id  # an arm is tested


# a user's own protocol


@pytest.fixture
def halves(monkeypatch) -> Callable[..., None]:
    """Define the protocol ``own_protocols:HALVES``, again and again."""
    module = ModuleType("own_protocols")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def define(**changes: Any) -> None:
        module.HALVES = replace(PROTOCOLS["utd/cs"], **{"name": "halves", **changes})

    return define


OWN = {"base": changed(data__protocol="own_protocols:HALVES")}


def test_of_an_own_protocol_the_selected_clips_count_and_not_its_name(store, halves):
    halves()
    plan, search_plan = planned(study(**OWN), store), searched(search(**OWN), store)
    trial = trial_task(search(**OWN), OWN["base"], store)
    selection = clips_of(OWN["base"], store, (0, 0)).selection
    assert plan.protocol == search_plan.protocol == "halves"
    assert plan.data["clips"] == search_plan.data["clips"] == selection
    assert trial.run_id == task_of(OWN["base"], store.fingerprint, (5, 0), (selection, "untested")).run_id
    assert plan.runs[0].run_id == task_of(OWN["base"], store.fingerprint, (5, 0), (selection,)).run_id
    halves(name="renamed", description="the same clips")
    assert [planned(study(**OWN), store).key, searched(search(**OWN), store).key] == [plan.key, search_plan.key]
    halves(validation=Rule(subjects=frozenset({1})))
    assert planned(study(**OWN), store).key != plan.key
    assert searched(search(**OWN), store).key != search_plan.key
    assert trial_task(search(**OWN), OWN["base"], store, ("x",)).run_id != trial.run_id
    assert "clips" not in planned(study(), store).data
