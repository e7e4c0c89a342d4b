"""ViT, the vision transformer without a class token: from video frames to patch tokens.

Shapes: N clips, C video channels, F frames of S×S pixels, patches of p×p pixels, G = S/p, L = G² tokens of a frame, D
token width, h heads. Video is (N, C, F, S, S), patch tokens are (N, F, G, G, D); frames are independent of each other.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, with the state-dict keys and initial values of
timm's `vit_*` and `deit_*`. The convolutional stem is that of Xiao et al., "Early Convolutions Help Transformers See
Better", NeurIPS 2021: from scratch on hundreds of clips, one p×p convolution hardly learns.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRESETS: dict[str, dict[str, int]] = {
    "small": {"width": 384, "depth": 12, "heads": 6},
    "tiny": {"width": 192, "depth": 4, "heads": 3},
}
"""Sizes by name: keyword arguments of :class:`ViT`."""

STEMS = ("convolutions", "patch")
"""How pixels become tokens: by 3×3 convolutions of stride 2, or by one p×p convolution of stride p."""


class Linear(nn.Linear):
    """Linear layer with truncated-normal weights (σ = 0.02) and zero bias."""

    def reset_parameters(self) -> None:
        """Draw new weights and set the bias to 0."""
        nn.init.trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class PatchEmbedding(nn.Module):
    """One convolution whose kernel and stride are a patch.

    Args:
        channels: C.
        width: D.
        patch: p.
    """

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (N·F, C, S, S) to (N·F, L, D)."""
        tokens: Tensor = self.proj(frames).flatten(2).transpose(1, 2)
        return tokens


class ConvolutionalStem(nn.Module):
    """3×3 convolutions of stride 2, each with batch norm and ReLU, down to one position a patch; then a 1×1 one.

    The last two have D channels; each before has half the channels of the next.

    Args:
        channels: C.
        width: D.
        patch: p, a power of two.

    Raises:
        ValueError: a patch that is no power of two, or a width that cannot be halved as often.
    """

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        steps = patch.bit_length() - 1
        if patch != 1 << steps or steps < 1:
            raise ValueError(f"patch is {patch}, but a convolutional stem needs a power of two")
        if width % (1 << (steps - 1)):
            raise ValueError(f"width is {width}, but a convolutional stem needs a multiple of {1 << (steps - 1)}")
        layers: list[nn.Module] = []
        for step in reversed(range(steps)):
            out = width >> step
            layers += [nn.Conv2d(channels, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            channels = out
        self.convolutions = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (N·F, C, S, S) to (N·F, L, D)."""
        tokens: Tensor = self.proj(self.convolutions(frames)).flatten(2).transpose(1, 2)
        return tokens


class Attention(nn.Module):
    """Self-attention with several heads.

    Args:
        width: D.
        heads: h.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N·F, L, D) to (N·F, L, D)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(mixed)
        return out


class MLP(nn.Module):
    """Two linear layers with GELU between them.

    Args:
        width: D.
        hidden: width of the layer between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N·F, L, D) to (N·F, L, D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class TransformerBlock(nn.Module):
    """Attention and MLP, each after a layer norm and within a residual.

    Args:
        width: D.
        heads: h.
        mlp_ratio: width of the MLP's hidden layer over D.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, round(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N·F, L, D) to (N·F, L, D)."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    """Vision transformer without a class token; positions are learned.

    Args:
        size: S.
        channels: C.
        patch: p.
        width: D.
        depth: number of blocks.
        heads: h.
        mlp_ratio: width of a block's hidden layer over D.
        stem: one of :data:`STEMS`.
        frozen: never train: no parameter has a gradient, and batch norm keeps its statistics.

    Raises:
        ValueError: sizes that do not divide, or an unknown stem.
    """

    def __init__(
        self,
        size: int,
        *,
        channels: int = 3,
        patch: int = 16,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        stem: str = "convolutions",
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"size is {size}, which is no multiple of the patch, {patch}")
        if width % heads:
            raise ValueError(f"width is {width}, which is no multiple of the heads, {heads}")
        if stem not in STEMS:
            raise ValueError(f"stem is {stem!r}, expected one of {', '.join(STEMS)}")
        self.grid = size // patch
        embedding = ConvolutionalStem if stem == "convolutions" else PatchEmbedding
        self.patch_embed: nn.Module = embedding(channels, width, patch)
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid**2, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, mlp_ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.frozen = frozen
        self.requires_grad_(not frozen)
        self.reset_parameters()
        self.train()

    def reset_parameters(self) -> None:
        """Draw the position embedding."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode; a frozen network stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, video: Tensor) -> Tensor:
        """Map video (N, C, F, S, S) to patch tokens (N, F, G, G, D)."""
        frames = video.transpose(1, 2)
        x = self.patch_embed(frames.flatten(0, 1)) + self.pos_embed
        tokens: Tensor = self.norm(self.blocks(x))
        return tokens.view(*frames.shape[:2], self.grid, self.grid, -1)
