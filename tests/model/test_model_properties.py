"""Properties of each module that hold for any weights."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.dsfm import DSFM
from coablate_model.hcn import HCN, motion_of, person_max, persons_present
from coablate_model.i3d import ENDPOINTS, I3D, SameConv3d, SameMaxPool3d, same_padding
from coablate_model.masked_norm import MaskedBatchNorm2d
from coablate_model.mmtm import MMTM
from coablate_model.placement import DSFM1, DSFM2
from coablate_model.tiam import TIAM, attend_st
from coablate_platform.study.model import ClipShape

SHAPE = ClipShape(classes=7, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2)
SMALL = CCDFARM(width=0.25)


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_at_the_paper_s_sizes() -> None:
    assert parameter_count(I3D(60)) == 12_348_764
    assert parameter_count(HCN(60, joints=25, frames=32)) == 1_062_652
    assert parameter_count(DSFM([832, 128, 128], 64)) == 19_568
    assert parameter_count(DSFM([1024, 512], 256)) == 116_416
    assert parameter_count(TIAM(32)) == 2_384


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 9])
def test_same_padding_equals_explicit_zero_padding(size: int, kernel: int, stride: int) -> None:
    x = torch.randn(2, 3, size, size + 1, size + 2, generator=torch.Generator().manual_seed(0)).relu()
    amounts = [a for n in reversed(x.shape[2:]) for a in same_padding(n, kernel, stride)]
    padded = F.pad(x, amounts)
    conv = SameConv3d(3, 4, kernel, stride)
    explicit = F.conv3d(padded, conv.weight, conv.bias, stride)
    assert explicit.shape[2:] == tuple(-(-n // stride) for n in x.shape[2:])
    torch.testing.assert_close(conv(x), explicit)
    if (kernel, stride) not in [(7, 1), (7, 2), (2, 1)]:  # I3D has no pool of these sizes
        pool = SameMaxPool3d((kernel,) * 3, (stride,) * 3)
        assert torch.equal(pool(x), F.max_pool3d(padded, kernel, stride))


def test_every_i3d_endpoint_keeps_the_channels_last_layout() -> None:
    model = I3D(5, width=0.25).eval()
    for conv in model.modules():
        if isinstance(conv, nn.Conv3d):
            conv.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x, layer = torch.randn(16, 3, 8, 37, 37).to(memory_format=torch.channels_last_3d), None
    for name in ENDPOINTS:
        x, layer = model.advance(x, layer, name), name
        assert x.is_contiguous(memory_format=torch.channels_last_3d), name


def test_activation_checkpointing_changes_neither_gradients_nor_running_statistics() -> None:
    video, results = torch.randn(2, 3, 8, 32, 32), []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = I3D(5, width=0.25, checkpoint_activations=checkpointed)
        model(video).square().sum().backward()
        results.append([*(p.grad for p in model.parameters()), *model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_dsfm_with_floor_one_is_the_identity() -> None:
    maps = [torch.randn(3, 12, 2, 3, 3), torch.randn(3, 7)]
    for gated, original in zip(DSFM([12, 7], 4, floor=1.0)(maps), maps, strict=True):
        assert torch.equal(gated, original)


def test_dsfm_attention_over_all_blocks_sums_to_one_per_channel() -> None:
    module = DSFM([12, 7], 4, floor=0.3)
    gates = module.gates([torch.randn(3, 12, 2, 3, 3), torch.randn(3, 7)])
    assert gates.shape == (3, 5, 4)
    torch.testing.assert_close(((gates - 0.3) / 0.7).sum(1), torch.ones(3, 4))


def test_dsfm_fills_the_last_block_with_zeros() -> None:
    narrow, wide = DSFM([10, 7], 4).eval(), DSFM([12, 8], 4).eval()
    wide.load_state_dict(narrow.state_dict())
    maps = [torch.randn(3, 10, 2, 3, 3), torch.randn(3, 7)]
    padded = [F.pad(maps[0], (0, 0, 0, 0, 0, 0, 0, 2)), F.pad(maps[1], (0, 1))]
    for gated, gated_padded, original in zip(narrow(maps), wide(padded), maps, strict=True):
        torch.testing.assert_close(gated, gated_padded[:, : original.shape[1]])


def test_dsfm_leaves_an_absent_modality_out_of_the_context_and_the_softmax() -> None:
    module = DSFM([12, 7, 7], 4, floor=0.3).eval()
    maps = [torch.randn(3, 12, 2, 3, 3), torch.randn(3, 7, 2, 2), torch.randn(3, 7, 2, 2)]
    present = torch.tensor([[True, True, False], [True, True, True], [True, False, True]])
    gates = module.gates(maps, present)
    torch.testing.assert_close(((gates - 0.3) / 0.7).sum(1), torch.ones(3, 4))
    assert (gates[0, 5:] == 0.3).all()
    assert (gates[2, 3:5] == 0.3).all()
    changed = [maps[0], maps[1], maps[2] + torch.tensor([5.0, 0, 0])[:, None, None, None]]
    assert torch.equal(module.gates(changed, present), gates)
    assert not torch.equal(module.gates(changed), module.gates(maps))
    assert torch.equal(module.gates(maps, torch.ones(3, 3, dtype=torch.bool)), module.gates(maps))


@pytest.mark.parametrize("training", [True, False])
def test_masked_batch_norm_equals_torch_s_on_the_maps_that_are_present(training: bool) -> None:
    masked, plain = MaskedBatchNorm2d(4).train(training), nn.BatchNorm2d(4).train(training)
    weight, bias = torch.randn(4), torch.randn(4)
    for norm in (masked, plain):
        norm.weight.data, norm.bias.data = weight.clone(), bias.clone()
    x = torch.randn(5, 4, 3, 6)
    present = torch.tensor([True, False, True, True, False])
    kept = [torch.randn(3, 4, 3, 6), x[present].clone()]
    found = [masked(kept[0]), masked(x, present)[present]]
    torch.testing.assert_close(found, [plain(part) for part in kept])
    torch.testing.assert_close(dict(masked.state_dict()), dict(plain.state_dict()))


@pytest.mark.parametrize("tiam", ["channel", "st"])
def test_an_absent_person_changes_neither_logits_nor_statistics(tiam: Literal["channel", "st"]) -> None:
    config = replace(SMALL, tiam=tiam, i3d_dropout=0.0, hcn_dropout=0.0, mffm_dropout=0.0)
    assert differences_by_an_absent_person(config) == []
    counted = differences_by_an_absent_person(replace(config, absent_persons="counted"))
    assert "rgb" in counted
    assert "hcn.tiam.content.0.running_mean" in counted


def differences_by_an_absent_person(config: CCDFARM) -> list[str]:
    """Return which logits and running statistics differ if every clip has a second, absent person."""
    torch.manual_seed(0)
    pair, single = (config.build(replace(SHAPE, persons=persons)).train() for persons in (2, 1))
    fewer_blocks = {name: len(value) for name, value in single.state_dict().items() if value.ndim}
    single.load_state_dict(
        {name: value[: fewer_blocks[name]] if value.ndim else value for name, value in pair.state_dict().items()}
    )
    video, person = torch.randn(3, 3, 8, 32, 32), torch.randn(3, 3, 16, 20, 1)
    alone = {"video": video, "skeleton": person}
    beside = {"video": video, "skeleton": torch.cat([person, torch.zeros_like(person)], dim=-1)}
    found = [model(batch) | dict(model.named_buffers()) for model, batch in ((single, alone), (pair, beside))]
    return [name for name in found[0] if not torch.allclose(found[0][name], found[1][name], rtol=1e-3, atol=1e-5)]


@pytest.mark.parametrize("mode", ["st", "channel"])
def test_tiam_starts_as_the_identity(mode: Literal["st", "channel"]) -> None:
    a, b = torch.randn(3, 8, 5, 6), torch.randn(3, 8, 5, 6)
    out_a, out_b = TIAM(8, mode)(a, b)
    assert torch.equal(out_a, a)
    assert torch.equal(out_b, b)


def test_tiam_in_st_mode_equals_its_equations_written_as_einsum() -> None:
    n, c, v, t = 2, 3, 5, 4
    e1, e2, r1, r2 = torch.randn(4, n, c, v, t)
    g1 = torch.einsum("ncvt,ncvs->nts", e1, e2) / (c * v) ** 0.5
    g2 = torch.einsum("ncvt,ncwt->nvw", e1, e2) / (c * t) ** 0.5
    z1 = torch.einsum("nts,ncvt,nvw->ncws", g1.softmax(1), r1, g2.softmax(1))
    z2 = torch.einsum("nts,ncws,nvw->ncvt", g1.softmax(2), r2, g2.softmax(2))
    found1, found2 = attend_st(*(x.transpose(2, 3) for x in (e1, e2, r1, r2)))
    torch.testing.assert_close(found1.transpose(2, 3), z1)
    torch.testing.assert_close(found2.transpose(2, 3), z2)


def test_mmtm_with_zero_excitation_weights_is_the_identity_at_gain_two() -> None:
    module = MMTM((6, 4), gain=2.0)
    for layer in (module.excite_rgb, module.excite_skeleton):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    rgb, skeleton = torch.randn(3, 6, 2, 3, 3), torch.randn(3, 2, 4, 5, 5)
    gated_rgb, gated_skeleton = module(rgb, skeleton, torch.ones(3, 2, dtype=torch.bool))
    assert torch.equal(gated_rgb, rgb)
    assert torch.equal(gated_skeleton, skeleton)


def test_mmtm_gives_both_persons_the_same_gate() -> None:
    rgb, skeleton = torch.randn(1, 6, 2, 3, 3), torch.randn(1, 2, 4, 5, 5)
    _, gated = MMTM((6, 4))(rgb, skeleton, torch.tensor([[True, False]]))
    torch.testing.assert_close(gated[0, 0] / skeleton[0, 0], gated[0, 1] / skeleton[0, 1])


def test_mmtm_leaves_absent_persons_out_of_the_squeeze() -> None:
    module = MMTM((6, 4))
    rgb, skeleton = torch.randn(1, 6, 2, 3, 3), torch.randn(1, 2, 4, 5, 5)
    changed = skeleton.clone()
    changed[:, 1] += 5
    second_absent, both_present = torch.tensor([[True, False]]), torch.tensor([[True, True]])
    assert torch.equal(module(rgb, changed, second_absent)[0], module(rgb, skeleton, second_absent)[0])
    assert not torch.equal(module(rgb, changed, both_present)[0], module(rgb, skeleton, both_present)[0])


@pytest.mark.parametrize("tiam", [None, "st", "channel"])
def test_swapping_persons_swaps_hcn_s_maps_and_keeps_its_logits(tiam: Literal["st", "channel"] | None) -> None:
    attention = None if tiam is None else TIAM(32, tiam)
    model = HCN(7, joints=20, frames=16, tiam=attention).eval()
    skeleton = torch.randn(3, 3, 16, 20, 2)
    skeleton[0, ..., 1] = 0
    swapped = skeleton.flip(-1)
    present = persons_present(skeleton)
    maps, swapped_maps = (
        model.advance(s, p, None, "conv6") for s, p in [(skeleton, present), (swapped, present.flip(1))]
    )
    torch.testing.assert_close(swapped_maps, maps.flip(1))
    torch.testing.assert_close(model(swapped), model(skeleton))


def test_an_absent_person_does_not_change_hcn_s_logits() -> None:
    model = HCN(7, joints=20, frames=16).eval()
    alone = torch.randn(3, 3, 16, 20, 1)
    torch.testing.assert_close(model(torch.cat([alone, torch.zeros_like(alone)], dim=-1)), model(alone))
    assert model(torch.zeros(2, 3, 16, 20, 2)).isfinite().all()


def test_person_max_ignores_absent_persons() -> None:
    maps = torch.tensor([[[-1.0, -2.0], [5.0, 5.0]]])
    assert person_max(maps, torch.tensor([[True, False]])).tolist() == [[-1.0, -2.0]]
    assert person_max(maps, torch.tensor([[True, True]])).tolist() == [[5.0, 5.0]]


def test_motion_of_uniform_movement_is_its_constant_speed() -> None:
    steady = torch.arange(9.0)[None, None, :, None].expand(1, 3, 9, 4)
    assert torch.equal(motion_of(steady), torch.ones(1, 3, 9, 4))


def cross_dependence(config: CCDFARM) -> tuple[bool, bool]:
    """Return whether the skeleton head depends on the video, and whether the video head depends on the skeleton."""
    torch.manual_seed(0)
    model = config.build(SHAPE).eval()
    video, skeleton = torch.randn(2, 3, 8, 32, 32), torch.randn(2, 3, 16, 20, 2)
    original: dict[str, Tensor] = model({"video": video, "skeleton": skeleton})
    other_video = model({"video": video + 1, "skeleton": skeleton})
    other_skeleton = model({"video": video, "skeleton": skeleton * 2})
    return (
        not torch.equal(original["skeleton"], other_video["skeleton"]),
        not torch.equal(original["rgb"], other_skeleton["rgb"]),
    )


@pytest.mark.parametrize("fusion", ["dsfm", "mmtm"])
def test_streams_depend_on_each_other_only_through_fusion_sites(fusion: Literal["dsfm", "mmtm"]) -> None:
    config = replace(SMALL, fusion=fusion)
    assert cross_dependence(replace(config, placement=())) == (False, False)
    assert cross_dependence(replace(config, placement=(DSFM1,))) == (True, True)
    assert cross_dependence(replace(config, placement=(DSFM2,))) == (True, True)


def test_sites_with_floor_one_leave_the_streams_independent() -> None:
    open_gates = tuple(replace(site, floor=1.0) for site in (DSFM1, DSFM2))
    assert cross_dependence(replace(SMALL, placement=open_gates)) == (False, False)


def test_a_site_s_own_reduction_takes_precedence_over_the_model_s() -> None:
    config = replace(SMALL, reduction=4, placement=(DSFM1, replace(DSFM2, reduction=16)))
    modules = [module for module in config.build(SHAPE).modules() if isinstance(module, DSFM)]
    assert [module.joint.out_features for module in modules] == [64 // 4, 256 // 16]


def test_sites_with_the_model_s_floor_and_reduction_cost_the_same_as_sites_without() -> None:
    explicit = tuple(replace(site, floor=0.5, reduction=4) for site in (DSFM1, DSFM2))
    assert replace(SMALL, placement=explicit).describe(SHAPE) == SMALL.describe(SHAPE)


def test_without_mffm_the_fused_logits_are_the_mean_of_the_streams() -> None:
    model = replace(SMALL, mffm=False).build(SHAPE).eval()
    logits = model({"video": torch.randn(2, 3, 8, 32, 32), "skeleton": torch.randn(2, 3, 16, 20, 2)})
    torch.testing.assert_close(logits["fused"], (logits["rgb"] + logits["skeleton"]) / 2)


@pytest.mark.parametrize("fusion", ["dsfm", "mmtm"])
def test_logits_are_finite_where_the_first_or_every_person_is_absent(fusion: Literal["dsfm", "mmtm"]) -> None:
    model = replace(SMALL, fusion=fusion).build(SHAPE).eval()
    skeleton = torch.randn(3, 3, 16, 20, 2)
    skeleton[0, ..., 0] = 0
    skeleton[1] = 0
    logits = model({"video": torch.randn(3, 3, 8, 32, 32), "skeleton": skeleton})
    assert all(head.isfinite().all() for head in logits.values())
