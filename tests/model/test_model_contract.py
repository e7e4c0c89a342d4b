"""Every network of the family builds, trains and can be drawn anew, whatever the data look like."""

from dataclasses import fields, replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.placement import DSFM1, DSFM2, Site
from coablate_platform.conformance.model import MODEL, ModelSubject, trains_every_parameter
from coablate_platform.conformance.suite import name_of
from coablate_platform.study.config import ClipShape

SMALL = CCDFARM(width=0.125, hcn_features=16)
SHAPE = ClipShape(classes=7, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2)
CROWDED = (
    Site(rgb="Mixed_3c", skeleton="conv4", channels=512),
    Site(rgb="Mixed_4c", skeleton="conv5", channels=48),
    Site(rgb="Mixed_4f", skeleton="conv6", channels=30),
    Site(rgb="Mixed_5c", skeleton="fc7", channels=256),
)
PLACEMENTS = {"none": (), "dsfm1": (DSFM1,), "dsfm2": (DSFM2,), "both": (DSFM1, DSFM2), "crowded": CROWDED}


CONFIGS = {
    "both": SMALL,
    "video": replace(SMALL, streams=("rgb",)),
    "skeleton": replace(SMALL, streams=("skeleton",)),
    "baseline": replace(SMALL, fusion="mmtm", tiam="none", mffm=False),
}


@pytest.mark.parametrize("check", MODEL.checks, ids=name_of)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_model_does_what_every_model_must(config: CCDFARM, check: Any) -> None:
    check(ModelSubject(config=config, shape=SHAPE))


def train_a_step(config: CCDFARM, shape: ClipShape, step: int = 0) -> nn.Module:
    """Take one step and assert that everything took part in it."""
    subject = ModelSubject(config=config, shape=shape, step=step)
    trains_every_parameter(subject)
    model = subject.network()
    outputs = model(subject.batch(2))
    assert all(scores.shape == (2, shape.classes) for scores in outputs.values())
    torch.testing.assert_close(config.objective().predict(outputs).sum(1), torch.ones(2))
    return model


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("fusion", "mffm"), list(product(["dsfm", "mmtm"], [True, False])))
def test_every_fusion_trains(fusion: Any, mffm: bool, placement: str) -> None:
    train_a_step(replace(SMALL, fusion=fusion, mffm=mffm, placement=PLACEMENTS[placement]), SHAPE)


@pytest.mark.parametrize(("tiam", "site"), list(product(["none", "st", "channel"], ["transition", "conv4"])))
def test_every_attention_trains(tiam: Any, site: Any) -> None:
    model = train_a_step(replace(SMALL, tiam=tiam, tiam_site=site), SHAPE)
    assert any("tiam" in name for name, _ in model.named_parameters()) == (tiam != "none")


@pytest.mark.parametrize("stream", ["rgb", "skeleton"])
def test_one_stream_builds_nothing_of_the_other(stream: str) -> None:
    model = train_a_step(replace(SMALL, streams=(stream,)), SHAPE)
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"i3d" if stream == "rgb" else "hcn"}
    assert set(model(ModelSubject(config=SMALL, shape=SHAPE).batch())) == {"fused"}


@pytest.mark.parametrize("change", [
    {"persons": 1},
    {"joints": 25, "frames": 16, "size": 56},
    {"frames": 32, "channels": 1},
    {"frames": 9, "size": 112, "classes": 2},
    {"size": 33, "skeleton_frames": 8},
    {"skeleton_frames": 30, "joints": 17, "persons": 3},
])  # fmt: skip
def test_every_shape_of_clip_trains(change: dict[str, int]) -> None:
    train_a_step(SMALL, replace(SHAPE, **change))


@pytest.mark.parametrize("change", [
    {"training": "alternating"},
    {"training": "alternating", "mffm": False},
    {"mffm_channels": 24},
    {"checkpoint_activations": True},
    {"mmtm_relu": False, "mmtm_gain": 1.0, "fusion": "mmtm"},
    {"width": 0.3, "floor": 0.0, "reduction": 8, "hcn_features": 12},
])  # fmt: skip
def test_every_setting_trains(change: dict[str, Any]) -> None:
    for step in range(3):
        train_a_step(replace(SMALL, **change), SHAPE, step)


