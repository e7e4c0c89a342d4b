"""Fusion sites: pairs of an I3D endpoint and an HCN layer that a fusion module connects.

Source: CC-DFARM section 2.2. DSFM1 follows the second-last Inception block and conv5, with blocks of 64 channels;
DSFM2 follows the last Inception block and fc7, with blocks of 256.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from coablate_model.hcn import LAYERS
from coablate_model.i3d import ENDPOINTS, INCEPTIONS

RGB_SITES = tuple(name for name in ENDPOINTS if name in INCEPTIONS and name != "Mixed_3b")
"""I3D endpoints after which a fusion module can be placed, in order of execution."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One fusion site.

    Args:
        rgb: I3D endpoint, ``Mixed_3c`` … ``Mixed_5c``.
        skeleton: HCN layer, ``conv4``, ``conv5``, ``conv6`` or ``fc7``.
        channels: DSFM's block width C; MMTM has no blocks and ignores it.
        floor: λ of this site's DSFM; None takes the model's ``floor``.
        reduction: r of this site's DSFM; None takes the model's ``reduction``.

    Raises:
        ValueError: an unknown endpoint or layer, or a number out of range.
    """

    rgb: str
    skeleton: str
    channels: int
    floor: float | None = None
    reduction: int | None = None

    def __post_init__(self) -> None:
        _check_name("I3D endpoint", self.rgb, RGB_SITES)
        _check_name("HCN layer", self.skeleton, LAYERS)
        if self.channels < 1:
            raise ValueError(f"site {self}: channels is {self.channels}, expected at least 1")
        if self.floor is not None and not 0 <= self.floor <= 1:
            raise ValueError(f"site {self}: floor is {self.floor}, expected a number from 0 to 1")
        if self.reduction is not None:
            self.check_reduction(self.reduction)

    def check_reduction(self, reduction: int) -> None:
        """Check that the joint vector of this site's DSFM has at least one channel.

        Args:
            reduction: r, the site's own or the model's.

        Raises:
            ValueError: r is below 1 or above the block width.
        """
        if not 1 <= reduction <= self.channels:
            raise ValueError(
                f"site {self}: {self.channels} channels cannot be reduced by {reduction}, "
                f"expected a reduction from 1 to {self.channels}"
            )

    def __str__(self) -> str:
        return f"{self.rgb} × {self.skeleton}"


def check_placement(sites: Sequence[Site]) -> None:
    """Check that every site comes after the previous one in both streams.

    Raises:
        ValueError: a site does not come later than the one before it, in I3D or in HCN.
    """
    for previous, site in pairwise(sites):
        later_rgb = RGB_SITES.index(site.rgb) > RGB_SITES.index(previous.rgb)
        later_skeleton = LAYERS.index(site.skeleton) > LAYERS.index(previous.skeleton)
        if not (later_rgb and later_skeleton):
            raise ValueError(
                f"placement: site {site} is not behind site {previous} in both streams; "
                "each site must come after the previous one in I3D and in HCN"
            )


def _check_name(kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ValueError(f"placement: unknown {kind} {name!r} ({hint})")


DSFM1 = Site(rgb="Mixed_5b", skeleton="conv5", channels=64)
DSFM2 = Site(rgb="Mixed_5c", skeleton="fc7", channels=256)
PAPER_PLACEMENT = (DSFM1, DSFM2)
