"""PAN's graph network agrees with the public CTR-GCN, and takes any joint tree."""

import numpy as np
import pytest
import torch
from oracle import ORACLES, Oracle, assert_close, draw, is_batch_norm, load
from safetensors.torch import load_file
from torch import Tensor, nn

from coablate_model.joint_tree import parents_of
from coablate_model.pan.ctr_gcn import CTRGC, CTRGCN, GraphUnit
from coablate_model.pan.graph import adjacency
from coablate_model.pan.inputs import persons_tracked, tracked_bones, tracked_motions
from coablate_platform.data.joints import KINECT_V1, KINECT_V2
from coablate_platform.train.initial import build_network

CHAIN = tuple((joint, joint - 1) for joint in range(1, 15))
PARENTS = torch.tensor(parents_of(CHAIN, 15))
STAR = tuple((joint, 7) for joint in range(15) if joint != 7)
TREES = {"20": (KINECT_V1.bones, 20), "25": (KINECT_V2.bones, 25), "chain": (CHAIN, 15), "star": (STAR, 15)}
TREE = adjacency(CHAIN, 15)


def drawn(network: CTRGCN) -> CTRGCN:
    """Give a network the weights of the oracles' recipe, in evaluation mode."""
    own = network.state_dict()
    load(network, {key: draw(key, tuple(v.shape), norm=is_batch_norm(key, set(own))) for key, v in own.items()}, str)
    return network


