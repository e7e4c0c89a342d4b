"""What a run takes of a device: memory, by one measured step, and time, by measured passes."""

import pytest
import torch
from clips import SHAPE

from coablate_platform.lanes.footprint import Footprint, footprint, one_step
from coablate_platform.planning.costs import latency_of
from coablate_platform.study.overrides import apply_changes
from coablate_search_spaces.smoke import STUDY

GIB = 2**30


@pytest.mark.parametrize(
    ("reserved", "besides", "fit"),
    [(10 * GIB, 1 * GIB, 6), (10 * GIB, 2 * GIB, 6), (10 * GIB, 3 * GIB, 5), (79 * GIB, 1 * GIB, 1), (50 * GIB, 0, 1)],
)
def test_as_many_fit_as_find_room_with_something_to_spare(reserved, besides, fit):
    found = Footprint(reserved=reserved, besides=besides, total=80 * GIB)
    assert found.fit == fit
    assert fit == 1 or fit * (reserved * 1.1 + besides) <= 80 * GIB


@pytest.mark.parametrize("changes", [{}, {"training.warmup_epochs": 3}, {"training.selection": "best"}], ids=str)
def test_one_step_is_a_run_s_own_and_changes_nothing(changes):
    config = apply_changes(STUDY.base, {"training.batch_size": 4, "data.size": 32, **changes})
    seen = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, outputs: (
            seen.append(len(outputs["fused"])) if isinstance(outputs, dict) and "fused" in outputs else None
        )
    )
    try:
        one_step(config, SHAPE, torch.device("cpu"))
    finally:
        hook.remove()
    assert seen == [4]  # one batch forward, of the size that a run's worker has


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_larger_batch_takes_more_of_the_gpu():
    small, large = (footprint(apply_changes(STUDY.base, {"training.batch_size": size}), SHAPE) for size in (2, 64))
    assert 0 < small.reserved < large.reserved < large.total
    assert small.fit >= large.fit


def test_a_larger_network_takes_longer():
    small, large = (latency_of(apply_changes(STUDY.base, {"model.width": width}), SHAPE) for width in (0.125, 1.0))
    assert 0 < small < large
