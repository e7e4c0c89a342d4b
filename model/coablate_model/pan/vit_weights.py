"""Load published weights into a ViT.

Source: files of timm's `vit_*` and `deit_*`, whose keys :mod:`coablate_model.pan.vit` has. A file's class token and
class layer are left out. Its position embedding loses the places of class tokens, and is resampled to the network's
grid. With a convolutional stem, the file's patch embedding is left out too.
"""

import math
import re
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from coablate_model.pan.vit import PatchEmbedding, ViT
from coablate_model.weights import LoadReport, check_tensor, describe_differences, read_state_dict

_CLASSIFIER = re.compile(r"(cls_token|dist_token|head|head_dist|pre_logits|fc_norm)(\..+)?")
"""Keys of what a ViT without class token does not have."""


def load_vit_weights(network: ViT, path: str | Path) -> LoadReport:
    """Load weights into the position embedding, all blocks and the last norm, and into a plain patch embedding.

    Args:
        network: the network whose weights are replaced.
        path: ``.safetensors``, or ``.pt``/``.pth`` with a state dict, also one inside a checkpoint.

    Raises:
        ValueError: the file does not exist, is not a state dict, belongs to a network of another size, or holds values
            that are not finite.
    """
    own = network.state_dict()
    from_file = {key.removeprefix("module."): value for key, value in read_state_dict(Path(path)).items()}
    _check_size(from_file, own, path)
    plain = isinstance(network.patch_embed, PatchEmbedding)
    needed = {key for key in own if plain or not key.startswith("patch_embed.")}
    loaded = {key: value for key, value in from_file.items() if key in needed}
    spare = [key for key in from_file if key not in loaded]
    unknown = sorted(
        key for key in spare if not _CLASSIFIER.fullmatch(key) and (plain or not key.startswith("patch_embed."))
    )
    missing = sorted(needed - loaded.keys())
    if unknown or missing:
        differences = describe_differences(unknown, missing)
        raise ValueError(f"weights {path}: expected the keys of timm's vit or deit, found {differences}")
    loaded["pos_embed"] = _resampled(loaded["pos_embed"], network.grid, path)
    for key, value in loaded.items():
        check_tensor(key, value, own[key], path)
    network.load_state_dict(loaded, strict=False)
    return LoadReport(loaded=tuple(loaded), left_out=tuple(spare), kept=tuple(key for key in own if key not in loaded))


def _check_size(from_file: dict[str, Tensor], own: dict[str, Tensor], path: str | Path) -> None:
    """Check width, depth and patch.

    Raises:
        ValueError: one differs, or the file is not a ViT's.
    """
    position = from_file.get("pos_embed")
    if position is None or position.ndim != 3:
        raise ValueError(f"weights {path}: expected the keys of timm's vit or deit, found no pos_embed (1, L, D)")
    found, expected = _size_of(from_file), _size_of(own)
    if found != expected:
        raise ValueError(f"weights {path}: have {found}, but the network has {expected}")


def _size_of(weights: dict[str, Tensor]) -> str:
    """Return width and depth in words."""
    depth = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    return f"width {weights['pos_embed'].shape[2]} and depth {depth}"


def _resampled(position: Tensor, grid: int, path: str | Path) -> Tensor:
    """Return a file's position embedding for a grid of another size, (1, G², D), without the places of class tokens.

    Raises:
        ValueError: its length is not that of a square grid with at most two class tokens.
    """
    side = math.isqrt(position.shape[1])
    if position.shape[1] - side**2 > 2:
        raise ValueError(f"weights {path}: pos_embed has {position.shape[1]} places, which are no square grid")
    square = position[:, position.shape[1] - side**2 :]
    if side == grid:
        return square
    maps = square.transpose(1, 2).reshape(1, -1, side, side).float()
    resized = F.interpolate(maps, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(position.dtype)
