"""Tokens are taken from the patches of joints; calibration begins as the identity and sees the window it is given."""

import pytest
import torch
from torch import Tensor

from coablate_model.pan.calibration import Calibration, CrossCalibration, JointGate, windows
from coablate_model.pan.tokens import TokenSampler, even_places

GRID, SIZE, WIDTH = 4, 64, 12
"""Patches of 16 pixels."""


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 3, GRID, GRID, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pixels() -> Tensor:
    """Five joints of two persons on the image."""
    return torch.rand(2, 2, 3, 5, 2, generator=torch.Generator().manual_seed(1)) * SIZE


VALID = torch.ones(2, 3, 5, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("place", "row", "column"), [((0.0, 0.0), 0, 0), ((15.9, 16.0), 1, 0), ((63.9, 5.0), 0, 3), ((40.0, 33.0), 2, 2)]
)
def test_nearest_takes_the_patch_that_holds_the_joint(
    tokens: Tensor, pixels: Tensor, place: tuple[float, float], row: int, column: int
) -> None:
    pixels[1, :, 2, 4, 1] = torch.tensor(place)
    nodes = TokenSampler(WIDTH, SIZE)(tokens, pixels, VALID)
    assert nodes.shape == (2, WIDTH, 3, 5, 2)
    assert torch.equal(nodes[1, :, 2, 4, 1], tokens[1, 2, row, column])


def test_bilinear_mixes_the_four_patches_around_a_joint(tokens: Tensor, pixels: Tensor) -> None:
    pixels[0, :, 1, 0, 0] = torch.tensor((28.0, 40.0))  # ¼ of the way from column 1 to 2; in the middle of row 2
    pixels[0, :, 1, 1, 0] = torch.tensor((32.0, 16.0))  # where four patches meet
    pixels[0, :, 1, 2, 0] = torch.tensor((1.0, 63.0))  # within half a patch of the corner
    nodes = TokenSampler(WIDTH, SIZE, interpolation="bilinear")(tokens, pixels, VALID)[0, :, 1, :, 0]
    torch.testing.assert_close(nodes[:, 0], 0.75 * tokens[0, 1, 2, 1] + 0.25 * tokens[0, 1, 2, 2])
    torch.testing.assert_close(nodes[:, 1], tokens[0, 1, :2, 1:3].mean((0, 1)))
    torch.testing.assert_close(nodes[:, 2], tokens[0, 1, 3, 0])


