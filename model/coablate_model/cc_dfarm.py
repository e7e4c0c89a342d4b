"""CC-DFARM: I3D and HCN with TIAM, connected by DSFM or MMTM at the fusion sites, with MFFM in the fused head.

Shapes: N clips, C video channels, T frames, S frame side, T' skeleton frames, V joints, M persons, K classes.

Source: Liu et al., "Dual-stream fusion action recognition model based on cross-modal co-sensing" (CC-DFARM), section 2.
Each module names the readings of the paper that it takes. Three are taken here. Without MFFM the prediction is the mean
of both streams' logits. Where the skeleton stream still has a map per person (up to conv6), DSFM takes each person as a
modality of its own and leaves out who is absent. Downstream of a site, the recalibrated maps replace the originals.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
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
MIN_FRAMES = 8

_OPTIONS = {
    "fusion": ("dsfm", "mmtm"),
    "tiam": ("none", "channel", "st"),
    "tiam_site": ("transition", "conv4"),
    "absent_persons": ("left_out", "counted"),
    "training": ("joint", "alternating"),
}


@dataclass(frozen=True, kw_only=True)
class CCDFARM:
    """CC-DFARM, its ablations, and each of its streams alone.

    Args:
        streams: ``("rgb", "skeleton")`` for the fused network, or one of the two for that stream without any fusion.
        width: multiplier of I3D's channel counts.
        hcn_features: F, the point-level features of a joint in HCN.
        fusion: the module at every fusion site.
        placement: the fusion sites, in order of execution; may be empty.
        floor: λ of DSFM, the lower bound of a gate, for sites that set none of their own.
        reduction: r of DSFM, block width over width of the joint vector, for sites that set none of their own.
        mmtm_gain: factor on MMTM's gates; 2 in the paper's equations, 1 in the public code.
        mmtm_relu: apply a ReLU to MMTM's joint vector; the public code does, the paper's equations do not.
        mmtm_ratio: MMTM's joint vector has ⌊2(C + C') / ratio⌋ channels, C and C' being those of the two maps.
        tiam: mode of the attention between HCN's position and motion branches, or ``none``.
        tiam_site: HCN layer after which TIAM is applied.
        absent_persons: ``left_out`` keeps absent persons out of DSFM's context and softmax and out of the statistics of
            TIAM's batch norms; ``counted`` treats their maps like any other, as the public ancestors do.
        mffm: predict by the MFFM head; otherwise by the mean of both streams' logits.
        mffm_channels: C of MFFM; None takes the width of the skeleton vector (512), whatever ``width`` is.
        i3d_dropout: dropout probability before I3D's class layer.
        i3d_norm_momentum: momentum of I3D's batch norm, the weight of a batch in the running statistics. With the
            published 0.01 they lag behind in a training of only a few hundred steps.
        hcn_dropout: dropout probability after HCN's conv4, conv5, conv6 and fc7.
        mffm_dropout: dropout probability before the class layer of the MFFM head.
        training: ``joint`` adds the losses of all heads in one step, ``alternating`` takes a step per stream on each
            batch, each with an optimiser of its own.
        label_smoothing: share of the target distribution that is spread evenly over all classes.
        checkpoint_activations: recompute I3D's activations in the backward pass, which saves memory and costs time.
        weights: path of weights for I3D, such as the published Kinetics ones; None: random initial values. Its content
            decides, not its name; a relative path is taken from the working directory.
        hcn_weights: likewise for HCN.

    Raises:
        ValueError: a value out of range, an unknown option, or sites that are not in the order of both streams.
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
    tiam: Literal["none", "channel", "st"] = "channel"
    tiam_site: Literal["transition", "conv4"] = "transition"
    absent_persons: Literal["left_out", "counted"] = "left_out"
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
    hcn_weights: str | None = None

    def __post_init__(self) -> None:
        for name in self.file_fields:  # workers have other working directories
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(Path(path).expanduser().absolute()))
        if self.streams not in ((RGB, SKELETON), (RGB,), (SKELETON,)):
            raise ValueError(f"streams is {self.streams}, expected ('rgb', 'skeleton'), ('rgb',) or ('skeleton',)")
        self._check_values()
        check_placement(self.placement)
        for site in self.placement:
            if self.fusion == "dsfm" and site.reduction is None:
                site.check_reduction(self.reduction)

    def _check_values(self) -> None:
        for name, options in _OPTIONS.items():
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
        """The tensors of a batch that the network reads: ``video``, ``skeleton`` or both."""
        return tuple({RGB: "video", SKELETON: "skeleton"}[stream] for stream in self.streams)

    @property
    def file_fields(self) -> tuple[str, ...]:
        """The fields that hold the path of a file: two configurations are the same if the files' contents are."""
        return ("weights", "hcn_weights")

    def build(self, shape: Shape) -> nn.Module:
        """Build the network for clips of this shape.

        Raises:
            ValueError: clips with too few frames, or weights that do not fit the network.
        """
        return TwoStream(self, shape) if len(self.streams) == 2 else OneStream(self, shape)

    def objective(self) -> CrossEntropy:
        """Return the training objective: the trained heads and how their losses combine."""
        if len(self.streams) == 1:
            return CrossEntropy(label_smoothing=self.label_smoothing)
        # without MFFM the fused logits are a mean without parameters, which the ancestors' alternating steps leave out
        only_streams = self.training == "alternating" and not self.mffm
        heads = self.streams if only_streams else (FUSED, *self.streams)
        return CrossEntropy(heads=heads, mode=self.training, label_smoothing=self.label_smoothing)

    def describe(self, shape: Shape) -> Cost:
        """Measure the network's cost for clips of this shape. Pretrained weights are not read.

        Raises:
            ValueError: clips with too few frames.
        """
        return measure(replace(self, weights=None, hcn_weights=None).build, shape)


