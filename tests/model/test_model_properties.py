"""What must hold of each module whatever its weights are."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.dsfm import DSFM
from coablate_model.hcn import HCN, motion_of, person_max, persons_present
from coablate_model.i3d import ENDPOINTS, I3D, SameConv3d, SameMaxPool3d, same_padding
from coablate_model.mmtm import MMTM
from coablate_model.placement import DSFM1, DSFM2
from coablate_model.tiam import TIAM, interact_st

SHAPE = SimpleNamespace(classes=7, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_those_of_the_papers_modules() -> None:
    assert parameters(I3D(60)) == 12_348_764
    assert parameters(HCN(60, joints=25, frames=32)) == 1_062_652
    assert parameters(DSFM([832, 128, 128], 64)) == 19_568
    assert parameters(DSFM([1024, 512], 256)) == 116_416
    assert parameters(TIAM(32)) == 2_384


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 9])
def test_padding_is_same_as_explicit_zeros(size: int, kernel: int, stride: int) -> None:
    x = torch.randn(2, 3, size, size + 1, size + 2, generator=torch.Generator().manual_seed(0)).relu()
    amounts = [a for n in reversed(x.shape[2:]) for a in same_padding(n, kernel, stride)]
    padded = F.pad(x, amounts)
    conv = SameConv3d(3, 4, kernel, stride)
    explicit = F.conv3d(padded, conv.weight, conv.bias, stride)
    assert explicit.shape[2:] == tuple(-(-n // stride) for n in x.shape[2:])
    torch.testing.assert_close(conv(x), explicit)
    if (kernel, stride) not in [(7, 1), (7, 2), (2, 1)]:  # no pool of I3D is of these
        pool = SameMaxPool3d((kernel,) * 3, (stride,) * 3)
        assert torch.equal(pool(x), F.max_pool3d(padded, kernel, stride))


def test_layout_survives_the_trunk() -> None:
    model = I3D(5, width=0.25).eval()
    for conv in model.modules():
        if isinstance(conv, nn.Conv3d):
            conv.to(memory_format=torch.channels_last_3d)
    x, done = torch.randn(16, 3, 8, 37, 37).to(memory_format=torch.channels_last_3d), None
    for name in ENDPOINTS:
        x, done = model.advance(x, done, name), name
        assert x.is_contiguous(memory_format=torch.channels_last_3d), name


def test_checkpointed_activations_change_nothing() -> None:
    video, found = torch.randn(2, 3, 8, 32, 32), []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = I3D(5, width=0.25, checkpoint_activations=checkpointed)
        model(video).square().sum().backward()
        found.append([*(p.grad for p in model.parameters()), *model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_dsfm_with_floor_one_is_the_identity() -> None:
    maps = [torch.randn(3, 12, 2, 3, 3), torch.randn(3, 7)]
    for found, given in zip(DSFM([12, 7], 4, floor=1.0)(maps), maps, strict=True):
        assert torch.equal(found, given)


def test_dsfm_gates_share_one_attention_over_all_blocks() -> None:
    module = DSFM([12, 7], 4, floor=0.3)
    gates = module.gates([torch.randn(3, 12, 2, 3, 3), torch.randn(3, 7)])
    assert gates.shape == (3, 5, 4)
    torch.testing.assert_close(((gates - 0.3) / 0.7).sum(1), torch.ones(3, 4))


def test_dsfm_treats_missing_channels_as_zeros() -> None:
    narrow, wide = DSFM([10, 7], 4).eval(), DSFM([12, 8], 4).eval()
    wide.load_state_dict(narrow.state_dict())
    maps = [torch.randn(3, 10, 2, 3, 3), torch.randn(3, 7)]
    padded = [F.pad(maps[0], (0, 0, 0, 0, 0, 0, 0, 2)), F.pad(maps[1], (0, 1))]
    for found, full, given in zip(narrow(maps), wide(padded), maps, strict=True):
        torch.testing.assert_close(found, full[:, : given.shape[1]])


@pytest.mark.parametrize("mode", ["st", "channel"])
def test_tiam_starts_as_the_identity(mode: str) -> None:
    a, b = torch.randn(3, 8, 5, 6), torch.randn(3, 8, 5, 6)
    out_a, out_b = TIAM(8, mode)(a, b)  # type: ignore[arg-type]
    assert torch.equal(out_a, a)
    assert torch.equal(out_b, b)


def test_tiam_st_is_the_einsum_of_the_specification() -> None:
    n, c, v, t = 2, 3, 5, 4
    e1, e2, r1, r2 = torch.randn(4, n, c, v, t)
    g1 = torch.einsum("ncvt,ncvs->nts", e1, e2) / (c * v) ** 0.5
    g2 = torch.einsum("ncvt,ncwt->nvw", e1, e2) / (c * t) ** 0.5
    z1 = torch.einsum("nts,ncvt,nvw->ncws", g1.softmax(1), r1, g2.softmax(1))
    z2 = torch.einsum("nts,ncws,nvw->ncvt", g1.softmax(2), r2, g2.softmax(2))
    found1, found2 = interact_st(*(x.transpose(2, 3) for x in (e1, e2, r1, r2)))
    torch.testing.assert_close(found1.transpose(2, 3), z1)
    torch.testing.assert_close(found2.transpose(2, 3), z2)


def test_mmtm_with_closed_excitation_is_the_identity_at_gain_two() -> None:
    module = MMTM((6, 4), gain=2.0)
    for layer in (module.excite_rgb, module.excite_skeleton):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    rgb, skeleton = torch.randn(3, 6, 2, 3, 3), torch.randn(3, 2, 4, 5, 5)
    gated_rgb, gated_skeleton = module(rgb, skeleton, torch.ones(3, 2, dtype=torch.bool))
    assert torch.equal(gated_rgb, rgb)
    assert torch.equal(gated_skeleton, skeleton)


def test_mmtm_gates_both_persons_alike_and_does_not_see_an_absent_one() -> None:
    module = MMTM((6, 4))
    rgb, skeleton = torch.randn(1, 6, 2, 3, 3), torch.randn(1, 2, 4, 5, 5)
    one = torch.tensor([[True, False]])
    _, gated = module(rgb, skeleton, one)
    torch.testing.assert_close(gated[0, 0] / skeleton[0, 0], gated[0, 1] / skeleton[0, 1])
    other = skeleton.clone()
    other[:, 1] += 5
    assert torch.equal(module(rgb, other, one)[0], module(rgb, skeleton, one)[0])
    both = torch.tensor([[True, True]])
    assert not torch.equal(module(rgb, other, both)[0], module(rgb, skeleton, both)[0])


@pytest.mark.parametrize("tiam", [None, "st", "channel"])
def test_swapping_the_persons_swaps_the_maps_and_leaves_the_scores(tiam: str | None) -> None:
    attention = None if tiam is None else TIAM(32, tiam)  # type: ignore[arg-type]
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


def test_an_absent_person_does_not_count() -> None:
    model = HCN(7, joints=20, frames=16).eval()
    alone = torch.randn(3, 3, 16, 20, 1)
    torch.testing.assert_close(model(torch.cat([alone, torch.zeros_like(alone)], dim=-1)), model(alone))
    assert model(torch.zeros(2, 3, 16, 20, 2)).isfinite().all()


def test_person_max_looks_at_the_present_only() -> None:
    maps = torch.tensor([[[-1.0, -2.0], [5.0, 5.0]]])
    assert person_max(maps, torch.tensor([[True, False]])).tolist() == [[-1.0, -2.0]]
    assert person_max(maps, torch.tensor([[True, True]])).tolist() == [[5.0, 5.0]]


def test_motion_of_a_steady_movement_is_its_speed() -> None:
    steady = torch.arange(9.0)[None, None, :, None].expand(1, 3, 9, 4)
    assert torch.equal(motion_of(steady), torch.ones(1, 3, 9, 4))


def sensitivity(config: CCDFARM) -> tuple[bool, bool]:
    """Return whether the skeleton head feels the video and the video head the skeleton."""
    torch.manual_seed(0)
    model = config.build(SHAPE).eval()
    video, skeleton = torch.randn(2, 3, 8, 32, 32), torch.randn(2, 3, 16, 20, 2)
    first: dict[str, Tensor] = model({"video": video, "skeleton": skeleton})
    other_video = model({"video": video + 1, "skeleton": skeleton})
    other_skeleton = model({"video": video, "skeleton": skeleton * 2})
    return (
        not torch.equal(first["skeleton"], other_video["skeleton"]),
        not torch.equal(first["rgb"], other_skeleton["rgb"]),
    )


@pytest.mark.parametrize("fusion", ["dsfm", "mmtm"])
def test_streams_depend_on_each_other_only_through_sites(fusion: str) -> None:
    config = {"width": 0.25, "fusion": fusion}
    assert sensitivity(CCDFARM(placement=(), **config)) == (False, False)  # type: ignore[arg-type]
    assert sensitivity(CCDFARM(placement=(DSFM1,), **config)) == (True, True)  # type: ignore[arg-type]
    assert sensitivity(CCDFARM(placement=(DSFM2,), **config)) == (True, True)  # type: ignore[arg-type]


def test_a_site_may_have_its_own_floor_and_reduction() -> None:
    closed = tuple(replace(site, floor=1.0) for site in (DSFM1, DSFM2))  # gates that cannot close join nothing
    assert sensitivity(CCDFARM(width=0.25, placement=closed)) == (False, False)
    own = CCDFARM(width=0.25, reduction=4, placement=(DSFM1, replace(DSFM2, reduction=16)))
    sites = [block for block in own.build(SHAPE).modules() if isinstance(block, DSFM)]
    assert [block.joint.out_features for block in sites] == [64 // 4, 256 // 16]
    same = CCDFARM(width=0.25, placement=tuple(replace(site, floor=0.5, reduction=4) for site in (DSFM1, DSFM2)))
    assert same.describe(SHAPE) == CCDFARM(width=0.25, floor=0.5, reduction=4).describe(SHAPE)


def test_without_mffm_the_prediction_is_the_mean_of_the_streams() -> None:
    model = CCDFARM(width=0.25, mffm=False).build(SHAPE).eval()
    scores = model({"video": torch.randn(2, 3, 8, 32, 32), "skeleton": torch.randn(2, 3, 16, 20, 2)})
    torch.testing.assert_close(scores["fused"], (scores["rgb"] + scores["skeleton"]) / 2)


@pytest.mark.parametrize("fusion", ["dsfm", "mmtm"])
def test_an_absent_first_person_leaves_every_score_finite(fusion: str) -> None:
    model = CCDFARM(width=0.25, fusion=fusion).build(SHAPE).eval()  # type: ignore[arg-type]
    skeleton = torch.randn(3, 3, 16, 20, 2)
    skeleton[0, ..., 0] = 0
    skeleton[1] = 0
    scores = model({"video": torch.randn(3, 3, 8, 32, 32), "skeleton": skeleton})
    assert all(score.isfinite().all() for score in scores.values())
