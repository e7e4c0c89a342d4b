"""Changes by dotted field: what they reach, what they refuse, and what they say."""

import pytest

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.placement import DSFM1, PAPER_PLACEMENT
from coablate_platform.study.config import MSAF, PAPER, DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.overrides import apply, difference, parse

BASE = RunConfig(model=CCDFARM(), data=DataConfig(), training=TrainingConfig())


def test_values_reach_their_field_as_its_type():
    changed = apply(BASE, {"training.epochs": 5, "training.learning_rate": 1, "data.size": 64})
    assert (changed.training.epochs, changed.data.size) == (5, 64)
    assert type(changed.training.learning_rate) is float
    assert BASE.training.epochs == 30


def test_a_preset_is_taken_by_its_name():
    assert apply(BASE, {"training": "paper"}).training == PAPER
    assert apply(BASE, {"training": "msaf"}).training == MSAF


def test_sites_are_read_from_json_objects():
    site = {"rgb": "Mixed_5b", "skeleton": "conv5", "channels": 64}
    assert apply(BASE, {"model.placement": [site]}).model.placement == (DSFM1,)


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
def test_texts_are_json_where_they_can_be(text, path, value):
    assert parse(text) == (path, value)


@pytest.mark.parametrize(
    ("changes", "said"),
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
def test_mistakes_are_named_with_what_was_expected(changes, said):
    with pytest.raises(InputError) as error:
        apply(BASE, changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_values_of_one_part_need_only_go_together():
    changes = {"model.placement": [{"rgb": "Mixed_5b", "skeleton": "conv5", "channels": 2}], "model.reduction": 1}
    both = apply(BASE, changes)
    assert both == apply(BASE, dict(reversed(changes.items())))
    assert apply(BASE, difference(both, BASE)) == both
    with pytest.raises(InputError, match=r"^model\.placement=.* 2 channels cannot be reduced by 4"):
        apply(BASE, {"model.mffm": False, **changes, "model.reduction": 4})


def test_what_is_within_a_part_goes_on_top_of_it():
    changed = apply(BASE, {"training": "paper", "training.epochs": 5})
    assert changed.training == apply(BASE, {"training": PAPER}).training.__class__(**(vars(PAPER) | {"epochs": 5}))
    assert apply(BASE, {"training.epochs": 5, "training": "paper"}).training == PAPER


def test_a_model_s_own_field_named_training_is_no_preset():
    assert apply(BASE, {"model.training": "alternating"}).model.training == "alternating"
    assert apply(BASE, {"training": "paper"}).training.epochs == 50


def test_a_text_without_a_value_is_refused():
    with pytest.raises(InputError, match="expected field=value"):
        parse("training.epochs")


def test_difference_lists_what_departs_and_applying_it_leads_back():
    other = apply(BASE, {"model.tiam": "none", "training.epochs": 3, "data.flip": 0.5})
    found = difference(other, BASE)
    assert found == {"model.tiam": "none", "training.epochs": 3, "data.flip": 0.5}
    assert apply(BASE, found) == other
    assert difference(BASE, BASE) == {}
