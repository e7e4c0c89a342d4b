"""A setting is checked when its dataclass is made, in Python as on the command line; no value means another."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.placement import Site
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.domains import Choice, Float, Int, Placement, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space
from coablate_platform.study.study import Arm, Resources
from coablate_platform.study.validation import checked_value
from coablate_search_spaces.learning_rates import STUDY as SEARCH
from coablate_search_spaces.smoke import STUDY

INF = float("inf")
TINY = 5e-324


@dataclass(frozen=True, kw_only=True)
class Range:
    """What is expected of some fields, in words and in values."""

    expected: str
    fields: tuple[str, ...]
    held: tuple[Any, ...]
    refused: tuple[Any, ...]


RANGES = (
    Range(
        expected="a whole number of at least 1",
        fields=(
            *("training.epochs", "training.batch_size", "training.accumulate", "training.workers"),
            *("data.frames", "data.size", "data.skeleton_frames"),
        ),
        held=(1,),
        refused=(0, -1, 2.5, 2.0, True, "3", INF),
    ),
    Range(
        expected="a number above 0",
        fields=("training.learning_rate", "training.clip_norm", "training.step_factor"),
        held=(TINY, 2.0),
        refused=(0.0, -1.0, True, "2", None),
    ),
    Range(
        expected="a number above 0 and at most 1",
        fields=("data.crop_ratio", "data.spatial_crop"),
        held=(TINY, 1.0),
        refused=(0.0, 1.001),
    ),
    Range(expected="a number from 0 to 1", fields=("data.flip",), held=(0.0, 1.0), refused=(-TINY, 1.001)),
    Range(
        expected="a number of at least 0",
        fields=(
            "training.weight_decay",
            *("data.colour", "data.rotation", "data.tilt", "data.scale", "data.jitter"),
        ),
        held=(0, 0.5),
        refused=(-1, -TINY, True),
    ),
    Range(expected="a whole number of at least 0", fields=("training.warmup_epochs",), held=(0,), refused=(-1, 0.5)),
)
FIELDS = [(field, held) for held in RANGES for field in held.fields]


@pytest.mark.parametrize(("field", "values"), FIELDS, ids=[field for field, _ in FIELDS])
def test_a_field_may_be_as_small_and_as_large_as_a_run_can_mean(field, values):
    part, _, name = field.partition(".")
    for value in values.held:
        changed = apply_changes(STUDY.base, {field: value})
        assert getattr(getattr(changed, part), name) == value
    for value in [value for value in values.refused if not (field == "training.clip_norm" and value is None)]:
        for change in (
            lambda value=value: apply_changes(STUDY.base, {field: value}),
            lambda value=value: dataclasses.replace(getattr(STUDY.base, part), **{name: value}),
        ):
            with pytest.raises(InputError, match=rf"^{field}={value!r}: expected {values.expected}"):
                change()


@pytest.mark.parametrize("value", [INF, -INF, float("nan")])
@pytest.mark.parametrize("field", ["training.learning_rate", "training.weight_decay", "data.rotation", "model.floor"])
def test_a_setting_is_finite(field, value):
    with pytest.raises(InputError, match=rf"^{field}=.*: expected a number.*finite"):
        apply_changes(STUDY.base, {field: value})


def test_gradients_need_no_limit():
    assert TrainingConfig(clip_norm=None).clip_norm is None


@dataclass(frozen=True)
class Refused:
    """A setting that is refused when it is made, and what the message says."""

    make: Any
    message: str


REFUSED = {
    "optimiser": Refused(lambda: TrainingConfig(optimiser="SGD"), r"training.optimiser='SGD'.*did you mean 'sgd'"),
    "schedule": Refused(lambda: TrainingConfig(schedule="Cosine"), r"training.schedule.*did you mean 'cosine'"),
    "selection": Refused(lambda: TrainingConfig(selection="Best"), r"training.selection.*did you mean 'best'"),
    "precision": Refused(lambda: TrainingConfig(precision="BF16"), r"did you mean 'bf16'"),
    "framing": Refused(lambda: DataConfig(framing="person"), r"data.framing='person'.*did you mean 'persons'"),
    "motion": Refused(lambda: DataConfig(motion=1), r"data.motion=1: expected true or false"),
    "step_epochs": Refused(lambda: TrainingConfig(step_epochs=(5, 7.5)), r"step_epochs=\(5, 7.5\).*element 1: 7.5"),
    "sampler": Refused(lambda: replace(sampler="TPE"), r"no sampler 'TPE' \(did you mean 'tpe'\?\)"),
    "sampler's type": Refused(lambda: replace(sampler=3), r"sampler=3: expected a text"),
    "rule": Refused(lambda: Stopping(rule="ASHA"), r"stopping: rule='ASHA'.*did you mean 'asha'"),
    "reduction": Refused(lambda: Stopping(reduction=2.5), r"stopping: reduction=2.5: expected a whole number"),
    "costs": Refused(lambda: replace(costs="flops", stopping=Stopping(rule="none")), r"costs='flops': expected a list"),
    "a cost": Refused(lambda: replace(costs=("FLOPs",), stopping=Stopping(rule="none")), r"costs=.*'flops'"),
    "trials": Refused(lambda: replace(trials=2.5), r"search learning_rates: trials=2.5: expected a whole number"),
    "seeds": Refused(lambda: replace(seeds=True), r"seeds=True: expected a whole number"),
    "points": Refused(lambda: replace(points={"training.learning_rate": 0.1}), r"points=.*: expected a list"),
    "arms": Refused(
        lambda: dataclasses.replace(STUDY, arms=("MMTM",)), r"study smoke: arms=.*expected a list, each Arm"
    ),
    "an arm's changes": Refused(lambda: Arm(name="a", changes="model.floor=1"), r"changes=.*expected a mapping"),
    "published": Refused(lambda: Arm(name="a", changes={}, published={"cs": "89.4"}), r"published=.*each a number"),
    "published's range": Refused(lambda: Arm(name="a", changes={}, published={"cs": INF}), r"published=.*finite"),
    "gpus": Refused(lambda: Resources(gpus=True), r"resources: gpus=True"),
    "cpus": Refused(lambda: Resources(cpus=INF), r"resources: cpus=inf"),
    "a range to infinity": Refused(lambda: Float(low=1e-4, high=INF), r"high=inf.*finite"),
    "a whole range": Refused(lambda: Int(low=1, high=2.5), r"high=2.5: expected a whole number"),
    "a text's range": Refused(lambda: Float(low="1", high=2), r"low='1': expected a number"),
    "when": Refused(lambda: Float(low=0, high=1, when="model.fusion"), r"when='model.fusion': expected a mapping"),
    "when's values": Refused(lambda: Float(low=0, high=1, when={"model.fusion": "dsfm"}), r"when=.*each a list"),
    "options": Refused(lambda: Choice(options="abc"), r"options='abc'"),
    "of": Refused(lambda: Subset(of="abc"), r"of='abc': expected a list"),
    "most": Refused(
        lambda: Placement(site=Site, streams={"rgb": ("a",), "skeleton": ("b",)}, most=1.0),
        r"most=1.0: expected a whole number",
    ),
    "a stream": Refused(
        lambda: Placement(site=Site, streams={"rgb": "Mixed_5b", "skeleton": ("b",)}, most=1), r"streams=.*each a list"
    ),
    "space": Refused(lambda: replace(space={"training.learning_rate": (0, 1)}), r"space=.*: expected Space"),
    "factors": Refused(lambda: Space([("training.learning_rate", Float(low=0, high=1))]), r"factors=.*a mapping"),
    "a run's part": Refused(
        lambda: RunConfig(model=CCDFARM(), data=TrainingConfig(), training=TrainingConfig()),
        r"data=.*expected DataConfig",
    ),
    "a run's model": Refused(
        lambda: RunConfig(model="cc_dfarm", data=DataConfig(), training=TrainingConfig()),
        r"model=str: expected a model configuration; it has no modalities",
    ),
}


def replace(**changes: Any) -> Search:
    return dataclasses.replace(SEARCH, **changes)


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_setting_that_means_something_else_is_refused_when_it_is_made(case):
    with pytest.raises(InputError, match=case.message):
        case.make()


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class LooseModel(CCDFARM):
    """A model of a user's own, which checks nothing itself."""

    cell: Literal["lstm", "gru"] = "lstm"
    layers: tuple[Inner, ...] = ()
    decay: float = 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell": "GRU"}, r"^model.cell='GRU': expected 'lstm' or 'gru' \(did you mean 'gru'\?\)$"),
        ({"layers": (Inner(), Inner(size="2"))}, r"^model.layers.size='2': expected a whole number$"),
        ({"layers": [Inner(size=2.5)]}, r"^model.layers.size=2.5: expected a whole number$"),
        ({"decay": INF}, r"^model.decay=inf: expected a number, and it must be finite$"),
    ],
)
def test_a_model_that_checks_nothing_itself_is_checked_as_part_of_a_run(values, message):
    with pytest.raises(InputError, match=message):
        RunConfig(model=LooseModel(**values), data=DataConfig(), training=TrainingConfig())


