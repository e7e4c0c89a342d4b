"""ViT makes patch tokens, each frame for itself, and takes the weights of timm's files; other files are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from coablate_model.pan.vit import PRESETS, ViT
from coablate_model.pan.vit_weights import load_vit_weights
from coablate_model.weights import Pretrained
from coablate_platform.train.initial import build_network

SMALL = {"patch": 8, "width": 32, "depth": 2, "heads": 4}


def timm_file(grid: int = 4, prefixes: int = 1) -> dict[str, Tensor]:
    """A file with the keys of timm's vit: ``prefixes`` class tokens before the places, and a class layer."""
    torch.manual_seed(0)
    own = ViT(grid * 8, stem="patch", **SMALL).state_dict()
    own["pos_embed"] = torch.cat([torch.full((1, prefixes, 32), 9.0), own["pos_embed"]], dim=1)
    tokens = dict(zip(["cls_token", "dist_token"], torch.randn(2, 1, 1, 32), strict=True))
    heads = {"head.weight": torch.randn(1000, 32), "head.bias": torch.randn(1000)}
    return own | dict(list(tokens.items())[:prefixes]) | heads


@pytest.mark.parametrize("stem", ["patch", "convolutions"])
@pytest.mark.parametrize("patch", [8, 16])
def test_a_frame_becomes_a_grid_of_tokens(stem: str, patch: int) -> None:
    network = build_network(lambda: ViT(64, patch=patch, stem=stem, width=32, depth=1, heads=4), (0, 0)).eval()
    video = torch.randn(2, 3, 3, 64, 64)
    tokens = network(video)
    assert tokens.shape == (2, 3, 64 // patch, 64 // patch, 32)
    other = video.clone()
    other[:, :, 1] = 0
    changed = (network(other) - tokens).abs().amax((0, 2, 3, 4)) > 1e-4
    assert changed.tolist() == [False, True, False]


def test_tokens_lie_where_their_patches_do() -> None:
    network = ViT(32, stem="patch", patch=8, width=32, depth=0, heads=4).eval()
    video = torch.zeros(1, 3, 1, 32, 32)
    before = network(video)
    video[:, :, :, 8:16, 24:32] = 1
    changed = (network(video) != before).any(-1)[0, 0]
    assert changed.nonzero().tolist() == [[1, 3]]


def test_the_presets_have_the_published_sizes() -> None:
    small = ViT(224, stem="patch", **PRESETS["small"])
    assert sum(p.numel() for p in small.parameters()) == 21_665_664 - 2 * 384  # deit_small without class token
    tiny = ViT(224, **PRESETS["tiny"])
    assert [m.stride for m in tiny.patch_embed.convolutions if hasattr(m, "stride")] == [(2, 2)] * 4
    assert tiny.pos_embed.shape == (1, 196, 192)


def test_a_frozen_network_never_changes() -> None:
    network = ViT(32, frozen=True, **SMALL)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert not network.train().training
    assert not network.patch_embed.training
    assert not network(torch.randn(2, 3, 2, 32, 32)).requires_grad
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert ViT(32, **SMALL)(torch.randn(2, 3, 2, 32, 32)).requires_grad


@pytest.mark.parametrize("prefixes", [0, 1, 2])
def test_files_with_timm_s_names_load(tmp_path: Path, prefixes: int) -> None:
    published = timm_file(prefixes=prefixes)
    save_file(published, tmp_path / "w.safetensors")
    network = ViT(32, stem="patch", **SMALL)
    report = load_vit_weights(network, tmp_path / "w.safetensors")
    assert report.kept == ()
    assert set(report.left_out) == {"head.weight", "head.bias", *["cls_token", "dist_token"][:prefixes]}
    assert torch.equal(network.pos_embed, published["pos_embed"][:, prefixes:])
    assert all(torch.equal(network.state_dict()[key], published[key]) for key in report.loaded if key != "pos_embed")


def test_positions_are_resampled_to_another_grid(tmp_path: Path) -> None:
    published = timm_file()
    rows = torch.arange(4.0).repeat_interleave(4)[None, :, None].expand(1, 16, 32)
    published["pos_embed"] = torch.cat([published["pos_embed"][:, :1], rows], dim=1)
    save_file(published, tmp_path / "w.safetensors")
    network = ViT(64, stem="patch", **SMALL)
    load_vit_weights(network, tmp_path / "w.safetensors")
    positions = network.pos_embed.detach().view(8, 8, 32)
    torch.testing.assert_close(positions, positions[:, :1, :1].expand(8, 8, 32))  # columns and channels alike
    assert (positions[1:, 0, 0] >= positions[:-1, 0, 0]).all()
    torch.testing.assert_close(positions[3:5, 0, 0], torch.tensor([1.25, 1.75]), rtol=0.1, atol=0)


def test_a_convolutional_stem_keeps_its_own_values(tmp_path: Path) -> None:
    save_file(timm_file(), tmp_path / "w.safetensors")
    network = ViT(32, **SMALL)
    report = load_vit_weights(network, tmp_path / "w.safetensors")
    assert {key.split(".")[0] for key in report.kept} == {"patch_embed"}
    assert {"patch_embed.proj.weight", "patch_embed.proj.bias"} <= set(report.left_out)


def test_re_initialising_the_network_keeps_the_file_s_weights(tmp_path: Path) -> None:
    published = timm_file()
    save_file(published, tmp_path / "w.safetensors")

    def build() -> nn.Sequential:
        network = ViT(32, stem="patch", **SMALL)
        return nn.Sequential(network, Pretrained(network, str(tmp_path / "w.safetensors"), load_vit_weights))

    network = build_network(build, (0, 0))
    assert torch.equal(network[0].blocks[1].attn.qkv.weight, published["blocks.1.attn.qkv.weight"])
    assert repr(network[1]).endswith("w.safetensors: 29 tensors loaded, 0 not loaded)")


def test_files_of_another_size_are_refused_with_a_message_of_one_line(tmp_path: Path) -> None:
    def assert_refused(weights: dict[str, Tensor], message: str, **sizes: int) -> None:
        save_file(weights, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=message) as caught:
            load_vit_weights(ViT(32, stem="patch", **SMALL | sizes), tmp_path / "w.safetensors")
        assert "\n" not in str(caught.value)

    published = timm_file()
    assert_refused(published, "have width 32 and depth 2, but the network has width 64 and depth 2", width=64)
    assert_refused(published, "have width 32 and depth 2, but the network has width 32 and depth 3", depth=3)
    assert_refused(published, r"proj.weight has shape \(32, 3, 8, 8\), expected \(32, 3, 16, 16\)", patch=16)
    assert_refused({"conv1.weight": torch.zeros(1)}, "found no pos_embed")
    assert_refused(published | {"blocks.0.ls1.gamma": torch.zeros(32)}, "1 unknown .first: blocks.0.ls1.gamma")
    del published["norm.bias"]
    assert_refused(published, "1 missing .first: norm.bias")
    assert_refused(timm_file() | {"pos_embed": torch.zeros(1, 23, 32)}, "has 23 places, which are no square grid")
    assert_refused(timm_file() | {"norm.bias": torch.full((32,), torch.nan)}, "norm.bias holds values that are not fin")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"patch": 12}, "size is 32, which is no multiple of the patch, 12"),
        ({"heads": 5}, "width is 32, which is no multiple of the heads, 5"),
        ({"stem": "x"}, "stem is 'x', expected one of convolutions, patch"),
        ({"patch": 1}, "patch is 1, but a convolutional stem needs a power of two"),
        ({"width": 36, "patch": 16}, "width is 36, but a convolutional stem needs a multiple of 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViT(32, **SMALL | sizes)
