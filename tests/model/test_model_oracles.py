"""Every module agrees with the stored outputs of its public ancestor, for equal weights and inputs."""

import numpy as np
import pytest
import torch
from oracle import Oracle, assert_close, draw, is_batch_norm, leaf, load

from coablate_model.dsfm import DSFM
from coablate_model.hcn import HCN
from coablate_model.i3d import I3D
from coablate_model.mffm import MFFM
from coablate_model.mmtm import MMTM
from coablate_model.tiam import TIAM


@pytest.mark.parametrize("name", ["dsfm_small", "dsfm_mid", "dsfm_high"])
@torch.no_grad()
def test_dsfm_agrees_with_the_public_msaf_code(name: str) -> None:
    oracle = Oracle(name)
    inputs = oracle.inputs()
    module = DSFM(
        [x.shape[1] for x in inputs],
        int(oracle.meta["block_channels"]),
        floor=float(oracle.meta["lambda_"]),
        reduction=int(oracle.meta["reduction"]),
    )
    blocks = sum(key.startswith("dense_group") and key.endswith("weight") for key in oracle.weights)
    excite = {
        f"excite.{kind}": torch.cat([oracle.weights[f"dense_group.{i}.{kind}"] for i in range(blocks)])
        for kind in ("weight", "bias")
    }
    joint = {key: value for key, value in oracle.weights.items() if key.startswith("joint_features")}
    names = {"joint_features.0": "joint", "joint_features.1": "norm"}
    load(module, joint | excite, lambda key: names.get(key.rpartition(".")[0], "excite") + "." + leaf(key))
    for found, expected in zip(module(inputs), oracle.outputs(), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("name", ["tiam_channel_25", "tiam_channel_64"])
@torch.no_grad()
def test_tiam_in_channel_mode_agrees_with_its_public_ancestor(name: str) -> None:
    oracle = Oracle(name)
    inputs = oracle.inputs()
    module = TIAM(inputs[0].shape[1], "channel")
    names = {"g": "content", "theta": "embed_a", "phi": "embed_b", "W": "restore"}
    load(module, oracle.weights, lambda key: names[key.partition(".")[0]] + "." + key.partition(".")[2])
    for found, expected in zip(module(*inputs), oracle.outputs(), strict=True):
        assert_close(found, expected)


@torch.no_grad()
def test_mffm_agrees_with_the_public_dynamic_feature_fusion() -> None:
    oracle = Oracle("mffm")
    module = MFFM(64)
    oracle.weights["conv_atten.0.weight"] = oracle.weights["conv_atten.0.weight"].flatten(1)
    names = {"conv_atten.0": "channel_gate", "conv_redu": "reduce", "conv1": "place_a", "conv2": "place_b"}
    load(module, oracle.weights, lambda key: names[key.rpartition(".")[0]] + "." + leaf(key))
    assert_close(module(*oracle.inputs()), oracle.outputs()[0])


@torch.no_grad()
def test_mmtm_agrees_with_the_public_code() -> None:
    oracle = Oracle("mmtm")
    module = MMTM((64, 32), ratio=int(oracle.meta["ratio"]), gain=1.0, relu=True)
    names = {"fc_squeeze": "squeeze", "fc_visual": "excite_rgb", "fc_skeleton": "excite_skeleton"}
    load(module, oracle.weights, lambda key: names[key.rpartition(".")[0]] + "." + leaf(key))
    rgb, skeleton = oracle.inputs()
    gated_rgb, gated_skeleton = module(rgb, skeleton[:, None], torch.ones(len(rgb), 1, dtype=torch.bool))
    assert_close(gated_rgb, oracle.outputs()[0])
    assert_close(gated_skeleton[:, 0], oracle.outputs()[1])


@torch.no_grad()
def test_hcn_agrees_with_the_public_code() -> None:
    oracle = Oracle("hcn_t32")
    module = HCN(60, joints=25, frames=32)
    load(module, oracle.weights, hcn_name)
    assert_close(module(*oracle.inputs()), oracle.outputs()[0], rtol=1e-3, atol=1e-4)


def hcn_name(key: str) -> str:
    """Rename a key of the public HCN, which ends the motion branch's layers in ``m``."""
    layer = key.partition(".")[0]
    if layer in ("conv5", "conv6", "fc7", "fc8"):
        return f"{layer}.{leaf(key)}"
    return f"{'motion' if layer.endswith('m') else 'position'}.{layer.removesuffix('m')}.{leaf(key)}"


@torch.no_grad()
def test_i3d_agrees_with_the_published_port_at_every_stored_endpoint() -> None:
    expected = Oracle("i3d_endpoints").tensors
    model = I3D(60)
    own = model.state_dict()
    weights = {key: draw(key, tuple(v.shape), norm=is_batch_norm(key, set(own))) for key, v in own.items()}
    load(model, weights, str)
    video = np.random.default_rng(2025).uniform(-1, 1, (1, 3, 16, 112, 112)).astype(np.float32)
    x, layer = torch.from_numpy(video), None
    stored_parts = {
        "Conv3d_1a_7x7": (slice(None), slice(8), *[slice(None, None, 4)] * 3),
        "Mixed_3c": (slice(None), slice(32), *[slice(None, None, 2)] * 3),
        "Mixed_4f": (slice(None), slice(None, None, 8)),
        "Mixed_5b": (slice(None), slice(None, None, 4)),
        "Mixed_5c": (slice(None), slice(None, None, 4)),
    }
    for endpoint, part in stored_parts.items():
        x, layer = model.advance(x, layer, endpoint), endpoint
        assert_close(x[part], expected[endpoint], rtol=1e-3, atol=1e-4)