def test_a_list_becomes_a_tuple_and_a_whole_number_a_real_one():
    training = TrainingConfig(step_epochs=[5, 7], weight_decay=1)
    assert training.step_epochs == (5, 7)
    assert training == TrainingConfig(step_epochs=(5, 7), weight_decay=1.0)
    assert isinstance(training.weight_decay, float)


def test_sites_are_read_from_json():
    sites = [{"rgb": "Mixed_5b", "skeleton": "conv5", "channels": 64}]
    changed = apply_changes(STUDY.base, {"model.placement": sites})
    assert changed.model.placement == (Site(rgb="Mixed_5b", skeleton="conv5", channels=64),)


def test_a_list_without_quotes_gets_a_hint():
    with pytest.raises(InputError, match=r"model.streams='\[skeleton\]': expected a list.*need quotes"):
        apply_changes(STUDY.base, {"model.streams": "[skeleton]"})


@pytest.mark.parametrize(
    "name", ["", "../x", "/x", "a/b", "a\\b", ".x", "x.", "x ", "a\nb", "a" * 101, "a\0", "a:b", "é"]
)
@pytest.mark.parametrize("declared", [STUDY, SEARCH], ids=["study", "search"])
def test_a_study_is_named_as_a_folder_can_be(declared, name):
    with pytest.raises(InputError, match=r"expected a name of 1 to 100 letters"):
        dataclasses.replace(declared, name=name)


