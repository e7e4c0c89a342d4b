"""Token sampling: the tokens of the patches that hold a person's joints become the nodes of a graph.

Shapes: N clips, F frames, G×G patches of a frame of S×S pixels, D token width, V joints, M persons. Patch tokens are
(N, F, G, G, D), row before column; places of joints are (N, 2, F, V, M), x then y; nodes are (N, D, F, V, M).

Source: PAN's abstract says that tokens of patches with joints are nodes. That a joint's pixel picks its patch is how
π-ViT's public code does it. Our readings: pixels are continuous, from 0 at the frame's left or upper border to S at its
right or lower one, so that patch i spans [i·S/G, (i+1)·S/G). Where a joint is absent or off the image, a learned mask
token stands in.

The controls replace the places and nothing else: the mask token stands where it stands with joints, so that arms differ
only in what the other tokens show. Random places are fixed: each joint, person and frame number has a place of its own,
the same in every clip, in training and in evaluation. They need no state and do not depend on the order of clips, and a
clip always gives the same logits.
"""

import torch
from torch import Tensor, nn

PLACES = ("joints", "random", "grid")
"""Where tokens are taken: at joints, or at places that know nothing of them."""

INTERPOLATIONS = ("nearest", "bilinear")
"""Take the token of the patch that holds the place, or mix those of the four nearest patches."""


class TokenSampler(nn.Module):
    """Sample one token for each joint, person and frame.

    Args:
        width: D.
        size: S.
        places: one of :data:`PLACES`.
        interpolation: one of :data:`INTERPOLATIONS`.
        seed: of the random places.

    Raises:
        ValueError: unknown places or interpolation.
    """

    def __init__(
        self, width: int, size: int, *, places: str = "joints", interpolation: str = "nearest", seed: int = 0
    ) -> None:
        super().__init__()
        for name, value, known in (("places", places, PLACES), ("interpolation", interpolation, INTERPOLATIONS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        self.size = size
        self.places = places
        self.interpolation = interpolation
        self.seed = seed
        self.mask_token = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the mask token."""
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, pixels: Tensor, valid: Tensor) -> Tensor:
        """Map patch tokens (N, F, G, G, D) to nodes (N, D, F, V, M).

        Args:
            tokens: of all patches.
            pixels: (N, 2, F, V, M), joints in pixels of the frame.
            valid: (N, F, V, M) bool, False where a joint is absent.
        """
        shown = valid & inside(pixels, self.size)
        weights = patch_weights(self.placed(pixels, tokens.shape[2]), self.size, tokens.shape[2], self.interpolation)
        sampled = weights.flatten(2, 3).flatten(3).to(tokens.dtype) @ tokens.flatten(2, 3)  # (N, F, V·M, D)
        nodes = sampled.view(*shown.shape, -1)
        return torch.where(shown[..., None], nodes, self.mask_token.to(nodes.dtype)).permute(0, 4, 1, 2, 3)

    def placed(self, pixels: Tensor, grid: int) -> Tensor:
        """Return the places at which tokens are taken, (N, 2, F, V, M): the joints' own, or a control's."""
        if self.places == "joints":
            return pixels
        _, _, frames, joints, persons = pixels.shape
        if self.places == "grid":
            places = even_places(joints, self.size)[:, None, :, None]
        else:
            places = random_places((frames, joints, persons), grid, self.size, self.seed)
        return places.to(pixels).expand_as(pixels)


def inside(pixels: Tensor, size: int) -> Tensor:
    """Return which places (N, 2, F, V, M) lie on the image, (N, F, V, M); a place that is not a number does not."""
    return ((pixels >= 0) & (pixels < size)).all(1)


def patch_numbers(pixels: Tensor, size: int, grid: int) -> Tensor:
    """Return column and row of the patch that holds each place; for places off the image, those of the nearest patch.

    Args:
        pixels: (N, 2, F, V, M).
        size: S.
        grid: G.
    """
    return (pixels.float().nan_to_num() * (grid / size)).floor().clamp(0, grid - 1)


def patch_weights(pixels: Tensor, size: int, grid: int, interpolation: str) -> Tensor:
    """Return the share of each patch in each place's token, (N, F, V, M, G, G); the shares of a place sum to 1.

    A matrix of shares rather than indices: its gradient is a matrix product, which repeats exactly on a GPU too.
    """
    if interpolation == "nearest":
        position = patch_numbers(pixels, size, grid)
    else:  # in units of patches, with patch centres at whole numbers
        position = (pixels.float().nan_to_num() * (grid / size) - 0.5).clamp(0, grid - 1)
    distance = (position[..., None] - torch.arange(grid, device=pixels.device)).abs()
    columns, rows = (1 - distance).clamp(min=0).unbind(1)
    return rows[..., :, None] * columns[..., None, :]


def random_places(shape: tuple[int, int, int], grid: int, size: int, seed: int) -> Tensor:
    """Return the centre of a random patch for each frame, joint and person, (2, F, V, M), always the same ones.

    They depend on the arguments alone, not on torch's default generator.
    """
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(grid, (2, *shape), generator=generator) + 0.5) * (size / grid)


def even_places(joints: int, size: int) -> Tensor:
    """Return V places spread evenly over the frame, (2, V): rows of as many, or one more, in reading order."""
    rows = round(joints**0.5)
    places = []
    for row in range(rows):
        length = joints * (row + 1) // rows - joints * row // rows
        places += [((column + 0.5) / length * size, (row + 0.5) / rows * size) for column in range(length)]
    return torch.tensor(places).T
