"""Post-calibration: mends nodes whose joints are not where the 2-D skeleton says.

Shapes: N clips, F frames, G×G patches of a frame, L = G², D token width, V joints, M persons, J = V·M, h heads. Nodes
are (N, D, F, V, M), patch tokens (N, F, G, G, D), places of joints (N, 2, F, V, M) in pixels.

Source: PAN's abstract, which names an attention-based post-calibration and gives no form. Both forms are ours: (a) each
node attends to the patches of its frame, or to those around its joint; (b) a gate weighs each node by its content and
the tracker's confidence. Each begins as the identity, so that it changes nothing before training wants it to.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.pan.tokens import inside, patch_numbers
from coablate_model.pan.vit import Linear


class CrossCalibration(nn.Module):
    """Attention from nodes to patch tokens, added to the nodes with a gain that starts at 0.

    Args:
        width: D.
        size: S, the side of a frame in pixels.
        heads: h.
        radius: attend to the patches at most this many columns and rows from the joint's own; None: to all patches of
            the frame. A joint that is absent or off the image attends to all of them: it has no patch.
    """

    def __init__(self, width: int, size: int, *, heads: int = 6, radius: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width is {width}, which is no multiple of the heads, {heads}")
        self.size = size
        self.heads = heads
        self.radius = radius
        self.norm_nodes = nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(width)
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)
        self.proj = Linear(width, width)
        self.gain = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the gain to 0."""
        nn.init.zeros_(self.gain)

    def forward(self, nodes: Tensor, tokens: Tensor, pixels: Tensor, valid: Tensor) -> Tensor:
        """Return calibrated nodes (N, D, F, V, M).

        Args:
            nodes: (N, D, F, V, M).
            tokens: (N, F, G, G, D), of all patches.
            pixels: (N, 2, F, V, M), the places from which nodes were sampled.
            valid: (N, F, V, M) bool, False where a joint is absent.
        """
        by_frame = nodes.permute(0, 2, 3, 4, 1)  # (N, F, V, M, D)
        queries = self._split(self.q(self.norm_nodes(by_frame.flatten(2, 3).flatten(0, 1))))
        patches = self.norm_tokens(tokens.flatten(2, 3).flatten(0, 1))
        keys, values = (self._split(x) for x in self.kv(patches).chunk(2, dim=-1))
        seen = None
        if self.radius is not None:
            seen = windows(pixels, valid, self.size, tokens.shape[2], self.radius).flatten(0, 1)[:, None]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        out = self.proj(mixed.transpose(1, 2).flatten(2)).view(by_frame.shape)
        calibrated: Tensor = nodes + self.gain * out.permute(0, 4, 1, 2, 3)
        return calibrated

    def _split(self, x: Tensor) -> Tensor:
        """Split (N·F, L, D) into heads, (N·F, h, L, D/h)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def windows(pixels: Tensor, valid: Tensor, size: int, grid: int, radius: int) -> Tensor:
    """Return which patches each node attends to, (N, F, J, L).

    Args:
        pixels: (N, 2, F, V, M).
        valid: (N, F, V, M) bool.
        size: S.
        grid: G.
        radius: columns and rows on each side of the joint's patch.
    """
    offsets = torch.arange(grid, device=pixels.device) - patch_numbers(pixels, size, grid)[..., None]
    columns, rows = (offsets.abs() <= radius).unbind(1)
    near = rows[..., :, None] & columns[..., None, :]  # (N, F, V, M, G, G)
    placeless = ~(valid & inside(pixels, size))
    return (near | placeless[..., None, None]).flatten(4).flatten(2, 3)


class JointGate(nn.Module):
    """A gate per node, in [0, 2], from its content and the tracker's confidence; it starts at 1.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.content = nn.Linear(width, 1)
        self.confidence = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set all weights to 0."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, nodes: Tensor, confidence: Tensor) -> Tensor:
        """Return gated nodes (N, D, F, V, M).

        Args:
            nodes: (N, D, F, V, M).
            confidence: (N, F, V, M), or a bool mask of valid joints.
        """
        scores = self.content(nodes.permute(0, 2, 3, 4, 1))[..., 0] + self.confidence * confidence.to(nodes.dtype)
        return nodes * (2 * torch.sigmoid(scores))[:, None]


class Calibration(nn.Module):
    """Attention, then the gate; either can be left out.

    Args:
        width: D.
        size: S.
        attention: calibrate by attention.
        gate: calibrate by the gate.
        heads: h of the attention.
        radius: of the attention's window; None: the whole frame.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        attention: bool = True,
        gate: bool = True,
        heads: int = 6,
        radius: int | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.attention = CrossCalibration(width, size, heads=heads, radius=radius) if attention else None
        self.gate = JointGate(width) if gate else None

    def forward(
        self, nodes: Tensor, tokens: Tensor, pixels: Tensor, valid: Tensor, confidence: Tensor | None = None
    ) -> Tensor:
        """Return calibrated nodes (N, D, F, V, M).

        Args:
            nodes: (N, D, F, V, M).
            tokens: (N, F, G, G, D), of all patches.
            pixels: (N, 2, F, V, M), the places from which nodes were sampled.
            valid: (N, F, V, M) bool, False where a joint is absent.
            confidence: (N, F, V, M), the tracker's; None: 1 where a joint is valid and on the image, else 0.
        """
        if self.attention is not None:
            nodes = self.attention(nodes, tokens, pixels, valid)
        if self.gate is not None:
            nodes = self.gate(nodes, valid & inside(pixels, self.size) if confidence is None else confidence)
        return nodes
