"""Settings that contradict each other are refused before a run starts."""

from typing import Any

import pytest

from coablate_platform.planning.checks import check
from coablate_platform.study.errors import InputError
from coablate_platform.study.model import ClipShape
from coablate_platform.study.overrides import apply_changes
from coablate_search_spaces.smoke import STUDY

SHAPE = ClipShape(classes=3, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2)


def checked(**changes: Any) -> None:
    """Check the base with fields changed; ``training__epochs`` is ``training.epochs``."""
    check(apply_changes(STUDY.base, {name.replace("__", "."): value for name, value in changes.items()}), SHAPE)


@pytest.mark.parametrize("epoch", [1, 4])
def test_any_epoch_of_the_run_can_be_selected(epoch):
    checked(training__epochs=4, training__selection=epoch)


@pytest.mark.parametrize("epoch", [5, 9])
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
