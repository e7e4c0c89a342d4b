"""Values that no run can mean are refused; the last ones that a run can mean are not."""

from dataclasses import dataclass
from typing import Any

import pytest

from coablate_platform.planning.checks import check
from coablate_platform.study.config import ClipShape
from coablate_platform.study.errors import InputError
from coablate_platform.study.overrides import apply_changes
from coablate_search_spaces.smoke import STUDY

SHAPE = ClipShape(classes=3, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2)
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
        expected="at least 1",
        fields=(
            *("training.epochs", "training.batch_size", "training.accumulate", "training.workers"),
            *("data.frames", "data.size", "data.skeleton_frames"),
        ),
        held=(1,),
        refused=(0, -1),
    ),
    Range(
        expected="a number above 0",
        fields=("training.learning_rate", "training.clip_norm", "training.step_factor"),
        held=(TINY, 2.0),
        refused=(0.0, -1.0, float("nan")),
    ),
    Range(
        expected="a share above 0 and at most 1",
        fields=("data.crop_ratio", "data.spatial_crop"),
        held=(TINY, 1.0),
        refused=(0.0, 1.001),
    ),
    Range(expected="a number from 0 to 1", fields=("data.flip",), held=(0.0, 1.0), refused=(-TINY, 1.001)),
    Range(
        expected="at least 0",
        fields=(
            *("training.weight_decay", "training.warmup_epochs"),
            *("data.colour", "data.rotation", "data.tilt", "data.scale", "data.jitter"),
        ),
        held=(0,),
        refused=(-1,),
    ),
)
FIELDS = [(field, held) for held in RANGES for field in held.fields]


def checked(**changes: Any) -> None:
    """Check the base with fields changed; ``training__epochs`` is ``training.epochs``."""
    check(apply_changes(STUDY.base, {name.replace("__", "."): value for name, value in changes.items()}), SHAPE)


@pytest.mark.parametrize(("field", "values"), FIELDS, ids=[field for field, _ in FIELDS])
def test_a_field_may_be_as_small_and_as_large_as_a_run_can_mean(field, values):
    for value in values.held:
        checked(**{field: value})
    for value in values.refused:
        with pytest.raises(InputError, match=rf"^{field}={value}.*: expected {values.expected}$"):
            checked(**{field: value})


def test_gradients_need_no_limit():
    checked(training__clip_norm=None)


@pytest.mark.parametrize("epoch", [1, 4])
def test_any_epoch_of_the_run_can_be_selected(epoch):
    checked(training__epochs=4, training__selection=epoch)


@pytest.mark.parametrize("epoch", [-1, 0, 5])
def test_an_epoch_that_the_run_does_not_have_cannot_be_selected(epoch):
    with pytest.raises(InputError, match=f"selection={epoch}: expected 'last', 'best' or an epoch from 1 to 4"):
        checked(training__epochs=4, training__selection=epoch)


def test_only_the_best_epoch_needs_validation_clips():
    checked(training__selection="best")
    checked(training__selection="last", data__validation="none")
    with pytest.raises(InputError, match=r"selection='best': needs data.validation='subjects'"):
        checked(training__selection="best", data__validation="none")


def test_workers_share_a_batch_evenly():
    checked(training__batch_size=6, training__workers=3)
    with pytest.raises(InputError, match=r"batch_size=6: cannot be shared evenly by 4 workers"):
        checked(training__batch_size=6, training__workers=4)


def test_the_metric_is_one_that_the_model_s_objective_has():
    with pytest.raises(InputError, match=r"no metric 'acuracy' \(did you mean 'accuracy'\?\)"):
        checked(training__metric="acuracy")
