"""The encoders: early fusion in one encoder that all modalities share, and late fusion of one encoder a modality.

Shapes: N clips, T frames, V joints, M persons, D width.
Skeletons are (N, 3, T, V, M). Views of them are (N, 4, 3, T, V, M): one for each modality in the order of
:data:`~coablate_model.dc.inputs.MODALITIES`, and a fourth, from which all three are taken. Features are a dict of
``temporal`` (N, D), ``spatial`` (N, D) and ``whole`` (N, 2·D), the two concatenated.

Source: UmURL (Sun et al., 2023) and its public code. Ours are late fusion from the same parts, and the batching: the
parent runs its encoder four times a step, here every layer sees all views of a step at once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from coablate_model.dc.inputs import MODALITIES, Tokens, modality_of, tokens_of
from coablate_model.joint_tree import Bones, parents_of

GRANULARITIES = ("temporal", "spatial", "whole")
"""The keys of features."""

Features = dict[str, Tensor]
Fusion = Literal["early", "late"]


def sinusoids(positions: int, width: int) -> Tensor:
    """Return the sinusoidal codes of positions, (positions, width): sines in even columns, cosines in odd ones."""
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(positions)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the elementwise mean of tensors of one shape."""
    return torch.stack(list(tensors)).mean(0)


def chunks_of(features: Features, count: int) -> list[Features]:
    """Split features of ``count`` equal batches, concatenated, into those of each."""
    parts = {key: value.chunk(count) for key, value in features.items()}
    return [{key: part[i] for key, part in parts.items()} for i in range(count)]


class Embeddings(nn.Module):
    """Embed each modality's two token sequences: linear, layer norm, ReLU, linear.

    Args:
        bones: the joint tree.
        frames: T.
        joints: V.
        persons: M.
        width: D.
    """

    parents: Tensor

    def __init__(self, *, bones: Bones, frames: int, joints: int, persons: int, width: int) -> None:
        super().__init__()
        self.register_buffer("parents", torch.tensor(parents_of(bones, joints)), persistent=False)
        self.temporal = nn.ModuleDict({name: _embedding(persons * joints * 3, width) for name in MODALITIES})
        self.spatial = nn.ModuleDict({name: _embedding(frames * 3, width) for name in MODALITIES})

    def forward(self, name: str, skeleton: Tensor) -> Tokens:
        """Embed the modality ``name`` of skeletons: tokens (N, T, D) and (N, M·V, D)."""
        raw = tokens_of(modality_of(name, skeleton, self.parents))
        return Tokens(self.temporal[name](raw.temporal), self.spatial[name](raw.spatial))


def _embedding(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))


class SpaceTimeEncoder(nn.Module):
    """Encode the two token sequences, each with a transformer encoder, and take the maximum over tokens.

    Only the temporal tokens have positions. Layers are post-norm with ReLU and without dropout.

    Args:
        frames: T.
        width: D.
        feed_forward: width within a layer's feed-forward part.
        layers: number of layers of each transformer encoder.
        heads: number of attention heads.
    """

    positions: Tensor

    def __init__(self, *, frames: int, width: int, feed_forward: int, layers: int, heads: int) -> None:
        super().__init__()
        self.register_buffer("positions", sinusoids(frames, width), persistent=False)
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout=0.0, batch_first=True)
        self.temporal = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.spatial = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens: Tokens) -> Features:
        """Map embedded tokens to features."""
        temporal = self.temporal(tokens.temporal + self.positions).amax(1)
        spatial = self.spatial(tokens.spatial).amax(1)
        return {"temporal": temporal, "spatial": spatial, "whole": torch.cat([temporal, spatial], dim=1)}


