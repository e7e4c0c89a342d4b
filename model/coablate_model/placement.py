"""Where fusion stands: pairs of an I3D endpoint and an HCN layer.

Source: CC-DFARM section 2.2 puts DSFM1 behind the second-last Inception block and conv5 with blocks of 64 channels,
DSFM2 behind the last Inception block and fc7 with blocks of 256.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coablate_model.hcn import LAYERS
from coablate_model.i3d import ENDPOINTS, INCEPTIONS

RGB_SITES = tuple(name for name in ENDPOINTS if name in INCEPTIONS and name != "Mixed_3b")
"""I3D endpoints at which fusion can stand, in order of execution."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place of fusion.

    Args:
        rgb: I3D endpoint, ``Mixed_3c`` … ``Mixed_5c``.
        skeleton: HCN layer, ``conv4``, ``conv5``, ``conv6`` or ``fc7``.
        channels: DSFM's block width C; MMTM has none and ignores it.
        floor: λ of this site's DSFM; None: the model's.
        reduction: r of this site's DSFM; None: the model's.

    Raises:
        ValueError: an unknown endpoint or layer, a block without channels, or a number out of range.
    """

    rgb: str
    skeleton: str
    channels: int
    floor: float | None = None
    reduction: int | None = None

    def __post_init__(self) -> None:
        _known("I3D endpoint", self.rgb, RGB_SITES)
        _known("HCN layer", self.skeleton, LAYERS)
        if self.channels < 1:
            raise ValueError(f"site {self}: channels is {self.channels}, expected at least 1")
        if self.floor is not None and not 0 <= self.floor <= 1:
            raise ValueError(f"site {self}: floor is {self.floor}, expected a number from 0 to 1")
        if self.reduction is not None and not 1 <= self.reduction <= self.channels:
            raise ValueError(f"site {self}: {self.channels} channels cannot be reduced by {self.reduction}")

    def __str__(self) -> str:
        return f"{self.rgb} × {self.skeleton}"


def check_placement(sites: Sequence[Site]) -> None:
    """Refuse sites that do not advance in both streams.

    Raises:
        ValueError: a site is not behind the one before it, in one stream or in both.
    """
    for before, site in pairwise(sites):
        behind_rgb = RGB_SITES.index(site.rgb) > RGB_SITES.index(before.rgb)
        behind_skeleton = LAYERS.index(site.skeleton) > LAYERS.index(before.skeleton)
        if not (behind_rgb and behind_skeleton):
            raise ValueError(f"placement: site {site} is not behind site {before} in both streams")


def _known(kind: str, name: str, options: Iterable[str]) -> None:
    options = list(options)
    if name not in options:
        near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(options)}"
        raise ValueError(f"placement: unknown {kind} {name!r} ({hint})")


DSFM1 = Site(rgb="Mixed_5b", skeleton="conv5", channels=64)
DSFM2 = Site(rgb="Mixed_5c", skeleton="fc7", channels=256)
PAPER_PLACEMENT = (DSFM1, DSFM2)
