"""CC-DFARM, assembled: I3D and HCN with TIAM, joined by DSFM or MMTM at a list of sites, fused by MFFM.

Shapes: N clips, C video channels, T frames, S frame side, T' skeleton frames, V joints, M persons, K classes.

Source: Liu et al., "Dual-stream fusion action recognition model based on cross-modal co-sensing" (CC-DFARM), section 2.
Our readings are named in each module. Here: without MFFM the prediction is the mean of both streams' scores; each
person is a modality of its own in DSFM where the skeleton stream still has persons; the maps that a site scales replace
the originals downstream.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from coablate_model.describe import Cost, measure
from coablate_model.dsfm import DSFM
from coablate_model.hcn import HCN, LAYER_CHANNELS, persons_present
from coablate_model.i3d import I3D, inception_channels
from coablate_model.mffm import FusionHead
from coablate_model.mmtm import MMTM
from coablate_model.objective import FUSED, CrossEntropy
from coablate_model.placement import PAPER_PLACEMENT, Site, check_placement
from coablate_model.shape import Shape
from coablate_model.tiam import TIAM
from coablate_model.weights import Pretrained

RGB = "rgb"
SKELETON = "skeleton"
LEAST_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class CCDFARM:
    """One network of the family: the paper's, its ablations, and each stream alone.

    Args:
        streams: ``("rgb", "skeleton")``, or one of them alone, which then has no fusion of any kind.
        width: multiplier of I3D's channel counts.
        hcn_features: F, features of every joint in HCN.
        fusion: what stands at the sites.
        placement: the sites, in order; may be empty.
        floor: λ of DSFM, the least a gate can be, where a site names none of its own.
        reduction: r of DSFM, likewise.
        mmtm_gain: scale of MMTM's gates; the paper's equations say 2, the public code 1.
        mmtm_relu: ReLU on MMTM's joint vector; the equations have none, the public code has one.
        mmtm_ratio: MMTM's joint width is 2(C + C') over this.
        tiam: attention between HCN's position and motion branches, and its reading.
        tiam_site: behind HCN's transition, or behind conv4.
        mffm: fuse both streams by MFFM; otherwise average their scores.
        mffm_channels: C of MFFM; None takes the skeleton vector's own width (512), whatever the I3D's width.
        i3d_dropout: in front of I3D's class layer.
        i3d_norm_momentum: weight of a batch in the running statistics of I3D's batch norm; the published 0.01 lags
            behind a training of only some hundred steps.
        hcn_dropout: after HCN's conv4, conv5, conv6 and fc7.
        mffm_dropout: in front of the fused class layer.
        training: the heads' losses added, or a head a step.
        label_smoothing: share of the target spread over all classes.
        checkpoint_activations: trade time for memory in I3D.
        weights: path of published Kinetics weights for I3D, or None.

    Raises:
        ValueError: a value out of range, an unknown stream or site, sites that cross.
    """

    streams: tuple[str, ...] = (RGB, SKELETON)
    width: float = 1.0
    hcn_features: int = 32
    fusion: Literal["dsfm", "mmtm"] = "dsfm"
    placement: tuple[Site, ...] = PAPER_PLACEMENT
    floor: float = 0.5
    reduction: int = 4
    mmtm_gain: float = 2.0
    mmtm_relu: bool = True
    mmtm_ratio: int = 4
    tiam: Literal["none", "st", "channel"] = "st"
    tiam_site: Literal["transition", "conv4"] = "transition"
    mffm: bool = True
    mffm_channels: int | None = None
    i3d_dropout: float = 0.5
    i3d_norm_momentum: float = 0.01
    hcn_dropout: float = 0.5
    mffm_dropout: float = 0.5
    training: Literal["joint", "alternating"] = "joint"
    label_smoothing: float = 0.1
    checkpoint_activations: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.streams not in ((RGB, SKELETON), (RGB,), (SKELETON,)):
            raise ValueError(f"streams is {self.streams}, expected ('rgb', 'skeleton'), ('rgb',) or ('skeleton',)")
        self._check_values()
        check_placement(self.placement)
        for site in self.placement:
            if self.fusion == "dsfm" and site.reduction is None and site.channels < self.reduction:
                raise ValueError(f"site {site}: {site.channels} channels cannot be reduced by {self.reduction}")

    def _check_values(self) -> None:
        for name, options in _CHOICES.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(options)}")
        for name in ("floor", "i3d_dropout", "hcn_dropout", "mffm_dropout", "label_smoothing", "i3d_norm_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 to 1")
        for name in ("width", "hcn_features", "reduction", "mmtm_gain", "mmtm_ratio", "mffm_channels"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}, expected a number above 0")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of a batch's ``video`` and ``skeleton`` the network reads."""
        return tuple({RGB: "video", SKELETON: "skeleton"}[stream] for stream in self.streams)

    def build(self, shape: Shape) -> nn.Module:
        """Return the network for clips of this shape.

        Raises:
            ValueError: a shape that the network cannot take, or weights that are not this network's.
        """
        return TwoStream(self, shape) if len(self.streams) == 2 else OneStream(self, shape)

    def objective(self) -> CrossEntropy:
        """Return what the network is trained for."""
        heads: tuple[str, ...] = (FUSED,)
        if len(self.streams) == 2:
            mean_is_no_head = self.training == "alternating" and not self.mffm
            heads = (RGB, SKELETON) if mean_is_no_head else (FUSED, RGB, SKELETON)
        return CrossEntropy(heads=heads, mode=self.training, label_smoothing=self.label_smoothing)

    def describe(self, shape: Shape) -> Cost:
        """Return what the network costs for clips of this shape; pretrained weights are not read.

        Raises:
            ValueError: a shape that the network cannot take.
        """
        return measure(replace(self, weights=None).build, shape)


