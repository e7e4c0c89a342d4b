"""Features, projections, losses and gradients agree with the public code of UmURL, the parent of D&C."""

import json

import pytest
import torch
from oracle import Oracle, assert_close, leaf
from torch import Tensor

from coablate_model.dc.heads import projection_key
from coablate_model.dc.inputs import MODALITIES, modality_of, tokens_of
from coablate_model.dc.network import DCNetwork
from coablate_model.dc.objective import UMURL

BONES = (
    *((0, 1), (1, 20), (2, 20), (3, 2), (4, 20), (5, 4), (6, 5), (7, 6), (8, 20), (9, 8), (10, 9), (11, 10)),
    *((12, 0), (13, 12), (14, 13), (15, 14), (16, 0), (17, 16), (18, 17), (19, 18)),
    *((21, 22), (22, 7), (23, 24), (24, 11)),
)
"""The parent's joint tree of NTU RGB+D; joint 20 is the root."""

BY_LETTER = {name[0]: name for name in MODALITIES}
SEQUENCES = {"t": "temporal", "s": "spatial"}


def own_name(key: str) -> str:
    """Rename a key of the parent."""
    head, *parts = key.removeprefix("backbone.").split(".")
    if head.endswith("_projector"):
        return ".".join(["projectors.whole", BY_LETTER[head[0]], *parts])
    sequence = SEQUENCES[parts[0][0]]
    if head == "mm_fusion":
        return f"encoder.fuse_{sequence}.{leaf(key)}"
    if head == "ma_encoder":
        return ".".join(["encoder.encoder", sequence, *parts[1:]])
    return ".".join(["encoder.embeddings", sequence, BY_LETTER[head[0]], *parts[1:]])


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle("umurl", layer_norms=("_embedding.1", ".norm1", ".norm2"))


@pytest.fixture
def network(oracle: Oracle) -> DCNetwork:
    network = DCNetwork(
        60,
        bones=BONES,
        frames=64,
        joints=25,
        persons=2,
        width=64,
        feed_forward=64,
        granularities=("whole",),
        projector_hidden=128,
        projector_out=4096,
        composition=None,
    )
    weights = {own_name(key): value for key, value in oracle.weights.items()}
    missing = network.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["classify.weight", "classify.bias"]
    assert missing.unexpected_keys == []
    return network


def test_the_token_sequences_have_the_parent_s_order_of_axes(oracle: Oracle, network: DCNetwork) -> None:
    skeleton = oracle.inputs()[3][:1]
    tokens = {name: tokens_of(modality_of(name, skeleton, network.encoder.embeddings.parents)) for name in MODALITIES}
    assert_close(tokens["bone"].temporal, oracle.tensors["bone_temporal"])
    assert_close(tokens["motion"].spatial, oracle.tensors["motion_spatial"])


@pytest.mark.parametrize("no_grad", [True, False])  # without gradients torch takes a faster path
def test_fused_and_unimodal_features_agree_in_eval_mode(oracle: Oracle, network: DCNetwork, no_grad: bool) -> None:
    skeleton = oracle.inputs()[3]
    with torch.set_grad_enabled(not no_grad):
        encoder = network.eval().encoder
        assert_close(encoder.fused(skeleton)["whole"].detach(), oracle.tensors["fused"])
        for name in MODALITIES:
            assert_close(encoder.unimodal(name, skeleton)["whole"].detach(), oracle.tensors[name])


def training_step(oracle: Oracle, network: DCNetwork) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    outputs = network.train()({"skeleton": torch.stack(oracle.inputs(), dim=1)})
    losses = UMURL.loss(outputs, {}, 0)
    losses["loss"].backward()  # type: ignore[no-untyped-call]  # as torch has it
    return outputs, losses


def test_projections_losses_and_gradients_of_a_training_step_agree(oracle: Oracle, network: DCNetwork) -> None:
    outputs, losses = training_step(oracle, network)
    for name in MODALITIES:
        for fused in (True, False):
            projected = outputs[projection_key("whole", name, fused=fused)][:, :64].detach()
            assert_close(projected, oracle.tensors[f"z_{'fused_' if fused else ''}{name}"], rtol=1e-3, atol=1e-4)
    names = {"intra": "decomposition", "inter": "inter", "variance": "variance", "covariance": "covariance"}
    terms = {f"loss_{own}": oracle.tensors[theirs].item() for theirs, own in names.items()}
    found = {name: value.item() for name, value in losses.items()}
    assert found == pytest.approx(terms | {"loss": oracle.tensors["loss"].item()}, rel=1e-3)
    parameters = dict(network.named_parameters())
    for key, expected in zip(json.loads(oracle.meta["grad_names"]), oracle.tensors["grad_norms"], strict=True):
        norm = torch.linalg.vector_norm(gradient_of(parameters.pop(own_name(key))))
        if key.endswith(("projector.0.bias", "projector.3.bias", "norm2.bias")):
            # these only shift what a batch norm takes the mean from: 0 but for rounding
            assert max(norm, expected) < 1e-3
        else:
            assert_close(norm, expected, rtol=1e-3)
    assert set(parameters) == {"classify.weight", "classify.bias"}


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