def test_bilinear_at_a_patch_s_centre_is_nearest(tokens: Tensor, pixels: Tensor) -> None:
    centres = (pixels // 16 + 0.5) * 16
    bilinear = TokenSampler(WIDTH, SIZE, interpolation="bilinear")(tokens, centres, VALID)
    assert_same_tokens(bilinear, TokenSampler(WIDTH, SIZE)(tokens, centres, VALID))


def assert_same_tokens(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("places", ["joints", "grid", "random"])
def test_joints_off_the_image_or_absent_get_the_mask_token(
    tokens: Tensor, pixels: Tensor, places: str, interpolation: str
) -> None:
    valid = VALID.clone()
    valid[0, 0, 0, 0] = False
    for joint, place in enumerate([(-0.1, 3.0), (3.0, 64.0), (float("nan"), 3.0)], 1):
        pixels[0, :, 0, joint, 0] = torch.tensor(place)
    sampler = TokenSampler(WIDTH, SIZE, places=places, interpolation=interpolation)
    nodes = sampler(tokens, pixels, valid)
    masked = (nodes == sampler.mask_token[:, None, None, None]).all(1)
    assert masked[0, 0, :4, 0].all()
    assert int(masked.sum()) == 4
    nodes.sum().backward()
    assert torch.equal(sampler.mask_token.grad, torch.full((WIDTH,), 4.0))


def test_the_controls_know_nothing_of_the_joints_and_repeat(tokens: Tensor, pixels: Tensor) -> None:
    for places in ("random", "grid"):
        sampler = TokenSampler(WIDTH, SIZE, places=places)
        nodes = sampler(tokens, pixels, VALID)
        torch.manual_seed(5)
        assert torch.equal(nodes, sampler.eval()(tokens, (pixels + 9) % SIZE, VALID))
        same_in_each_clip = sampler.placed(pixels, GRID)
        assert torch.equal(same_in_each_clip[0], same_in_each_clip[1])
    random, other = (TokenSampler(WIDTH, SIZE, places="random", seed=s).placed(pixels, GRID) for s in (0, 1))
    assert not torch.equal(random, other)
    assert random[0].flatten(1).unique(dim=1).shape[1] > 8  # of 16 patches, for 30 nodes


def test_grid_places_are_spread_evenly() -> None:
    assert even_places(4, 64).T.tolist() == [[16, 16], [48, 16], [16, 48], [48, 48]]
    for joints in (15, 20, 25):
        places = even_places(joints, 224)
        assert places.unique(dim=1).shape == (2, joints)
        torch.testing.assert_close(places.mean(1), torch.tensor([112.0, 112.0]), rtol=0.05, atol=0)


@pytest.mark.parametrize(("setting", "known"), [("places", "joints, random, grid"), ("interpolation", "nearest, bil")])
def test_unknown_settings_of_the_sampler_are_refused(setting: str, known: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} is 'x', expected one of {known}"):
        TokenSampler(WIDTH, SIZE, **{setting: "x"})


@pytest.mark.parametrize("radius", [None, 1])
def test_calibration_begins_as_the_identity(tokens: Tensor, pixels: Tensor, radius: int | None) -> None:
    nodes = TokenSampler(WIDTH, SIZE)(tokens, pixels, VALID)
    calibration = Calibration(WIDTH, SIZE, heads=3, radius=radius)
    assert torch.equal(calibration(nodes, tokens, pixels, VALID), nodes)
    off = Calibration(WIDTH, SIZE, attention=False, gate=False)
    assert off(nodes, tokens, pixels, VALID) is nodes
    assert not list(off.parameters())


def attention(radius: int | None) -> CrossCalibration:
    torch.manual_seed(0)
    module = CrossCalibration(WIDTH, SIZE, heads=3, radius=radius)
    torch.nn.init.ones_(module.gain)
    return module


@torch.no_grad()
def test_a_window_as_large_as_the_frame_is_attention_to_the_frame(tokens: Tensor, pixels: Tensor) -> None:
    nodes = torch.randn(2, WIDTH, 3, 5, 2)
    whole, full, narrow = (attention(r)(nodes, tokens, pixels, VALID) for r in (None, GRID - 1, 1))
    torch.testing.assert_close(full, whole)
    assert not torch.allclose(narrow, whole, atol=1e-3)


@torch.no_grad()
def test_a_node_hears_its_window_in_its_own_frame_only(tokens: Tensor, pixels: Tensor) -> None:
    pixels[0, :, 1, 2, 0] = torch.tensor((8.0, 8.0))  # patch (0, 0)
    nodes, module = torch.randn(2, WIDTH, 3, 5, 2), attention(1)

    def hears(frame: int, row: int, column: int) -> bool:
        changed = tokens.clone()
        changed[0, frame, row, column] += torch.randn(WIDTH)
        before, after = (module(nodes, x, pixels, VALID)[0, :, 1, 2, 0] for x in (tokens, changed))
        return not torch.equal(before, after)

    assert hears(1, 0, 0)
    assert hears(1, 1, 1)
    assert not hears(1, 0, 2)
    assert not hears(1, 2, 0)
    assert not hears(0, 0, 0)


def test_joints_without_a_place_hear_the_whole_frame(pixels: Tensor) -> None:
    pixels[0, :, 0, 0, 0] = torch.tensor((8.0, 40.0))  # patch (2, 0)
    pixels[0, :, 0, 1, 0] = -5
    valid = VALID.clone()
    valid[0, 0, 2, 0] = False
    seen = windows(pixels, valid, SIZE, GRID, 1)[0, 0].unflatten(0, (5, 2))[:, 0]
    assert seen[0].view(GRID, GRID).nonzero().tolist() == [[r, c] for r in (1, 2, 3) for c in (0, 1)]
    assert seen[1:3].all()


@torch.no_grad()
def test_the_gate_weighs_each_joint_by_content_and_confidence() -> None:
    gate, nodes = JointGate(WIDTH), torch.randn(2, WIDTH, 3, 5, 2)
    confidence = VALID.clone()
    confidence[:, :, 0] = False
    gate.confidence.fill_(1.5)
    expected = torch.where(confidence, 2 * torch.sigmoid(torch.tensor(1.5)), 1.0)
    torch.testing.assert_close(gate(nodes, confidence), nodes * expected[:, None])
    torch.nn.init.ones_(gate.content.weight)
    scores = nodes.sum(1) + 1.5 * confidence
    torch.testing.assert_close(gate(nodes, confidence), nodes * (2 * scores.sigmoid())[:, None])


def test_calibration_takes_joints_off_the_image_for_untracked(tokens: Tensor, pixels: Tensor) -> None:
    calibration, nodes = Calibration(WIDTH, SIZE, attention=False), torch.randn(2, WIDTH, 3, 5, 2)
    torch.nn.init.ones_(calibration.gate.confidence)
    pixels[0, 0, 0, 0, 0] = 99
    gates = (calibration(nodes, tokens, pixels, VALID) / nodes).detach()
    torch.testing.assert_close(gates[0, 0, 0, 0, 0], torch.tensor(1.0))
    torch.testing.assert_close(gates[1, 0, 0, 0, 0], 2 * torch.tensor(1.0).sigmoid())
    all_known = calibration(nodes, tokens, pixels, VALID, VALID.float())
    assert not torch.equal(all_known[0, :, 0, 0, 0], nodes[0, :, 0, 0, 0])


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="width is 12, which is no multiple of the heads, 5"):
        CrossCalibration(WIDTH, SIZE, heads=5)
