"""Contract of PAN configurations: each builds, trains, evaluates one clip, and refuses invalid values."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from coablate_model.pan.config import PAN
from coablate_model.pan.graph import adjacency
from coablate_model.pan.network import TwoGraphs, with_cross_edges
from coablate_model.pan.settings import TokenSettings
from coablate_platform.conformance.model import MODEL, SHAPE, ModelSubject
from coablate_platform.conformance.suite import name_of
from coablate_platform.data.joints import KINECT_V1

TOKENS = TokenSettings(width=48, depth=1, heads=3, patch=8)
SMALL = PAN(tokens=TOKENS, width=0.25)
CONFIGS = {graphs: replace(SMALL, graphs=graphs) for graphs in ("skeleton", "tokens", "ensemble", "unified")} | {
    "unified_cross": replace(SMALL, graphs="unified_cross"),
    "bone motion": replace(SMALL, graphs="skeleton", stream="bone_motion"),
    "auxiliary": replace(SMALL, graphs="tokens", auxiliary=1.6),
    "both calibrations": replace(SMALL, tokens=replace(TOKENS, calibration="both", window=1)),
    "no calibration": replace(SMALL, tokens=replace(TOKENS, calibration="none")),
    "random": replace(SMALL, graphs="tokens", tokens=replace(TOKENS, places="random")),
    "grid": replace(SMALL, graphs="tokens", tokens=replace(TOKENS, places="grid")),
    "frozen": replace(SMALL, tokens=replace(TOKENS, frozen=True, stem="patch")),
}


@pytest.mark.parametrize("check", MODEL.checks, ids=name_of)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_model_passes_the_conformance_suite(config: PAN, check: Callable[[ModelSubject], None]) -> None:
    check(ModelSubject(config=config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graphs": "both"}, "graphs is 'both', expected one of skeleton, tokens"),
        ({"graphs": "skeleton", "auxiliary": 1.6}, "a skeleton graph has no patches"),
        ({"dropout": 1.5}, "dropout is 1.5, expected a number from 0 to 1"),
        ({"auxiliary": -1.0}, "auxiliary is -1.0, expected a number of at least 0"),
    ],
)
def test_invalid_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_clips_without_a_joint_tree_are_refused() -> None:
    with pytest.raises(ValueError, match="joint tree is not known"):
        SMALL.build(replace(SHAPE, bones=()))


def test_weights_of_another_size_are_refused(tmp_path: Any) -> None:
    from safetensors.torch import save_file

    from coablate_model.pan.vit import ViT

    path = tmp_path / "vit.safetensors"
    save_file(ViT(32, patch=8, width=24, depth=2, heads=3).state_dict(), path)
    config = replace(SMALL, tokens=replace(TOKENS, weights=str(path)))
    with pytest.raises(ValueError, match="have width 24 and depth 2, but the network has width 48 and depth 1"):
        config.build(SHAPE)


def test_late_fusion_takes_the_weight_that_is_best_on_the_validation_clips() -> None:
    config = CONFIGS["ensemble"]
    network, objective = config.build(SHAPE), config.objective()
    assert isinstance(network, TwoGraphs)
    labels = torch.tensor([0, 1, 2, 3])
    right, wrong = torch.eye(5)[labels], torch.eye(5)[labels.roll(1)]
    objective.fit(network, {"skeleton": right, "tokens": wrong}, labels)
    assert network.share.item() == pytest.approx(0.55)  # the nearest to 1:1 that is right
    objective.fit(network, {"skeleton": wrong, "tokens": right}, labels)
    assert network.share.item() == pytest.approx(0.45)
    outputs = network.eval()(ModelSubject(config=config).batch())
    probabilities = {name: outputs[name].softmax(1) for name in ("skeleton", "tokens")}
    expected = 0.45 * probabilities["skeleton"] + 0.55 * probabilities["tokens"]
    torch.testing.assert_close(objective.predict(outputs), expected)
    heads = objective.head_scores(outputs)
    assert set(heads) == {"skeleton", "tokens", "equal"}
    torch.testing.assert_close(heads["equal"], (probabilities["skeleton"] + probabilities["tokens"]) / 2)


def test_the_auxiliary_loss_knows_which_patch_holds_a_joint() -> None:
    subject = ModelSubject(config=CONFIGS["auxiliary"])
    batch = subject.batch()
    batch["visible"][:] = False
    batch["visible"][0, 2, 7, 0] = True
    batch["pixels"][0, :, 2, 7, 0] = torch.tensor([17.0, 9.0])  # column 2, row 1 of patches of 8 pixels
    outputs = subject.network().train()(batch)
    held = outputs["held_joints"]
    assert held.shape == outputs["patch_joints"].shape == (4, 8, 4, 4, 20)
    assert held.nonzero().tolist() == [[0, 2, 1, 2, 7]]
    assert "patch_joints" not in subject.network().eval()(batch)


def test_cross_edges_join_the_two_nodes_of_each_joint() -> None:
    tree = adjacency(KINECT_V1.bones, 20)
    doubled = with_cross_edges(tree)
    assert doubled.shape == (3, 40, 40)
    assert torch.equal(doubled[1:, :20, :20], tree[1:])
    assert not doubled[1:, :20, 20:].any()
    torch.testing.assert_close(doubled[0], (torch.eye(40) + torch.eye(40).roll(20, 1)) / 2)
