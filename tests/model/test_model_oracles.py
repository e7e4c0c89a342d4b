"""Every module agrees with the stored outputs of its public ancestor, for weights and inputs drawn by the same recipe.

``draw`` and ``Oracle.inputs`` are that recipe. An output file's metadata lists the ancestor's state-dict keys, from
which the weights are drawn.
"""

import json
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from coablate_model.dsfm import DSFM
from coablate_model.hcn import HCN
from coablate_model.i3d import I3D
from coablate_model.mffm import MFFM
from coablate_model.mmtm import MMTM
from coablate_model.tiam import TIAM

ORACLES = Path(__file__).parent / "oracles"


class Oracle:
    """One file of stored outputs, with the weights and inputs that they belong to."""

    def __init__(self, name: str) -> None:
        with safe_open(ORACLES / f"{name}.safetensors", "pt") as file:
            self.meta = file.metadata()
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
        self.weights = {
            key: draw(key, tuple(shape), batch_norm=is_batch_norm(key, json.loads(self.meta["keys"])))
            for key, shape in json.loads(self.meta.get("keys", "{}")).items()
        }

    def inputs(self) -> list[Tensor]:
        shapes = json.loads(self.meta["inputs"])
        return [
            torch.from_numpy(np.random.default_rng(1000 + i).standard_normal(shape).astype(np.float32))
            for i, shape in enumerate(shapes)
        ]

    def outputs(self) -> list[Tensor]:
        return [self.tensors[f"output/{i}"] for i in range(len(self.tensors))]


def is_batch_norm(key: str, keys: Collection[str]) -> bool:
    return key.rpartition(".")[0] + ".running_mean" in keys


def draw(key: str, shape: tuple[int, ...], *, batch_norm: bool) -> Tensor:
    """Draw a weight from its state-dict key; the values keep activations at a moderate scale."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    kind = key.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    if batch_norm and kind in ("weight", "running_var"):
        values = generator.uniform(0.5, 1.5, shape)
    elif kind in ("bias", "running_mean") or len(shape) == 1:
        values = 0.1 * generator.standard_normal(shape)
    else:
        values = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def load(module: nn.Module, weights: dict[str, Tensor], rename: Callable[[str], str]) -> None:
    """Load an ancestor's weights under our state-dict keys and switch to eval mode."""
    module.load_state_dict({rename(key): value for key, value in weights.items()}, strict=True)
    module.eval()


def assert_close(found: Tensor, expected: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


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
    weights = {key: draw(key, tuple(v.shape), batch_norm=is_batch_norm(key, set(own))) for key, v in own.items()}
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


def leaf(key: str) -> str:
    """Return the last part of a state-dict key: ``weight``, ``bias`` …"""
    return key.rpartition(".")[2]