class DCEncoder(nn.Module):
    """Fuse early: the mean of the three modalities' embeddings passes a linear layer and then the shared encoder.

    Unimodal features come from the same encoder; they skip that linear layer, of which each sequence has its own.

    Args:
        embeddings: of the modalities.
        encoder: of all features, unimodal and fused.
    """

    def __init__(self, embeddings: Embeddings, encoder: SpaceTimeEncoder) -> None:
        super().__init__()
        width = encoder.positions.shape[1]
        self.embeddings = embeddings
        self.fuse_temporal = nn.Linear(width, width, bias=False)
        self.fuse_spatial = nn.Linear(width, width, bias=False)
        self.encoder = encoder

    def unimodal(self, name: str, skeleton: Tensor) -> Features:
        """Return the features of one modality of skeletons."""
        features: Features = self.encoder(self.embeddings(name, skeleton))
        return features

    def fused(self, skeleton: Tensor) -> Features:
        """Return the features of all modalities of skeletons, from one pass of the encoder."""
        features: Features = self.encoder(self._fuse([self.embeddings(name, skeleton) for name in MODALITIES]))
        return features

    def views(self, views: Tensor) -> dict[str, Features]:
        """Return the unimodal features of the first three views by modality, and ``fused`` of the fourth.

        Equal to four separate passes; every layer runs once, on all views that it has a part in.
        """
        embedded = [self.embeddings(name, _own_and_last(views, i)) for i, name in enumerate(MODALITIES)]
        own = [Tokens(*(sequence.chunk(2)[0] for sequence in tokens)) for tokens in embedded]
        last = [Tokens(*(sequence.chunk(2)[1] for sequence in tokens)) for tokens in embedded]
        together = Tokens(*map(torch.cat, zip(*own, self._fuse(last), strict=True)))
        return dict(zip((*MODALITIES, "fused"), chunks_of(self.encoder(together), 4), strict=True))

    def _fuse(self, embedded: Sequence[Tokens]) -> Tokens:
        temporal = self.fuse_temporal(mean_of([tokens.temporal for tokens in embedded]))
        return Tokens(temporal, self.fuse_spatial(mean_of([tokens.spatial for tokens in embedded])))


class LateFusion(nn.Module):
    """Fuse late: each modality has an encoder of its own, and the fused features are the mean of theirs.

    The reference for cost: it stands for what early fusion saves.

    Args:
        embeddings: of the modalities.
        encoders: modality -> its encoder.
    """

    def __init__(self, embeddings: Embeddings, encoders: Mapping[str, SpaceTimeEncoder]) -> None:
        super().__init__()
        self.embeddings, self.encoders = embeddings, nn.ModuleDict(encoders)

    def unimodal(self, name: str, skeleton: Tensor) -> Features:
        """Return the features of one modality of skeletons."""
        features: Features = self.encoders[name](self.embeddings(name, skeleton))
        return features

    def fused(self, skeleton: Tensor) -> Features:
        """Return the mean of the three modalities' features of skeletons."""
        return _mean_features([self.unimodal(name, skeleton) for name in MODALITIES])

    def views(self, views: Tensor) -> dict[str, Features]:
        """Return the unimodal features of the first three views by modality, and ``fused`` of the fourth."""
        pairs = [chunks_of(self.unimodal(name, _own_and_last(views, i)), 2) for i, name in enumerate(MODALITIES)]
        own = dict(zip(MODALITIES, (first for first, _ in pairs), strict=True))
        return own | {"fused": _mean_features([last for _, last in pairs])}


def build_encoder(
    fusion: Fusion,
    *,
    bones: Bones,
    frames: int,
    joints: int,
    persons: int,
    width: int = 1024,
    feed_forward: int = 1024,
    layers: int = 1,
    heads: int = 1,
) -> DCEncoder | LateFusion:
    """Build the encoder of early or of late fusion.

    Args:
        fusion: ``early`` in one encoder, or ``late`` of three.
        bones: the joint tree.
        frames: T.
        joints: V.
        persons: M.
        width: D.
        feed_forward: width within a transformer layer's feed-forward part.
        layers: number of layers of each transformer encoder.
        heads: number of attention heads.

    Raises:
        ValueError: the bones are not a tree over all joints.
    """
    embeddings = Embeddings(bones=bones, frames=frames, joints=joints, persons=persons, width=width)

    def encoder() -> SpaceTimeEncoder:
        return SpaceTimeEncoder(frames=frames, width=width, feed_forward=feed_forward, layers=layers, heads=heads)

    if fusion == "early":
        return DCEncoder(embeddings, encoder())
    return LateFusion(embeddings, {name: encoder() for name in MODALITIES})


def _mean_features(features: Sequence[Features]) -> Features:
    return {key: mean_of([each[key] for each in features]) for key in GRANULARITIES}


def _own_and_last(views: Tensor, i: int) -> Tensor:
    """Return the i-th view and the one that is fused, concatenated along the clips."""
    return torch.cat([views[:, i], views[:, len(MODALITIES)]])