def test_modalities_are_those_of_the_streams() -> None:
    assert SMALL.modalities == ("video", "skeleton")
    assert replace(SMALL, streams=("skeleton",)).modalities == ("skeleton",)
    assert all(field.kw_only for field in fields(SMALL))


def test_tiam_begins_as_the_identity() -> None:
    assert not ModelSubject(config=SMALL, shape=SHAPE).network().hcn.tiam.restore[1].weight.any()


def test_arms_name_what_they_share_alike() -> None:
    full = dict(SMALL.build(SHAPE).named_parameters())
    for change in ({"fusion": "mmtm"}, {"tiam": "none"}, {"mffm": False}, {"placement": ()}, {"streams": ("rgb",)}):
        arm = dict(replace(SMALL, **change).build(SHAPE).named_parameters())  # type: ignore[arg-type]
        differing = {name for name in arm.keys() - full.keys() if not name.startswith("fusion.")}
        assert not differing
        assert all(arm[name].shape == full[name].shape for name in arm.keys() & full.keys())


@pytest.mark.parametrize(("change", "message"), [
    ({"streams": ("skeleton", "rgb")}, "streams"),
    ({"fusion": "mttm"}, "fusion is 'mttm'"),
    ({"tiam": "both"}, "tiam is 'both'"),
    ({"floor": 1.5}, "floor is 1.5"),
    ({"width": 0.0}, "width is 0.0"),
    ({"hcn_dropout": -0.1}, "hcn_dropout"),
    ({"mffm_channels": 0}, "mffm_channels is 0"),
    ({"reduction": 128}, r"Mixed_5b × conv5.*64 channels cannot be reduced by 128"),
])  # fmt: skip
def test_values_out_of_range_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_a_skeleton_without_motion_is_refused() -> None:
    with pytest.raises(ValueError, match="skeleton_frames is 1"):
        SMALL.build(replace(SHAPE, skeleton_frames=1))


def test_a_video_too_short_for_i3d_is_refused() -> None:
    with pytest.raises(ValueError, match="frames is 7, but I3D needs at least 8"):
        SMALL.build(replace(SHAPE, frames=7))


def test_sites_that_cross_or_stand_still_are_refused_with_both_names() -> None:
    for sites in [(DSFM2, DSFM1), (DSFM1, DSFM1), (DSFM1, Site(rgb="Mixed_5c", skeleton="conv5", channels=64))]:
        with pytest.raises(ValueError, match=f"site {sites[1]} is not behind site {sites[0]}"):
            replace(SMALL, placement=sites)


def test_unknown_sites_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"unknown I3D endpoint 'mixed_5b'.*did you mean 'Mixed_5b'"):
        Site(rgb="mixed_5b", skeleton="conv5", channels=64)
    with pytest.raises(ValueError, match=r"unknown HCN layer 'xyz'.*known: conv4, conv5, conv6, fc7"):
        Site(rgb="Mixed_5b", skeleton="xyz", channels=64)
    with pytest.raises(ValueError, match="channels is 0"):
        Site(rgb="Mixed_5b", skeleton="conv5", channels=0)
    with pytest.raises(ValueError, match=r"floor is 1\.5"):
        Site(rgb="Mixed_5b", skeleton="conv5", channels=64, floor=1.5)
    with pytest.raises(ValueError, match="64 channels cannot be reduced by 65"):
        Site(rgb="Mixed_5b", skeleton="conv5", channels=64, reduction=65)


def test_costs_are_those_of_the_network_that_runs() -> None:
    cost = SMALL.describe(SHAPE)
    model = SMALL.build(SHAPE)
    assert saved_on_the_cpu(model, 3) - saved_on_the_cpu(model, 2) == cost.activation_bytes
    bigger = SMALL.describe(replace(SHAPE, frames=16))
    assert bigger.flops > 1.3 * cost.flops
    video = replace(SMALL, streams=("rgb",))
    kept = replace(video, checkpoint_activations=True).describe(SHAPE).activation_bytes
    assert kept < 0.6 * video.describe(SHAPE).activation_bytes


def saved_on_the_cpu(model: nn.Module, n: int) -> int:
    own, kept = {p.data_ptr() for p in model.parameters()}, {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = model(ModelSubject(config=SMALL, shape=SHAPE).batch(n))
    del outputs
    return sum(x.untyped_storage().nbytes() for pointer, x in kept.items() if pointer not in own)
