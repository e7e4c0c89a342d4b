"""The settings of PAN's tokens: how patches become tokens, where they are taken, how they are calibrated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_OPTIONS = {
    "stem": ("convolutions", "patch"),
    "places": ("joints", "random", "grid"),
    "interpolation": ("nearest", "bilinear"),
    "calibration": ("none", "attention", "gate", "both"),
}


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """How the tokens of PAN are made.

    Args:
        patch: side of a patch in pixels.
        width: width of a token; 384 with 12 blocks and 6 heads is ViT-small, 192 with 4 and 3 is for a CPU.
        depth: number of transformer blocks.
        heads: number of attention heads, in the ViT and in the calibration.
        stem: ``convolutions`` of stride 2, or one ``patch`` convolution, which hardly learns from hundreds of clips.
        frozen: never train the ViT.
        weights: path of ViT or DeiT weights with timm's names; None: random initial values. Its content decides, not
            its name; a relative path is taken from the working directory.
        places: where tokens are taken: at ``joints``, or, as controls, at ``random`` patches or on an even ``grid``.
        interpolation: the token of the ``nearest`` patch, or the ``bilinear`` mean of four.
        calibration: post-calibration by ``attention`` to the frame's patches, by a ``gate`` per joint, or ``both``.
        window: patches on each side of a joint that attention sees; None: the whole frame.

    Raises:
        ValueError: a value out of range, or an unknown option.
    """

    patch: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 6
    stem: Literal["convolutions", "patch"] = "convolutions"
    frozen: bool = False
    weights: str | None = None
    places: Literal["joints", "random", "grid"] = "joints"
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    calibration: Literal["none", "attention", "gate", "both"] = "attention"
    window: int | None = None

    def __post_init__(self) -> None:
        for name in self.file_fields:  # workers have other working directories
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(Path(path).expanduser().absolute()))
        for name, options in _OPTIONS.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(options)}")
        for name, least in (("patch", 1), ("width", 1), ("depth", 0), ("heads", 1), ("window", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, expected a number of at least {least}")

    @property
    def file_fields(self) -> tuple[str, ...]:
        """The fields that hold the path of a file: two configurations are the same if the files' contents are."""
        return ("weights",)