class OneStream(nn.Module):
    """A single stream, whose logits are the prediction."""

    def __init__(self, config: CCDFARM, shape: Shape) -> None:
        super().__init__()
        self.stream = config.streams[0]
        if self.stream == RGB:
            self.i3d = _build_i3d(config, shape)
        else:
            self.hcn = _build_hcn(config, shape)
        _load_pretrained(self, config)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map ``video`` (N, C, T, S, S) or ``skeleton`` (N, 3, T', V, M) to the logits ``fused`` (N, K)."""
        if self.stream == RGB:
            return {FUSED: self.i3d(batch["video"])}
        return {FUSED: self.hcn(batch["skeleton"])}


class TwoStream(nn.Module):
    """Both streams with their heads, the fusion modules at the sites, and the fused head."""

    def __init__(self, config: CCDFARM, shape: Shape) -> None:
        super().__init__()
        self.placement = config.placement
        self.count_absent = config.absent_persons == "counted"
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
        _load_pretrained(self, config)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map ``video`` (N, C, T, S, S) and ``skeleton`` (N, 3, T', V, M) to the logits (N, K) of every head."""
        rgb, skeleton = batch["video"], batch["skeleton"]
        present = persons_present(skeleton)
        rgb_layer, skeleton_layer = None, None
        for site, module in zip(self.placement, self.fusion.values(), strict=True):
            rgb = self.i3d.advance(rgb, rgb_layer, site.rgb)
            skeleton = self.hcn.advance(skeleton, present, skeleton_layer, site.skeleton)
            rgb, skeleton = self._fuse(module, rgb, skeleton, present)
            rgb_layer, skeleton_layer = site.rgb, site.skeleton
        rgb = self.i3d.advance(rgb, rgb_layer, "Mixed_5c")
        skeleton = self.hcn.advance(skeleton, present, skeleton_layer, "fc7")
        logits = {RGB: self.i3d.classify(rgb), SKELETON: self.hcn.classify(skeleton)}
        fused = (logits[RGB] + logits[SKELETON]) / 2 if self.head is None else self.head(rgb, skeleton[:, 0])
        return {FUSED: fused} | logits

    def parameters_of(self, stream: str) -> list[nn.Parameter]:
        """Return the parameters of a stream, ``rgb`` or ``skeleton``, and of the modules that both streams share."""
        own = self.i3d if stream == RGB else self.hcn
        shared = [self.fusion] if self.head is None else [self.fusion, self.head]
        return [parameter for module in (own, *shared) for parameter in module.parameters()]

    def _fuse(self, module: nn.Module, rgb: Tensor, skeleton: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Recalibrate the video map (N, C, T, H, W) and the skeleton maps (N, M, C', ...) by each other.

        After the maximum over persons, at fc7, M is 1.
        """
        if skeleton.shape[1] != present.shape[1]:
            present = present.any(1, keepdim=True)
        if isinstance(module, MMTM):
            recalibrated: tuple[Tensor, Tensor] = module(rgb, skeleton, present)
            return recalibrated
        modalities = None if self.count_absent else F.pad(present, (1, 0), value=True)  # the video is always there
        rgb, *persons = module([rgb, *skeleton.unbind(1)], modalities)
        return rgb, torch.stack(persons, dim=1)


def _load_pretrained(network: nn.Module, config: CCDFARM) -> None:
    """Load the weights that the configuration names into the streams that the network has."""
    for name, path in ((RGB, config.weights), (SKELETON, config.hcn_weights)):
        if path is not None and name in config.streams:
            stream = network.i3d if name == RGB else network.hcn
            network.add_module(f"pretrained_{name}", Pretrained(stream, path))  # type: ignore[arg-type]


def _build_fusion(config: CCDFARM, site: Site, persons: int) -> nn.Module:
    rgb, skeleton = inception_channels(site.rgb, config.width), LAYER_CHANNELS[site.skeleton]
    if config.fusion == "mmtm":
        return MMTM((rgb, skeleton), ratio=config.mmtm_ratio, gain=config.mmtm_gain, relu=config.mmtm_relu)
    skeleton_maps = 1 if site.skeleton == "fc7" else persons
    return DSFM(
        [rgb] + [skeleton] * skeleton_maps,
        site.channels,
        floor=config.floor if site.floor is None else site.floor,
        reduction=site.reduction or config.reduction,
    )


def _build_i3d(config: CCDFARM, shape: Shape) -> I3D:
    if shape.frames < MIN_FRAMES:  # for 5 and 7 frames oneDNN (torch 2.13) computes wrong gradients of the first layer
        raise ValueError(f"frames is {shape.frames}, but I3D needs at least {MIN_FRAMES}")
    return I3D(
        shape.classes,
        channels=shape.channels,
        width=config.width,
        dropout=config.i3d_dropout,
        norm_momentum=config.i3d_norm_momentum,
        checkpoint_activations=config.checkpoint_activations,
    )


def _build_hcn(config: CCDFARM, shape: Shape) -> HCN:
    tiam_channels = config.hcn_features if config.tiam_site == "transition" else LAYER_CHANNELS["conv4"] // 2
    return HCN(
        shape.classes,
        joints=shape.joints,
        frames=shape.skeleton_frames,
        features=config.hcn_features,
        dropout=config.hcn_dropout,
        tiam=None if config.tiam == "none" else TIAM(tiam_channels, config.tiam),
        tiam_after=config.tiam_site,
        absent_in_tiam=config.absent_persons == "counted",
    )
