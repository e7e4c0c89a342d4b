"""Contract of CCDFARM configurations: each builds, trains, can be re-initialised, and refuses invalid values."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import product
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.placement import DSFM1, DSFM2, Site
from coablate_platform.conformance.model import MODEL, ModelSubject, every_parameter_gets_a_finite_gradient
from coablate_platform.conformance.suite import name_of
from coablate_platform.study.model import ClipShape

SMALL = CCDFARM(width=0.125, hcn_features=16)
SHAPE = ClipShape(classes=7, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2)
FOUR_SITES = (
    Site(rgb="Mixed_3c", skeleton="conv4", channels=512),
    Site(rgb="Mixed_4c", skeleton="conv5", channels=48),
    Site(rgb="Mixed_4f", skeleton="conv6", channels=30),
    Site(rgb="Mixed_5c", skeleton="fc7", channels=256),
)
PLACEMENTS = {"none": (), "dsfm1": (DSFM1,), "dsfm2": (DSFM2,), "both": (DSFM1, DSFM2), "four_sites": FOUR_SITES}
SETTINGS = {
    "alternating": replace(SMALL, training="alternating"),
    "alternating without MFFM": replace(SMALL, training="alternating", mffm=False),
    "narrow MFFM": replace(SMALL, mffm_channels=24),
    "activation checkpointing": replace(SMALL, checkpoint_activations=True),
    "MMTM of the public code": replace(SMALL, fusion="mmtm", mmtm_relu=False, mmtm_gain=1.0),
    "uneven widths": replace(SMALL, width=0.3, floor=0.0, reduction=8, hcn_features=12),
}


CONFIGS = {
    "both": SMALL,
    "video": replace(SMALL, streams=("rgb",)),
    "skeleton": replace(SMALL, streams=("skeleton",)),
    "baseline": replace(SMALL, fusion="mmtm", tiam="none", mffm=False),
}


@pytest.mark.parametrize("check", MODEL.checks, ids=name_of)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_model_passes_the_conformance_suite(config: CCDFARM, check: Callable[[ModelSubject], None]) -> None:
    check(ModelSubject(config=config, shape=SHAPE))


def random_batch(shape: ClipShape, n: int = 2) -> dict[str, Tensor]:
    return ModelSubject(config=SMALL, shape=shape).batch(n)


def check_backward_pass(config: CCDFARM, shape: ClipShape, step: int = 0) -> nn.Module:
    """Assert that every head has logits of the right shape and every parameter a finite gradient."""
    subject = ModelSubject(config=config, shape=shape, step=step)
    every_parameter_gets_a_finite_gradient(subject)
    model = subject.network()
    outputs = model(subject.batch(2))
    assert all(logits.shape == (2, shape.classes) for logits in outputs.values())
    torch.testing.assert_close(config.objective().predict(outputs).sum(1), torch.ones(2))
    return model


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("fusion", "mffm"), list(product(["dsfm", "mmtm"], [True, False])))
def test_every_parameter_has_a_gradient_with_any_fusion_and_placement(
    fusion: Literal["dsfm", "mmtm"], mffm: bool, placement: str
) -> None:
    check_backward_pass(replace(SMALL, fusion=fusion, mffm=mffm, placement=PLACEMENTS[placement]), SHAPE)


@pytest.mark.parametrize(("tiam", "site"), list(product(["none", "st", "channel"], ["transition", "conv4"])))
def test_every_parameter_has_a_gradient_with_any_tiam_mode_and_site(
    tiam: Literal["none", "st", "channel"], site: Literal["transition", "conv4"]
) -> None:
    model = check_backward_pass(replace(SMALL, tiam=tiam, tiam_site=site), SHAPE)
    assert any("tiam" in name for name, _ in model.named_parameters()) == (tiam != "none")


@pytest.mark.parametrize("stream", ["rgb", "skeleton"])
def test_a_single_stream_has_no_parameters_of_the_other(stream: str) -> None:
    model = check_backward_pass(replace(SMALL, streams=(stream,)), SHAPE)
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"i3d" if stream == "rgb" else "hcn"}
    assert set(model(random_batch(SHAPE))) == {"fused"}


@pytest.mark.parametrize("change", [
    {"persons": 1},
    {"joints": 25, "frames": 16, "size": 56},
    {"frames": 32, "channels": 1},
    {"frames": 9, "size": 112, "classes": 2},
    {"size": 33, "skeleton_frames": 8},
    {"skeleton_frames": 30, "joints": 17, "persons": 3},
])  # fmt: skip
def test_every_parameter_has_a_gradient_for_any_clip_shape(change: dict[str, int]) -> None:
    check_backward_pass(SMALL, replace(SHAPE, **change))


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_parameter_has_a_gradient_with_any_setting(setting: str) -> None:
    for step in range(3):
        check_backward_pass(SETTINGS[setting], SHAPE, step)


def test_the_modalities_are_those_of_the_streams() -> None:
    assert SMALL.modalities == ("video", "skeleton")
    assert replace(SMALL, streams=("skeleton",)).modalities == ("skeleton",)
    assert all(field.kw_only for field in fields(SMALL))


def test_tiam_begins_as_the_identity() -> None:
    network = ModelSubject(config=SMALL, shape=SHAPE).network()
    assert not network.get_parameter("hcn.tiam.restore.1.weight").any()


def test_parameters_that_arms_share_have_equal_names_and_shapes() -> None:
    full = dict(SMALL.build(SHAPE).named_parameters())
    changes: list[Mapping[str, object]] = [
        {"fusion": "mmtm"}, {"tiam": "none"}, {"mffm": False}, {"placement": ()}, {"streams": ("rgb",)}
    ]  # fmt: skip
    for change in changes:
        arm = dict(replace(SMALL, **change).build(SHAPE).named_parameters())  # type: ignore[arg-type]
        assert {name for name in arm.keys() - full.keys() if not name.startswith("fusion.")} == set()
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
def test_an_invalid_value_is_refused_and_its_field_named(change: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_a_single_skeleton_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="skeleton_frames is 1"):
        SMALL.build(replace(SHAPE, skeleton_frames=1))


def test_a_video_of_fewer_than_eight_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="frames is 7, but I3D needs at least 8"):
        SMALL.build(replace(SHAPE, frames=7))


def test_sites_that_do_not_advance_in_both_streams_are_refused_and_both_named() -> None:
    for sites in [(DSFM2, DSFM1), (DSFM1, DSFM1), (DSFM1, Site(rgb="Mixed_5c", skeleton="conv5", channels=64))]:
        with pytest.raises(ValueError, match=f"site {sites[1]} is not behind site {sites[0]}"):
            replace(SMALL, placement=sites)


def test_an_unknown_layer_is_refused_with_the_nearest_name_or_all_names() -> None:
    with pytest.raises(ValueError, match=r"unknown I3D endpoint 'mixed_5b'.*did you mean 'Mixed_5b'"):
        Site(rgb="mixed_5b", skeleton="conv5", channels=64)
    with pytest.raises(ValueError, match=r"unknown HCN layer 'xyz'.*known: conv4, conv5, conv6, fc7"):
        Site(rgb="Mixed_5b", skeleton="xyz", channels=64)


@pytest.mark.parametrize(("number", "message"), [
    ({"channels": 0}, "channels is 0"),
    ({"floor": 1.5}, r"floor is 1\.5"),
    ({"reduction": 65}, "64 channels cannot be reduced by 65"),
])  # fmt: skip
def test_a_number_out_of_range_at_a_site_is_refused(number: Mapping[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DSFM1, **number)  # type: ignore[arg-type]


def test_the_described_cost_is_that_of_the_real_network() -> None:
    cost = SMALL.describe(SHAPE)
    model = SMALL.build(SHAPE)
    assert saved_bytes_on_the_cpu(model, 3) - saved_bytes_on_the_cpu(model, 2) == cost.activation_bytes
    assert SMALL.describe(replace(SHAPE, frames=16)).flops > 1.3 * cost.flops


def test_activation_checkpointing_saves_memory() -> None:
    video = replace(SMALL, streams=("rgb",))
    checkpointed = replace(video, checkpoint_activations=True).describe(SHAPE).activation_bytes
    assert checkpointed < 0.6 * video.describe(SHAPE).activation_bytes


def saved_bytes_on_the_cpu(model: nn.Module, n: int) -> int:
    """Return the bytes that autograd saves in a forward pass of n clips, parameters excluded."""
    parameters, saved = {p.data_ptr() for p in model.parameters()}, {}

    def save(x: Tensor) -> Tensor:
        saved[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        outputs = model(random_batch(SHAPE, n))
    del outputs
    return sum(x.untyped_storage().nbytes() for address, x in saved.items() if address not in parameters)
