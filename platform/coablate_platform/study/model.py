"""What the platform asks of a model: its configuration, its objectives, and the batches that its network reads.

The platform knows no particular model: every class that satisfies :class:`ModelConfig` can be used in a study.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from coablate_platform.study.extensions import missing_attributes

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """The sizes of the clips that a model is built for.

    Args:
        classes: number of classes K.
        channels: number of video channels C.
        frames: number of video frames per clip T.
        size: height and width of a video frame in pixels S.
        skeleton_frames: number of skeleton frames per clip T', after resampling.
        joints: number of joints per person V.
        persons: number of persons per clip M; the joints of an absent person are zeros.
        bones: the tree of the joints, as (child, parent) pairs; empty where it is not known.
    """

    classes: int
    channels: int
    frames: int
    size: int
    skeleton_frames: int
    joints: int
    persons: int
    bones: tuple[tuple[int, int], ...] = ()


class Description(Protocol):
    """What a network costs."""

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        ...

    @property
    def flops(self) -> int:
        """Floating-point operations of the forward pass of one clip."""
        ...

    @property
    def activation_bytes(self) -> int:
        """Bytes of activations that each training sample keeps for the backward pass."""
        ...


class PretrainingObjective(Protocol):
    """The loss of a phase in which nothing is classified. N is the number of clips."""

    def loss(self, outputs: "dict[str, Tensor]", batch: "dict[str, Tensor]", step: int) -> "dict[str, Tensor]":
        """Return scalar losses by name: ``loss`` is minimised, the others are only recorded.

        Args:
            outputs: what the network returned.
            batch: what the network was given.
            step: the optimiser step, counted from 0 over the phase; the turns of a batch follow each other.
        """
        ...


@runtime_checkable
class Objective(PretrainingObjective, Protocol):
    """The loss and the metrics of a model. The training loop knows nothing else about the task.

    N is the number of clips and K the number of classes; a batch is described at :class:`ModelConfig`.
    """

    def predict(self, outputs: "dict[str, Tensor]") -> "Tensor":
        """Return the scores (N, K) that are recorded for each clip."""
        ...

    def metrics(self, scores: "Tensor", labels: "Tensor") -> dict[str, float]:
        """Return metrics by name, from the scores (N, K) and labels (N,) of a whole split.

        Larger must be better for the metric that selects the epoch or compares arms, such as ``accuracy``.
        """
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """An objective that takes several optimiser steps on each batch, each on some of the parameters.

    Each step has an optimiser and a forward pass of its own. An objective without ``turns`` takes one step.
    """

    def turns(self, network: "nn.Module") -> "Sequence[Sequence[nn.Parameter]]":
        """Return the parameters that each step on a batch changes, in the order of the steps."""
        ...


@runtime_checkable
class HasHeads(Protocol):
    """An objective with predictions beside the recorded ones, such as those of each stream of a fused network."""

    def head_scores(self, outputs: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Return scores (N, K) by the name of a head; the test's metrics of each end with that name."""
        ...


@runtime_checkable
class FitsToValidation(Protocol):
    """An objective that chooses a value of the trained network on the validation split, before the test."""

    def fit(self, network: "nn.Module", scores: "Mapping[str, Tensor]", labels: "Tensor") -> None:
        """Set the network's value. It is not called where there are no validation clips.

        Args:
            network: the network with its selected weights.
            scores: (N, K) by head, as :meth:`HasHeads.head_scores` returns them.
            labels: classes of the validation clips (N,).
        """
        ...


@runtime_checkable
class NeedsWholeBatch(Protocol):
    """An objective whose loss is not a mean over clips, such as one on the covariance of features over a batch.

    Where ``needs_whole_batch`` is true, several workers compute the loss and the batch norms on all their clips
    together, and a batch is not cut into micro-batches.
    """

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the loss needs all clips of a batch at once."""
        ...


@runtime_checkable
class Retrieves(Protocol):
    """An objective that is also evaluated by retrieval: a clip is classified by its neighbours in the training split.

    The training split without augmentation is the gallery. It is evaluated at the end of each phase and at the test.
    """

    def features(self, outputs: "dict[str, Tensor]") -> "Tensor":
        """Return the features (N, D) of the clips."""
        ...

    def retrieval_metrics(
        self, gallery: "Tensor", gallery_labels: "Tensor", features: "Tensor", labels: "Tensor"
    ) -> dict[str, float]:
        """Return metrics by name, larger for better, from the gallery's features and those of a split."""
        ...


@runtime_checkable
class Pretrains(Protocol):
    """A model configuration whose network can be pre-trained in a phase of its own, before it is trained.

    In that phase the tensors of a training batch have a further axis behind the first: W views of each clip, which are
    augmented independently, (N, W, …).
    """

    @property
    def pretraining_views(self) -> int:
        """The number of views W."""
        ...

    def pretraining_objective(self) -> PretrainingObjective:
        """Return the objective of the phase. With ``turns`` it says which parameters the phase changes."""
        ...


@runtime_checkable
class ModelConfig(Protocol):
    """The configuration of a model: a frozen dataclass that builds the network and its objective.

    The network is ``forward(batch) -> outputs``. A batch holds ``label`` (N,) int64, ``index`` (N,) int64, the clip's
    row in the store, and the tensors that ``modalities`` names:

    ======================  ================  ==========================================================================
    name                    shape             content
    ======================  ================  ==========================================================================
    ``video``               (N, C, T, S, S)   frames, float32 in [-1, 1]
    ``skeleton``            (N, 3, T', V, M)  joints at T' times that divide the window evenly, float32
    ``frame_skeleton``      (N, 3, T, V, M)   joints at the video frames' own times, float32
    ``pixels``              (N, 2, T, V, M)   joints in the video frames, x then y in pixels of the S×S frame, float32
    ``visible``             (N, T, V, M)      bool: the joint is tracked, has a position in the frame and lies on it
    ======================  ================  ==========================================================================

    Absent joints are zeros. ``outputs`` is a dict of tensors that only the objective reads.
    """

    @property
    def modalities(self) -> tuple[str, ...]:
        """The tensors that the network reads; a batch lacks the others."""
        ...

    def build(self, shape: ClipShape) -> "nn.Module":
        """Return the network, which draws random numbers from torch only.

        A module that draws initial values in ``reset_parameters()`` has them from a seed of its own; a parameter that
        no such method writes has the value that its constructor draws from a seed of the parameter's own.
        """
        ...

    def objective(self) -> Objective:
        """Return the objective that the network is trained with."""
        ...

    def describe(self, shape: ClipShape) -> Description:
        """Return what the network costs for clips of this shape, without data."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A model configuration with fields that hold the path of a file, or None. The file's content identifies a run."""

    @property
    def file_fields(self) -> tuple[str, ...]:
        """The names of these fields; their paths are absolute, as workers have other working directories."""
        ...


def model_mismatch(value: object) -> str:
    """Return why a value is no model configuration, as text for a message; empty if it is one."""
    members = ("modalities", "build", "objective", "describe")
    return missing_attributes(value, members) or ("" if is_dataclass(value) else "it is not a dataclass")