@pytest.mark.parametrize("name", ["o'clock", "a.b", "3 seeds", "TIAM+DSFM", "x" * 100])
def test_a_study_s_name_may_have_what_every_folder_s_name_may_have(name):
    assert dataclasses.replace(STUDY, name=name).name == name


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\tb", "\x07"])
def test_an_arm_s_name_is_one_line(name):
    with pytest.raises(InputError, match=r"expected a name of one line that is not empty"):
        Arm(name=name, changes={})


def test_every_point_of_a_search_becomes_a_trial():
    rate = {"training.learning_rate": 1.7e-3}
    with pytest.raises(InputError, match="point 2 is the same configuration as point 1"):
        replace(points=(rate, rate))
    with pytest.raises(InputError, match="the base and 1 points are 2 trials, expected trials of at least that, got 1"):
        replace(points=(rate,), trials=1)
    space = Space(
        {
            "model.fusion": Choice(options=("dsfm", "mmtm")),
            "model.floor": Float(low=0, high=1, when={"model.fusion": ("dsfm",)}),
        }
    )
    with pytest.raises(InputError, match=r"point 1 sets model\.floor, which does not exist there"):
        replace(space=space, points=({"model.fusion": "mmtm", "model.floor": 0.2},))


def test_an_option_that_resembles_nothing_gets_no_hint():
    with pytest.raises(InputError, match=r"expected 'a' or 'b'$"):
        checked_value(Literal["a", "b"], "zzz", "field")
