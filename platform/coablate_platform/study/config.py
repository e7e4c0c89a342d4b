"""The configuration of one run: model, data and training settings, as frozen dataclasses with checked types.

The platform knows no particular model: every class that satisfies :class:`ModelConfig` can be used in a study.
"""

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import missing_attributes
from coablate_platform.study.validation import (
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    Probability,
    Share,
    check_fields,
    check_tree,
)

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
    """

    classes: int
    channels: int
    frames: int
    size: int
    skeleton_frames: int
    joints: int
    persons: int


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


class Objective(Protocol):
    """The loss and the metrics of a model. The training loop knows nothing else about the task.

    N is the number of clips and K the number of classes; a batch is described at :class:`ModelConfig`.
    """

    def loss(self, outputs: "dict[str, Tensor]", batch: "dict[str, Tensor]", step: int) -> "dict[str, Tensor]":
        """Return scalar losses by name: ``loss`` is minimised, the others are only recorded.

        Args:
            outputs: what the network returned.
            batch: what the network was given.
            step: the optimiser step, counted from 0 over the whole run; the turns of a batch follow each other.
        """
        ...

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
class ModelConfig(Protocol):
    """The configuration of a model: a frozen dataclass that builds the network and its objective.

    The network is ``forward(batch) -> outputs``. A batch holds ``video`` (N, C, T, S, S) float32, ``skeleton``
    (N, 3, T', V, M) float32, ``label`` (N,) int64 and ``index`` (N,) int64, the clip's row in the store. ``outputs`` is
    a dict of tensors that only the objective reads.
    """

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of ``video`` and ``skeleton`` the network reads; a batch lacks the other."""
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


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How clips are divided into splits, sampled and augmented.

    Args:
        protocol: name of the protocol that divides the clips into training and test (``ntu60/cs``, ``utd/cs`` …);
            None: the store's default.
        validation: ``subjects`` validates on the training subjects that the protocol holds out; ``none`` trains on all
            of them, and no epoch can then be selected by validation.
        frames: number of video frames per clip.
        size: height and width of a video frame in pixels.
        framing: what the video shows: ``frame``, the centre square of the frame, or ``persons``, the square around the
            joints of all persons.
        motion: give the model the differences of consecutive frames instead of the frames.
        skeleton_frames: number of frames that the skeleton is resampled to.
        centring: the frame whose centre joint is the origin: ``first`` uses the first frame in which it is tracked,
            for all frames; ``every`` uses each frame's own.
        crop_ratio: shortest time window of a training sample, as a fraction of the clip; 1 always takes the whole clip.
        spatial_crop: smallest side of a training sample's square crop, as a fraction of the short side of what the
            video shows; 1 switches cropping off.
        flip: probability that a training sample is mirrored, video and skeleton together; only for classes that do
            not distinguish left from right.
        colour: strength of brightness and contrast jitter (0 switches it off).
        rotation: largest rotation of the skeleton about the vertical axis, in radians.
        tilt: largest rotation of the skeleton about the x axis, in radians.
        scale: largest relative change of the skeleton's size.
        jitter: standard deviation of the Gaussian noise on joint positions, in metres.

    Raises:
        InputError: a value does not fit its annotation.
    """

    protocol: str | None = None
    validation: Literal["subjects", "none"] = "subjects"
    frames: Count = 8
    size: Count = 56
    framing: Literal["frame", "persons"] = "frame"
    motion: bool = False
    skeleton_frames: Count = 32
    centring: Literal["first", "every"] = "first"
    crop_ratio: Share = 0.5
    spatial_crop: Share = 0.8
    flip: Probability = 0.0
    colour: NotNegative = 0.2
    rotation: NotNegative = 0.5
    tilt: NotNegative = 0.15
    scale: NotNegative = 0.15
    jitter: NotNegative = 0.005

    def __post_init__(self) -> None:
        check_fields(self, "data.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Args:
        epochs: number of epochs, the full budget.
        batch_size: number of clips per optimiser step, over all workers and micro-batches.
        accumulate: gradient accumulation: number of micro-batches into which each worker cuts its share of a batch that
            does not fit into memory.
        optimiser: ``sgd`` (momentum 0.9), ``adam`` or ``adamw``.
        learning_rate: peak learning rate.
        weight_decay: L2 penalty (``sgd``, ``adam``) or decoupled weight decay (``adamw``).
        schedule: of the learning rate: ``cosine`` to 0, ``step`` (multiplied by ``step_factor`` at each of
            ``step_epochs``), ``one_cycle`` or ``constant``.
        warmup_epochs: epochs of linear warm-up before ``cosine``, ``step`` and ``constant``; ``one_cycle`` ignores it.
        step_epochs: numbers of completed epochs after which the learning rate is multiplied.
        step_factor: factor of each of these steps.
        clip_norm: largest norm of the gradient; None does not clip it.
        precision: autocast's data type; ``fp16`` uses loss scaling.
        deterministic: let cuDNN use deterministic algorithms only, so that a run repeats on the same GPU; ``false``
            lets it try which algorithms are fastest, and the digits then differ from run to run. On a CPU it changes
            nothing.
        selection: the epoch whose weights are tested: ``last``, ``best`` by ``metric`` on the validation split, or a
            number from 1.
        metric: the objective's metric that selects the best epoch and that tables show; larger is better.
        workers: number of data-parallel workers, which share each batch.

    Raises:
        InputError: a value does not fit its annotation.
    """

    epochs: Count = 30
    batch_size: Count = 32
    accumulate: Count = 1
    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 1e-2
    schedule: Literal["cosine", "step", "one_cycle", "constant"] = "one_cycle"
    warmup_epochs: CountOrZero = 0
    step_epochs: tuple[Count, ...] = ()
    step_factor: Positive = 0.1
    clip_norm: Positive | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    deterministic: bool = True
    selection: Literal["last", "best"] | Count = "last"
    metric: str = "accuracy"
    workers: Count = 1

    def __post_init__(self) -> None:
        check_fields(self, "training.")


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
    """The whole configuration of a run. Its result depends on this, the data and the seeds.

    Raises:
        InputError: a part is of another type, or a field of the model does not fit its annotation.
    """

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig

    def __post_init__(self) -> None:
        if mismatch := model_mismatch(self.model):
            raise InputError(f"model={type(self.model).__name__}: expected a model configuration; {mismatch}")
        check_fields(self, "")
        check_tree(self.model, "model")


def model_mismatch(value: object) -> str:
    """Return why a value is no model configuration, as text for a message; empty if it is one."""
    members = ("modalities", "build", "objective", "describe")
    return missing_attributes(value, members) or ("" if is_dataclass(value) else "it is not a dataclass")