_CHOICES = {
    "fusion": ("dsfm", "mmtm"),
    "tiam": ("none", "st", "channel"),
    "tiam_site": ("transition", "conv4"),
    "training": ("joint", "alternating"),
}


class OneStream(nn.Module):
    """One stream alone; its scores are the prediction."""

    def __init__(self, config: CCDFARM, shape: Shape) -> None:
        super().__init__()
        self.stream = config.streams[0]
        if self.stream == RGB:
            self.i3d = _build_i3d(config, shape)
            if config.weights is not None:
                self.pretrained = Pretrained(self.i3d, config.weights)
        else:
            self.hcn = _build_hcn(config, shape)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ``fused`` (N, K)."""
        if self.stream == RGB:
            return {FUSED: self.i3d(batch["video"])}
        return {FUSED: self.hcn(batch["skeleton"])}


class TwoStream(nn.Module):
    """Both streams, the fusion at the sites and the fused head."""

    def __init__(self, config: CCDFARM, shape: Shape) -> None:
        super().__init__()
        self.placement = config.placement
        self.i3d = _build_i3d(config, shape)
        self.hcn = _build_hcn(config, shape)
        self.fusion = nn.ModuleDict(
            {f"{site.rgb}-{site.skeleton}": _build_fusion(config, site, shape.persons) for site in config.placement}
        )
        self.head = None
        if config.mffm:
            self.head = FusionHead(
                inception_channels("Mixed_5c", config.width),
                LAYER_CHANNELS["fc7"],
                channels=config.mffm_channels or LAYER_CHANNELS["fc7"],
                classes=shape.classes,
                dropout=config.mffm_dropout,
            )
        if config.weights is not None:
            self.pretrained = Pretrained(self.i3d, config.weights)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map ``video`` (N, C, T, S, S) and ``skeleton`` (N, 3, T', V, M) to scores (N, K) of every head."""
        rgb, skeleton = batch["video"], batch["skeleton"]
        present = persons_present(skeleton)
        rgb_at, skeleton_at = None, None
        for site, block in zip(self.placement, self.fusion.values(), strict=True):
            rgb = self.i3d.advance(rgb, rgb_at, site.rgb)
            skeleton = self.hcn.advance(skeleton, present, skeleton_at, site.skeleton)
            rgb, skeleton = _fuse(block, rgb, skeleton, present)
            rgb_at, skeleton_at = site.rgb, site.skeleton
        rgb = self.i3d.advance(rgb, rgb_at, "Mixed_5c")
        skeleton = self.hcn.advance(skeleton, present, skeleton_at, "fc7")
        scores = {RGB: self.i3d.classify(rgb), SKELETON: self.hcn.classify(skeleton)}
        fused = (scores[RGB] + scores[SKELETON]) / 2 if self.head is None else self.head(rgb, skeleton[:, 0])
        return {FUSED: fused} | scores


def _fuse(block: nn.Module, rgb: Tensor, skeleton: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Recalibrate (N, C, T, H, W) and (N, M, C', ...) by each other; behind the person maximum M is 1."""
    if isinstance(block, MMTM):
        counted = present if skeleton.shape[1] == present.shape[1] else present.any(1, keepdim=True)
        fused: tuple[Tensor, Tensor] = block(rgb, skeleton, counted)
        return fused
    rgb, *persons = block([rgb, *skeleton.unbind(1)])
    return rgb, torch.stack(persons, dim=1)


def _build_fusion(config: CCDFARM, site: Site, persons: int) -> nn.Module:
    rgb, skeleton = inception_channels(site.rgb, config.width), LAYER_CHANNELS[site.skeleton]
    if config.fusion == "mmtm":
        return MMTM((rgb, skeleton), ratio=config.mmtm_ratio, gain=config.mmtm_gain, relu=config.mmtm_relu)
    modalities = [rgb] + [skeleton] * (1 if site.skeleton == "fc7" else persons)
    return DSFM(
        modalities,
        site.channels,
        floor=config.floor if site.floor is None else site.floor,
        reduction=site.reduction or config.reduction,
    )


def _build_i3d(config: CCDFARM, shape: Shape) -> I3D:
    if shape.frames < LEAST_FRAMES:  # oneDNN (torch 2.13) gets the first layer's gradients wrong for 5 and 7
        raise ValueError(f"frames is {shape.frames}, but I3D needs at least {LEAST_FRAMES}")
    return I3D(
        shape.classes,
        channels=shape.channels,
        width=config.width,
        dropout=config.i3d_dropout,
        norm_momentum=config.i3d_norm_momentum,
        checkpoint_activations=config.checkpoint_activations,
    )


def _build_hcn(config: CCDFARM, shape: Shape) -> HCN:
    channels = config.hcn_features if config.tiam_site == "transition" else LAYER_CHANNELS["conv4"] // 2
    return HCN(
        shape.classes,
        joints=shape.joints,
        frames=shape.skeleton_frames,
        features=config.hcn_features,
        dropout=config.hcn_dropout,
        tiam=None if config.tiam == "none" else TIAM(channels, config.tiam),
        tiam_after=config.tiam_site,
    )
