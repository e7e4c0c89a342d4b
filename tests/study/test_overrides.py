"""Changes by dotted field: the values they set, the mistakes they refuse, and the messages."""

from dataclasses import replace

import pytest

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.placement import DSFM1, PAPER_PLACEMENT
from coablate_platform.study.config import MSAF, PAPER, DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.overrides import apply_changes, difference, parse_change, parse_changes

BASE = RunConfig(model=CCDFARM(), data=DataConfig(), training=TrainingConfig())


def test_a_value_is_converted_to_its_field_s_type():
    changed = apply_changes(BASE, {"training.epochs": 5, "training.learning_rate": 1, "data.size": 64})
    assert (changed.training.epochs, changed.data.size) == (5, 64)
    assert type(changed.training.learning_rate) is float
    assert BASE.training.epochs == 30


def test_a_preset_is_set_by_its_name():
    assert apply_changes(BASE, {"training": "paper"}).training == PAPER
    assert apply_changes(BASE, {"training": "msaf"}).training == MSAF


def test_sites_are_made_from_json_objects():
    site = {"rgb": "Mixed_5b", "skeleton": "conv5", "channels": 64}
    assert apply_changes(BASE, {"model.placement": [site]}).model.placement == (DSFM1,)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("training.epochs=5", "training.epochs", 5),
        ("training.clip_norm=null", "training.clip_norm", None),
        ("training.clip_norm=None", "training.clip_norm", None),
        ("model.fusion=mmtm", "model.fusion", "mmtm"),
        ("training.step_epochs=[5, 10]", "training.step_epochs", [5, 10]),
        ("model.mffm=False", "model.mffm", False),
        ("data.protocol=utd/cs", "data.protocol", "utd/cs"),
    ],
)
def test_a_value_is_parsed_as_json_or_else_is_a_string(text, path, value):
    assert parse_change(text) == (path, value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.epoch": 5}, "training.epoch: training has no field 'epoch' (did you mean 'epochs'?)"),
        ({"modle.width": 1}, "modle.width: the configuration has no field 'modle' (did you mean 'model'?)"),
        ({"training.epochs.x": 5}, "'epochs' is a plain value (30)"),
        ({"training.epochs": "many"}, "training.epochs='many'"),
        ({"training.optimiser": "adan"}, "adan"),
        ({"training": "papper"}, "no training preset 'papper' (did you mean 'paper'?)"),
        ({"model.floor": 1.5}, "model.floor=1.5: floor is 1.5, expected a number from 0 to 1"),
        ({"model.placement": PAPER_PLACEMENT[::-1]}, "Mixed_5b × conv5 is not behind site Mixed_5c × fc7"),
        ({"model.placement": [{"rgb": "Mixed_9z", "skeleton": "conv5", "channels": 4}]}, "Mixed_9z"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(changes, message):
    with pytest.raises(InputError) as error:
        apply_changes(BASE, changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_only_the_result_of_all_changes_must_be_valid():
    changes = {"model.placement": [{"rgb": "Mixed_5b", "skeleton": "conv5", "channels": 2}], "model.reduction": 1}
    both = apply_changes(BASE, changes)
    assert both == apply_changes(BASE, dict(reversed(changes.items())))
    assert apply_changes(BASE, difference(both, BASE)) == both
    with pytest.raises(InputError, match=r"^model\.placement=.* 2 channels cannot be reduced by 4"):
        apply_changes(BASE, {"model.mffm": False, **changes, "model.reduction": 4})


def test_a_change_within_a_part_is_made_on_top_of_the_whole_part_in_either_order():
    expected = replace(PAPER, epochs=5)
    assert apply_changes(BASE, {"training": "paper", "training.epochs": 5}).training == expected
    assert apply_changes(BASE, {"training.epochs": 5, "training": "paper"}).training == expected


def test_a_model_s_field_named_training_takes_no_preset():
    assert apply_changes(BASE, {"model.training": "alternating"}).model.training == "alternating"
    assert apply_changes(BASE, {"training": "paper"}).training.epochs == 50


def test_an_override_without_a_value_is_refused():
    with pytest.raises(InputError, match="expected field=value"):
        parse_change("training.epochs")


def test_a_field_is_set_once():
    assert parse_changes(["training.epochs=3", "data.flip=0.5"]) == {"training.epochs": 3, "data.flip": 0.5}
    with pytest.raises(InputError, match=r"--set training\.epochs: set twice, to 3 and to 4"):
        parse_changes(["training.epochs=3", "training.epochs=4"])


def test_a_difference_applied_to_the_reference_gives_the_configuration():
    other = apply_changes(BASE, {"model.tiam": "none", "training.epochs": 3, "data.flip": 0.5})
    found = difference(other, BASE)
    assert found == {"model.tiam": "none", "training.epochs": 3, "data.flip": 0.5}
    assert apply_changes(BASE, found) == other
    assert difference(BASE, BASE) == {}


def test_a_field_of_a_part_that_is_null_is_refused_by_name():
    with pytest.raises(InputError, match=r"pretraining.epochs: 'pretraining' is null in this study"):
        apply_changes(BASE, {"pretraining.epochs": 3})
