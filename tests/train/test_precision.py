"""Autocast: refused on a CPU that only emulates it; on one with bf16 instructions, the gradients are right."""

import copy
import dataclasses

import pytest
import torch
from clips import SHAPE, MemoryClips
from phases import loading

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import EpochReport
from coablate_platform.train.initial import build_network
from coablate_platform.train.loop import train
from coablate_platform.train.precision import autocast, check_precision, safe_backward, wrong_convolutions
from coablate_platform.train.task import Task

CPU = torch.device("cpu")
BF16 = TrainingConfig(precision="bf16", batch_size=6, epochs=1, schedule="constant", learning_rate=1e-3)
SMALL = CCDFARM(width=0.125, hcn_features=8, mffm_channels=16, i3d_dropout=0.0, hcn_dropout=0.0, mffm_dropout=0.0)
capable = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16"), reason="this CPU has no bf16 instructions"
)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_the_cpu_emulates_is_refused(monkeypatch, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    with pytest.raises(ValueError, match=rf"training\.precision: this CPU has no {precision}"):
        check_precision(dataclasses.replace(BF16, precision=precision), CPU)


def test_wrong_convolutions_are_found(monkeypatch):
    right = torch.nn.functional.conv3d
    assert wrong_convolutions(torch.float32, CPU) == ()

    def wrong(x, weight, **settings):
        out = right(x, weight, **settings)
        return out * 1.1 if weight.shape[-1] == 3 and x.dtype == torch.bfloat16 else out

    wrong_convolutions.cache_clear()
    monkeypatch.setattr("coablate_platform.train.precision.functional.conv3d", wrong)
    assert wrong_convolutions(torch.float32, CPU) == ()
    assert 3 in wrong_convolutions(torch.bfloat16, CPU)
    monkeypatch.setattr("coablate_platform.train.precision.wrong_convolutions", lambda kind, device: (3,))
    with pytest.raises(ValueError, match=r"training\.precision: cuDNN .* wrong in bf16 \(kernel size 3\); use fp32"):
        check_precision(BF16, torch.device("cuda"))


def gradients(module, loss, config=BF16):
    """Return a module's gradients by parameter. Freed memory that the kernels may reuse is filled with NaN before."""
    module.zero_grad()
    filled = [torch.full((2**power,), float("nan")) for power in range(6, 20) for _ in range(4)]
    del filled
    with autocast(config, CPU):
        value = loss(module)
    with safe_backward(config, CPU):
        value.backward()
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}


@capable
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"dilation": (2, 1, 1)}, {"groups": 2}], ids=str)
def test_gradients_of_short_clips_are_right(kernel, settings):
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.Conv3d(16, 32, kernel, padding=kernel // 2, **settings)
    reach = (kernel - 1) * module.dilation[0] + 1
    for frames in range(max(reach - 2 * (kernel // 2), 1), reach + 2):
        clips = torch.randn(6, 16, frames, 7, 7, generator=generator)
        weights = torch.randn(module(clips).shape, generator=generator).double()

        def loss(module, clips=clips, weights=weights):
            return (module(clips.to(module.weight.dtype)).double() * weights).sum()

        exact = gradients(copy.deepcopy(module).double(), loss, dataclasses.replace(BF16, precision="fp32"))
        for _ in range(3):
            for name, found in gradients(module, loss).items():
                assert (found.double() - exact[name]).norm() <= 0.02 * exact[name].norm(), (frames, name)


@capable
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_do_not_depend_on_old_values_in_memory(checkpointed):
    """With clips of eight frames, the last feature maps have one frame and those before them two."""
    config = dataclasses.replace(SMALL, checkpoint_activations=checkpointed)
    network, batch = (
        build_network(lambda: config.build(SHAPE), (0, 1)),
        next(MemoryClips().train(0, loading(6, DataConfig()))),
    )
    one, two = (gradients(network, lambda network: config.objective().loss(network(batch), batch, 0)["loss"])
                for _ in range(2))  # fmt: skip
    assert all(torch.isfinite(value).all() for value in one.values())
    assert all(torch.equal(one[name], two[name]) for name in one)


@capable
def test_bf16_trains_on_a_cpu_with_bf16_instructions(tmp_path):
    config = RunConfig(model=SMALL, data=DataConfig(), training=BF16)
    task = Task(run_id="r" * 64, config=config, seed=(0, 1))
    event = next(train(task, MemoryClips(), Checkpoints(str(tmp_path)), [].append, CPU))
    assert isinstance(event, EpochReport)
    assert 0 < event.metrics["train/loss"] < 10