def skeletons(joints: int = 15, persons: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(3, channels, 9, joints, persons, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_graph_convolution_agrees_with_the_public_code() -> None:
    oracle = Oracle("ctrgc")
    module = CTRGC(int(oracle.meta["in_channels"]), int(oracle.meta["out_channels"]))
    load(module, oracle.weights, str)
    graph = torch.from_numpy(np.random.default_rng(1001).uniform(0, 1, (25, 25)).astype(np.float32))
    assert_close(module(oracle.inputs()[0], graph, 0.7), oracle.outputs()[0], rtol=1e-3, atol=1e-4)


def test_the_adjacency_of_ntu_s_joints_is_the_public_code_s() -> None:
    assert_close(adjacency(KINECT_V2.bones, 25), load_file(ORACLES / "ntu_graph.safetensors")["A"])


@torch.no_grad()
def test_all_subsets_at_once_are_the_sum_of_each_alone() -> None:
    unit = GraphUnit(16, 16, TREE).eval()
    nn.init.constant_(unit.alpha, 0.7)
    nn.init.constant_(unit.bn.weight, 1)
    x = torch.randn(4, 16, 5, 15)
    total = sum(conv(x, graph, unit.alpha) for conv, graph in zip(unit.convs, unit.PA, strict=True))
    assert_close(unit(x), torch.relu(unit.bn(total) + x))


@pytest.mark.parametrize("name", TREES)
def test_every_tree_has_a_normalised_adjacency_and_a_network(name: str) -> None:
    bones, joints = TREES[name]
    graph = adjacency(bones, joints)
    assert torch.equal(graph[0], torch.eye(joints))
    for child, parent in bones:
        assert graph[1, parent, child] == 1  # a child has one parent
        assert graph[2, child, parent] == 1 / sum(other == parent for _, other in bones)
    assert int((graph[1:] > 0).sum()) == 2 * len(bones)
    assert CTRGCN(7, graph, width=0.125)(skeletons(joints)).shape == (3, 7)


@pytest.mark.parametrize(
    ("bones", "message"),
    [
        (((1, 0), (3, 1)), "bone joins joint 3, but the joints are 0 to 2"),
        (((1, 0), (1, 2)), "a joint has two parents"),
        (((1, 0),), "1 bones do not make a tree of 3 joints, which has 2"),
        (((1, 2), (2, 1)), "joint 1 does not reach the root"),
    ],
)
def test_what_is_no_tree_is_refused(bones: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        adjacency(bones, 3)
    assert "\n" not in str(caught.value)


def test_the_network_has_the_public_code_s_sizes_and_keys() -> None:
    network = CTRGCN(60, adjacency(KINECT_V2.bones, 25))
    assert sum(p.numel() for p in network.parameters()) == 1_446_672
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["data_bn.weight"] == (150,)
    assert shapes["l1.gcn1.convs.2.conv1.weight"] == (8, 3, 1, 1)
    assert shapes["l1.gcn1.down.0.weight"] == (64, 3, 1, 1)
    assert shapes["l5.gcn1.PA"] == (3, 25, 25)
    assert shapes["l5.residual.conv.weight"] == (128, 64, 1, 1)
    assert shapes["l8.tcn1.branches.1.3.conv.weight"] == (64, 64, 5, 1)
    assert shapes["l10.tcn1.branches.2.4.running_var"] == (64,)
    assert not [key for key in shapes if key.startswith(("l1.residual", "l2.residual", "l2.gcn1.down", "project"))]


def test_the_network_starts_with_the_public_code_s_values() -> None:
    network = build_network(lambda: CTRGCN(60, TREE, width=0.5), (0, 0))
    weights = dict(network.named_parameters())
    assert torch.equal(weights["l3.gcn1.PA"], TREE)
    assert weights["l3.gcn1.alpha"] == 0
    assert (weights["l3.gcn1.bn.weight"] == 1e-6).all()
    assert weights["l3.gcn1.convs.0.conv3.weight"].std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.1)
    assert (weights["l3.gcn1.convs.0.conv3.bias"] == 0).all()
    assert 0.005 < weights["l8.tcn1.branches.0.1.weight"].std().item() < 0.04
    assert weights["fc.weight"].std().item() == pytest.approx((2 / 60) ** 0.5, rel=0.1)


@torch.no_grad()
def test_permuting_persons_changes_no_logit_where_the_input_norm_treats_them_alike() -> None:
    network, clips = drawn(CTRGCN(7, TREE, width=0.25)), skeletons()
    assert not torch.allclose(network(clips), network(clips.flip(-1)), rtol=1e-3)
    for values in (network.data_bn.weight, network.data_bn.bias, network.data_bn.running_mean):
        values.view(2, -1)[1] = values.view(2, -1)[0]
    network.data_bn.running_var.view(2, -1)[1] = network.data_bn.running_var.view(2, -1)[0]
    torch.testing.assert_close(network(clips), network(clips.flip(-1)), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_tokens_are_projected_first_and_features_precede_the_class_layer() -> None:
    network = drawn(CTRGCN(7, TREE, in_channels=48, width=0.25, project=True))
    tokens = skeletons(channels=48)
    assert network.data_bn.num_features == 2 * 15 * 16
    assert network.l1.gcn1.convs[0].conv1.weight.shape == (2, 16, 1, 1)
    features = network.features(tokens)
    assert features.shape == (3, 64)
    assert torch.equal(network.fc(features), network(tokens))


def test_a_width_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width is 0\.1, but 64 × width must be a multiple of 4"):
        CTRGCN(7, TREE, width=0.1)


def test_a_static_skeleton_has_bones_and_no_motion() -> None:
    still = skeletons()[:, :, :1].expand(-1, -1, 9, -1, -1)
    assert (tracked_motions(still) == 0).all()
    bones = tracked_bones(still, PARENTS)
    assert (bones[:, :, :, 0] == 0).all()
    assert torch.equal(bones[:, :, :, 5], still[:, :, :, 5] - still[:, :, :, 4])


def test_bones_and_motions_are_zero_where_a_joint_is_absent() -> None:
    clips = skeletons()
    clips[0, :, 4, 6, 1] = 0
    bones, motions = tracked_bones(clips, PARENTS), tracked_motions(clips)
    assert (bones[0, :, 4, 6:8, 1] == 0).all()  # its own, and its child's
    assert (motions[0, :, 3:5, 6, 1] == 0).all()  # to the frame, and from it
    assert (motions[:, :, -1] == 0).all()
    assert (bones != 0).sum() == clips.numel() * 14 // 15 - 6
    assert (motions != 0).sum() == clips.numel() * 8 // 9 - 6
    assert torch.equal(motions[1, :, 2], clips[1, :, 3] - clips[1, :, 2])


def test_a_joint_at_the_origin_of_a_tracked_person_can_be_present() -> None:
    clips = skeletons()
    clips[:, :, :, 3] = 0
    clips[:, :, :, :, 1] = 0
    bones = tracked_bones(clips, PARENTS, persons_tracked(clips))
    assert torch.equal(bones[..., 4, 0], clips[..., 4, 0])
    assert (bones[..., 1] == 0).all()
