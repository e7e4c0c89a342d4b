"""Names for MLflow: MLflow itself takes them, and they can be told apart and read back."""

import itertools
import random

import pytest
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name, _validate_param_name

from coablate_platform.tracking.names import allowed_text, metric_name, original_name

ODD = ["mean/TIAM/", "x//y", ".", "..", "..a", "a/./b", "/a", "a/", "/", "//", "///", "", " ", "λ=0.25//r=4", "\ud800"]
ODD += ["_x", "_x_", "_x3D_", "=_x", "_x=", "a_=x", "it's", "50 %", "a\nb", "a\\b", "a:b", "_", "__x2F_/", "\U0001f600"]


def random_names() -> list[str]:
    """Short names of the characters that matter, so that many are like each other."""
    source = random.Random(0)
    return ["".join(source.choices("_x3D=/. aλ", k=source.randint(0, 7))) for _ in range(20_000)]


@pytest.mark.parametrize("name", ODD)
def test_mlflow_takes_every_name(name):
    for made in (metric_name(name), metric_name("effect", name)):
        _validate_metric_name(made)
        _validate_param_name(made)
        assert made.isprintable()
        assert made.encode()


@pytest.mark.parametrize("name", ["accuracy", "full", "no gate", "λ_0", "a.b-c", "train/loss", "a:b", ".hid", "x/.y"])
def test_what_mlflow_takes_stays_as_it_is(name):
    assert metric_name(name) == name


def test_what_it_does_not_take_can_be_read():
    assert metric_name("effect", "fusion=mmtm") == "effect/fusion_x3D_mmtm"
    assert metric_name("mean", "TIAM/") == "mean/TIAM_x2F_"


def test_different_names_stay_different_and_can_be_read_back():
    names = {*ODD, *random_names()}
    for name in names:
        made = metric_name(name)
        _validate_metric_name(made)
        assert original_name(made) == name
    assert len({metric_name(name) for name in names}) == len(names)


def test_long_names_fit_and_stay_different():
    names = ["a very telling name " * 13, "a very telling name " * 14, "=" * 90, "=" * 91, "/" * 250, "\ud800" * 250]
    made = [metric_name("ci_high", name) for name in names]
    for name in made:
        _validate_metric_name(name)
        assert len(name) <= MAX_ENTITY_KEY_LENGTH
    assert all(one != other for one, other in itertools.combinations(made, 2))


def test_a_text_is_one_that_a_database_takes():
    assert allowed_text("as it is: λ") == "as it is: λ"
    assert allowed_text("a\0b\ud800") == r"a\x00b\ud800"
    assert allowed_text("12345", longest=3) == "123"
