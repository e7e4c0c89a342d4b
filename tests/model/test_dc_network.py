"""Properties of D&C's inputs, encoders, heads and network that hold for any weights."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from coablate_model.dc.encoder import GRANULARITIES, DCEncoder, LateFusion, build_encoder, sinusoids
from coablate_model.dc.heads import Composition, CompositionKind, projection_key
from coablate_model.dc.inputs import MODALITIES, modality_of, tokens_of
from coablate_model.dc.network import DCNetwork
from coablate_model.dc.objective import PretrainingObjective
from coablate_model.joint_tree import parents_of
from coablate_platform.train.initial import build_network

BONES = ((0, 1), (2, 1), (3, 2))
"""Joint 1 is the root."""

SIZES: dict[str, Any] = {"bones": BONES, "frames": 6, "joints": 4, "persons": 2, "width": 8, "feed_forward": 10}
KINDS: tuple[CompositionKind, ...] = ("mean", "concat", "attention")


def skeletons(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def small(**settings: Any) -> DCNetwork:
    torch.manual_seed(0)
    return DCNetwork(5, **SIZES, projector_hidden=12, projector_out=16, **settings)


def encoders() -> list[DCEncoder | LateFusion]:
    torch.manual_seed(0)
    return [build_encoder("early", **SIZES), build_encoder("late", **SIZES)]


def of(name: str, skeleton: Tensor) -> Tensor:
    return modality_of(name, skeleton, torch.tensor(parents_of(BONES, 4)))


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # as torch has it


def test_a_bone_leads_from_the_parent_and_the_root_has_none() -> None:
    skeleton = skeletons(2, 3, 6, 4, 2)
    bone = of("bone", skeleton)
    assert not bone[:, :, :, 1].any()
    torch.testing.assert_close(bone[:, :, :, 3], skeleton[:, :, :, 3] - skeleton[:, :, :, 2])
    torch.testing.assert_close(of("bone", skeleton + 5), bone, rtol=1e-4, atol=1e-5)  # bones do not see position


def test_the_motion_of_a_skeleton_that_stands_still_is_0_and_so_is_that_of_the_last_frame() -> None:
    skeleton = skeletons(2, 3, 6, 4, 2)
    motion = of("motion", skeleton)
    assert not of("motion", skeleton[:, :, :1].expand_as(skeleton)).any()
    assert not motion[:, :, -1].any()
    torch.testing.assert_close(skeleton[:, :, :1] + motion.sum(2, keepdim=True), skeleton[:, :, -1:])


def test_a_temporal_token_is_a_frame_and_a_spatial_token_is_a_person_s_joint() -> None:
    skeleton = skeletons(2, 3, 6, 4, 2)
    tokens = tokens_of(skeleton)
    assert tokens.temporal.shape == (2, 6, 24)
    assert tokens.spatial.shape == (2, 8, 18)
    assert torch.equal(tokens.temporal[:, 2].view(2, 2, 4, 3), skeleton[:, :, 2].permute(0, 3, 2, 1))
    assert torch.equal(tokens.spatial[:, 4 + 3].view(2, 6, 3), skeleton[:, :, :, 3, 1].permute(0, 2, 1))


def test_positions_are_sines_and_cosines_at_any_width() -> None:
    even = sinusoids(5, 8)
    assert sinusoids(5, 7).shape == (5, 7)
    assert torch.equal(even[0], torch.tensor([0.0, 1] * 4))
    torch.testing.assert_close(even[:, :2], torch.stack([torch.arange(5.0).sin(), torch.arange(5.0).cos()], dim=1))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("encoder", encoders(), ids=lambda encoder: type(encoder).__name__)
def test_one_batch_of_views_equals_separate_passes(encoder: DCEncoder | LateFusion, training: bool) -> None:
    views = skeletons(3, 4, 3, 6, 4, 2)
    encoder.train(training)
    together = encoder.views(views)
    separate = {name: encoder.unimodal(name, views[:, i]) for i, name in enumerate(MODALITIES)}
    torch.testing.assert_close(together, separate | {"fused": encoder.fused(views[:, 3])})


@pytest.mark.parametrize("encoder", encoders(), ids=lambda encoder: type(encoder).__name__)
@torch.no_grad()
def test_spatial_tokens_are_a_set_and_temporal_tokens_a_sequence(
    encoder: DCEncoder | LateFusion,
) -> None:
    skeleton = skeletons(3, 3, 6, 4, 2)
    features, swapped = (encoder.eval().unimodal("joint", x) for x in (skeleton, skeleton.flip(4)))
    assert {key: tuple(value.shape) for key, value in features.items()} == {
        "temporal": (3, 8),
        "spatial": (3, 8),
        "whole": (3, 16),
    }
    assert torch.equal(features["whole"], torch.cat([features["temporal"], features["spatial"]], dim=1))
    torch.testing.assert_close(swapped["spatial"], features["spatial"])
    assert not torch.allclose(swapped["temporal"], features["temporal"], atol=1e-3)
    backwards = encoder.unimodal("joint", skeleton.flip(2))
    assert not torch.allclose(backwards["temporal"], features["temporal"], atol=1e-3)


@torch.no_grad()
def test_late_fusion_is_the_mean_of_three_encoders() -> None:
    late, skeleton = encoders()[1], skeletons(3, 3, 6, 4, 2)
    unimodal = [late.unimodal(name, skeleton)["whole"] for name in MODALITIES]
    torch.testing.assert_close(late.fused(skeleton)["whole"], torch.stack(unimodal).mean(0))


@pytest.mark.parametrize(("fusion", "gflops"), [("early", 2.51), ("late", 5.14)])
@torch.no_grad()
def test_at_the_parent_s_sizes_early_fusion_costs_half_of_late_fusion(
    fusion: Literal["early", "late"], gflops: float
) -> None:
    """The products of queries with keys and of weights with values, 1 %, are left out."""
    bones = [(joint, joint - 1) for joint in range(1, 25)]
    with torch.device("meta"):
        network = DCNetwork(60, bones=bones, frames=64, joints=25, persons=2, fusion=fusion).eval()
        with FlopCounterMode(display=False) as counter:
            network({"skeleton": torch.empty(1, 3, 64, 25, 2)})
    attention = (1 if fusion == "early" else 3) * 4 * (64**2 + 50**2) * 1024
    assert (counter.get_total_flops() - attention) / 1e9 == pytest.approx(gflops, abs=0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_composition_gives_the_unimodal_path_no_gradient_and_its_own_weights_one(kind: CompositionKind) -> None:
    unimodal = {name: skeletons(3, 16).requires_grad_() for name in MODALITIES}
    composition = Composition(kind, 16)
    composed = composition(unimodal)
    assert composed.shape == (3, 16)
    if kind == "mean":
        assert not composed.requires_grad
    else:
        backward(composed.pow(2).sum())
        assert all(parameter.grad is not None for parameter in composition.parameters())
    assert all(features.grad is None for features in unimodal.values())


def test_attention_that_scores_all_alike_is_the_mean() -> None:
    unimodal = {name: i + skeletons(3, 16) for i, name in enumerate(MODALITIES)}
    attention = Composition("attention", 16)
    torch.nn.init.zeros_(attention.score.weight)
    torch.testing.assert_close(attention(unimodal), Composition("mean", 16)(unimodal))


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_pre_training_every_parameter_but_the_class_layer_s_has_a_gradient(
    kind: CompositionKind, fusion: Literal["early", "late"]
) -> None:
    network = small(composition=kind, fusion=fusion).train()
    outputs = network({"skeleton": skeletons(8, 4, 3, 6, 4, 2)})
    backward(PretrainingObjective().loss(outputs, {}, 0)["loss"])
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {"classify.weight", "classify.bias"}
    changed = {id(parameter) for parameter in network.pretrained_parameters()}
    assert without == {name for name, parameter in network.named_parameters() if id(parameter) not in changed}


def test_composition_alone_leaves_the_unimodal_path_without_gradient() -> None:
    network = small(fusion="early").train()
    views = skeletons(8, 4, 3, 6, 4, 2).requires_grad_()
    objective = PretrainingObjective(granularities=())
    backward(objective.loss(network({"skeleton": views}), {}, 0)["loss"])
    assert views.grad is not None
    assert not views.grad[:, :3].any()
    assert views.grad[:, 3].any()


def test_the_outputs_of_pre_training_are_those_that_the_settings_ask_for() -> None:
    views = {"skeleton": skeletons(8, 4, 3, 6, 4, 2)}
    outputs = small()(views)
    keys = {projection_key(g, m, fused=f) for g in GRANULARITIES for m in MODALITIES for f in (False, True)}
    assert set(outputs) == keys | {"features", "composed"}
    assert {tuple(outputs[key].shape) for key in keys} == {(8, 16)}
    assert set(small(granularities=(), composition=None)(views)) == {"features"}


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("freeze", [False, True])
def test_classification_trains_the_class_layer_and_an_encoder_that_is_not_frozen(
    freeze: bool, fusion: Literal["early", "late"]
) -> None:
    network = small(freeze_encoder=freeze, fusion=fusion).train()
    outputs = network({"skeleton": skeletons(8, 3, 6, 4, 2)})
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {"features": (8, 16), "fused": (8, 5)}
    backward(outputs["fused"].pow(2).sum())
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert trained == {names[id(parameter)] for parameter in network.classifying_parameters()}
    rest = {name for name in trained if not name.startswith("classify")}
    assert all(name.startswith("encoder") for name in rest)
    assert bool(rest) is not freeze


def test_early_fusion_alone_is_trained_by_the_consistency_of_two_fused_views() -> None:
    network = small(granularities=(), composition=None, consistency=True).train()
    objective = PretrainingObjective(granularities=(), composition=0.0, consistency=1.0)
    losses = objective.loss(network({"skeleton": skeletons(8, 4, 3, 6, 4, 2)}), {}, 0)
    assert set(losses) == {"loss", "loss_consistency"}
    losses["loss"].backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == ["classify.weight", "classify.bias"]
    same = skeletons(8, 1, 3, 6, 4, 2).expand(-1, 4, -1, -1, -1, -1)
    outputs = network({"skeleton": same})
    torch.testing.assert_close(outputs["once"], outputs["again"])


def test_initial_values_follow_from_the_seed_and_from_names() -> None:
    def values(fusion: Literal["early", "late"], seed: int) -> dict[str, Tensor]:
        network = build_network(lambda: small(fusion=fusion, composition="attention"), (0, seed))
        return dict(network.named_parameters())

    first, again, other, late = values("early", 0), values("early", 0), values("early", 1), values("late", 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classify.weight"], other["classify.weight"])
    common = set(first) & set(late)
    assert {"classify.weight", "encoder.embeddings.spatial.bone.0.weight"} <= common
    assert all(torch.equal(first[name], late[name]) for name in common)
    attention = "encoder.encoder.{}.layers.0.self_attn.in_proj_weight"
    assert not torch.equal(first[attention.format("temporal")], first[attention.format("spatial")])
