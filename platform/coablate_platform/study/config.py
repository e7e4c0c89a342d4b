"""What one run is: model, data and training settings, as frozen values that types check.

The platform knows no particular model: anything that satisfies :class:`ModelConfig` can stand in a study.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """What a model must know of the clips it will see.

    Args:
        classes: number of classes K.
        channels: video channels C.
        frames: video frames a clip T.
        size: height and width of a frame in pixels S.
        skeleton_frames: skeleton frames a clip after resampling.
        joints: joints a person V.
        persons: persons a clip M; an absent one is all zeros.
    """

    classes: int
    channels: int
    frames: int
    size: int
    skeleton_frames: int
    joints: int
    persons: int


class Description(Protocol):
    """What a configuration costs: trainable parameters, and for one clip the forward pass's floating-point operations
    and the bytes of activations that training keeps for the backward pass."""

    @property
    def parameters(self) -> int: ...

    @property
    def flops(self) -> int: ...

    @property
    def activation_bytes(self) -> int: ...


class Objective(Protocol):
    """What a model is trained for and judged by. The loop knows nothing else of the task."""

    def loss(self, outputs: "dict[str, Tensor]", batch: "dict[str, Tensor]", step: int) -> "dict[str, Tensor]":
        """Return scalars; ``loss`` is minimised, the others are logged. ``step`` counts optimiser steps from 0."""
        ...

    def predict(self, outputs: "dict[str, Tensor]") -> "Tensor":
        """Return the scores (N, K) that are recorded for every sample."""
        ...

    def metrics(self, scores: "Tensor", labels: "Tensor") -> dict[str, float]:
        """Judge the scores (all of a split, (N, K)) against labels (N,); larger is better for ``accuracy``."""
        ...


@runtime_checkable
class ModelConfig(Protocol):
    """A frozen dataclass that builds a network ``forward(batch) -> outputs`` and names its objective.

    A batch holds ``video`` (N, C, T, S, S) float32, ``skeleton`` (N, 3, T', V, M) float32, ``label`` (N,) int64
    and ``index`` (N,) int64, the clip's row in the store; ``outputs`` is whatever the objective understands.
    """

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of ``video`` and ``skeleton`` the network reads; the others are not decoded."""
        ...

    def build(self, shape: ClipShape) -> "nn.Module":
        """Return the network. Every module that owns parameters draws them in ``reset_parameters()``."""
        ...

    def objective(self) -> Objective: ...

    def describe(self, shape: ClipShape) -> Description:
        """Measure the network for clips of this shape without data."""
        ...


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How clips are chosen and cut from a store.

    Args:
        protocol: which rows train and which test (``ntu60/cs``, ``utd/cs`` …); None: the store's own default.
        validation: ``subjects`` holds the protocol's named training subjects out, ``none`` trains on all of them
            (then the selection rule may not look at validation).
        frames: video frames a clip.
        size: height and width of a frame in pixels.
        framing: what the video shows: the middle square of the ``frame``, or the square around the ``persons``' joints.
        motion: show what changes from each frame to the next instead of the frames.
        skeleton_frames: frames the skeleton is resampled to.
        centring: the skeleton moves with its centre joint's place in the ``first`` frame, or in ``every`` frame.
        crop_ratio: the shortest share of a clip that a training sample may span; 1 takes the whole clip.
        spatial_crop: the shortest side of a training crop as a share of what is shown; 1 switches cropping off.
        flip: probability that a training sample is mirrored, video and skeleton together; only for classes that do
            not tell left from right.
        colour: strength of brightness and contrast jitter (0 off).
        rotation: largest rotation of the skeleton about the vertical, in radians.
        tilt: largest rotation of the skeleton about the x axis, in radians.
        scale: largest relative change of the skeleton's size.
        jitter: standard deviation of noise on joints, in metres.
    """

    protocol: str | None = None
    validation: Literal["subjects", "none"] = "subjects"
    frames: int = 8
    size: int = 56
    framing: Literal["frame", "persons"] = "frame"
    motion: bool = False
    skeleton_frames: int = 32
    centring: Literal["first", "every"] = "first"
    crop_ratio: float = 0.5
    spatial_crop: float = 0.8
    flip: float = 0.0
    colour: float = 0.2
    rotation: float = 0.5
    tilt: float = 0.15
    scale: float = 0.15
    jitter: float = 0.005


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Args:
        epochs: the full budget.
        batch_size: clips an optimiser step, over all workers and accumulated parts.
        accumulate: parts a batch is cut into, so that one that does not fit still counts as one step.
        optimiser: ``sgd`` (momentum .9), ``adam`` or ``adamw``.
        learning_rate: peak rate.
        weight_decay: L2 (``sgd``, ``adam``) or decoupled (``adamw``).
        schedule: ``cosine`` to 0, ``step`` (×``step_factor`` at ``step_epochs``), ``one_cycle`` or ``constant``.
        warmup_epochs: linear warm-up in front of ``cosine``, ``step`` and ``constant``.
        clip_norm: largest gradient norm; None does not clip.
        precision: autocast type.
        selection: the epoch that is tested: ``last``, ``best`` on validation by ``metric``, or a fixed number from 1.
        metric: the objective's metric that selects and stands in tables; larger is better.
        workers: data-parallel workers; they share the batch.
    """

    epochs: int = 30
    batch_size: int = 32
    accumulate: int = 1
    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    schedule: Literal["cosine", "step", "one_cycle", "constant"] = "one_cycle"
    warmup_epochs: int = 0
    step_epochs: tuple[int, ...] = ()
    step_factor: float = 0.1
    clip_norm: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    selection: Literal["last", "best"] | int = "last"
    metric: str = "accuracy"
    workers: int = 1


PAPER = TrainingConfig(
    epochs=50,
    batch_size=32,
    optimiser="sgd",
    learning_rate=0.1,
    weight_decay=1e-4,
    schedule="cosine",
)
"""CC-DFARM section 3.2; momentum .9 and weight decay 1e-4 are our reading, the paper is silent."""

MSAF = TrainingConfig(
    epochs=20,
    batch_size=4,
    optimiser="adam",
    learning_rate=1e-4,
    weight_decay=1e-4,
    schedule="step",
    step_epochs=(5,),
)
"""The public split-attention ancestor's recipe (both streams pretrained)."""

TRAINING_PRESETS = {"paper": PAPER, "msaf": MSAF}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run computes, but for the data and the seed."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
