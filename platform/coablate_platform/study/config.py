"""The configuration of one run: model, data and training settings, as frozen dataclasses with checked types."""

from dataclasses import dataclass, fields, replace
from typing import Literal

from coablate_platform.study.errors import InputError
from coablate_platform.study.model import ModelConfig, Objective, PretrainingObjective, Pretrains, model_mismatch
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


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training samples differ from the clips.

    Args:
        crop_ratio: shortest time window of a training sample, as a fraction of the clip; 1 always takes the whole clip.
        crop_frames: fewest frames of the clip in a time window, where the clip has as many.
        spatial_crop: smallest side of a training sample's square crop, as a fraction of the short side of what the
            video shows; 1 switches cropping off.
        flip: probability that a training sample is mirrored, video and skeleton together; only for classes that do
            not distinguish left from right.
        colour: strength of brightness and contrast jitter (0 switches it off).
        rotation: largest rotation of the skeleton about the vertical axis, in radians.
        tilt: largest rotation of the skeleton about the x axis, in radians.
        scale: largest relative change of the skeleton's size.
        jitter: standard deviation of the Gaussian noise on joint positions, in metres.
        shear: probability that the skeleton is sheared: multiplied by a 3×3 matrix with ones on its diagonal, and
            elsewhere numbers from -1 to 1.
        corruption: probability that three fifths of the joints are corrupted in all frames: set to zero, or multiplied
            by a 3×3 matrix of numbers from -1 to 1.

    Raises:
        InputError: a value does not fit its annotation.
    """

    crop_ratio: Share = 0.5
    crop_frames: Count = 1
    spatial_crop: Share = 0.8
    flip: Probability = 0.0
    colour: NotNegative = 0.2
    rotation: NotNegative = 0.5
    tilt: NotNegative = 0.15
    scale: NotNegative = 0.15
    jitter: NotNegative = 0.005
    shear: Probability = 0.0
    corruption: Probability = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "augmentation.")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Augmentation):
    """How clips are divided into splits, sampled and augmented.

    Args:
        protocol: name of the protocol that divides the clips into training and test (``ntu60/cs``, ``utd/cs`` …);
            None: the store's default.
        validation: ``subjects`` validates on the training subjects that the protocol holds out; ``none`` trains on all
            of them, and no epoch can then be selected by validation.
        labels: share of the training clips whose labels are known, drawn by class and run seed: only these train in the
            last phase, and are the gallery of its retrieval. Pre-training takes all. At least one clip a class.
        frames: number of video frames per clip.
        size: height and width of a video frame in pixels.
        framing: what the video shows: ``frame``, the centre square of the frame, or ``persons``, the square around the
            joints of all persons.
        motion: give the model the differences of consecutive frames instead of the frames.
        skeleton_frames: number of frames that the skeleton is resampled to.
        centring: the frame whose centre joint is the origin: ``first`` uses the first frame in which it is tracked,
            for all frames; ``every`` uses each frame's own.
        pixel_jitter: standard deviation of Gaussian noise on the joints' pixels, as a fraction of the frame's side.
            Training, validation and test samples have it, as the joints of a poor pose estimator would.
        pixel_dropout: probability that a joint's pixel is unknown, in samples of all splits.
        pixels_of: ``clip``, or ``class``: the joints' pixels are those of another clip of the same class and split,
            a control that tells whether the joints of this very clip matter.

    Further settings are those of :class:`Augmentation`.

    Raises:
        InputError: a value does not fit its annotation.
    """

    protocol: str | None = None
    validation: Literal["subjects", "none"] = "subjects"
    labels: Share = 1.0
    frames: Count = 8
    size: Count = 56
    framing: Literal["frame", "persons"] = "frame"
    motion: bool = False
    skeleton_frames: Count = 32
    centring: Literal["first", "every"] = "first"
    pixel_jitter: NotNegative = 0.0
    pixel_dropout: Probability = 0.0
    pixels_of: Literal["clip", "class"] = "clip"

    def __post_init__(self) -> None:
        check_fields(self, "data.")


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How the parameters of a network are changed in one phase.

    Args:
        epochs: number of epochs.
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


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Optimisation):
    """How a network is trained. Further settings are those of :class:`Optimisation`.

    Args:
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

UMURL = TrainingConfig(
    epochs=150,
    batch_size=512,
    optimiser="sgd",
    learning_rate=0.03,
    weight_decay=0.0,
    schedule="step",
    step_epochs=(120, 140),
)
"""The linear probe of UmURL's public code."""

CTRGCN = TrainingConfig(
    epochs=65,
    batch_size=64,
    optimiser="sgd",
    learning_rate=0.1,
    weight_decay=4e-4,
    schedule="step",
    warmup_epochs=5,
    step_epochs=(35, 55),
)
"""CTR-GCN's public recipe for NTU RGB+D; its momentum is Nesterov's, ours is not."""

TRAINING_PRESETS = {"paper": PAPER, "msaf": MSAF, "umurl": UMURL, "ctrgcn": CTRGCN}


@dataclass(frozen=True, kw_only=True)
class Pretraining(Optimisation):
    """How a network is pre-trained, in a phase before it is trained. Settings are those of :class:`Optimisation`.

    Args:
        augmentation: how the views of this phase differ from the clips.

    Raises:
        InputError: a value does not fit its annotation.
    """

    augmentation: Augmentation = Augmentation()

    def __post_init__(self) -> None:
        check_fields(self, "pretraining.")


PRETRAINING = "pretraining"
"""Name of the phase; the names of its metrics begin with it."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of a run.

    Args:
        name: prefix of the phase's metrics; empty for the last phase, whose weights are tested.
        objective: what is minimised.
        training: how; the last phase's settings hold where a phase has none of its own.
        data: how samples are made.
        split: the clips that train: ``train``, or the part of it whose labels are known, ``labelled``.
        views: views of a clip in a training batch; 0: the clip itself, without an axis for views.
        begins: number of epochs before the phase.
        ends: number of epochs up to its end.
    """

    name: str
    objective: Objective | PretrainingObjective
    training: TrainingConfig
    data: DataConfig
    split: str
    views: int
    begins: int
    ends: int


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole configuration of a run. Its result depends on this, the data and the seeds.

    Args:
        model: the network and its objective.
        data: how clips become samples.
        training: how the network is trained, in the phase after which it is tested.
        pretraining: how it is pre-trained before; None does without that phase.

    Raises:
        InputError: a part is of another type, a field of the model does not fit its annotation, or the model cannot be
            pre-trained.
    """

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    pretraining: Pretraining | None = None

    def __post_init__(self) -> None:
        if mismatch := model_mismatch(self.model):
            raise InputError(f"model={type(self.model).__name__}: expected a model configuration; {mismatch}")
        check_fields(self, "")
        check_tree(self.model, "model")
        if self.pretraining is not None and not isinstance(self.model, Pretrains):
            raise InputError(f"pretraining: {type(self.model).__name__} has no pretraining_objective()")

    @property
    def epochs(self) -> int:
        """Number of epochs of all phases, the full budget of a run."""
        return self.training.epochs + (self.pretraining.epochs if self.pretraining else 0)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the run, in their order."""
        first, before = self.pretraining, self.epochs - self.training.epochs
        last = Phase(
            name="",
            objective=self.model.objective(),
            training=self.training,
            data=self.data,
            split="train" if self.data.labels == 1 else "labelled",
            views=0,
            begins=before,
            ends=self.epochs,
        )
        if first is None or not isinstance(self.model, Pretrains):
            return (last,)
        changed = {field.name: getattr(first, field.name) for field in fields(Optimisation)}
        augmented = {field.name: getattr(first.augmentation, field.name) for field in fields(Augmentation)}
        return (
            Phase(
                name=PRETRAINING,
                objective=self.model.pretraining_objective(),
                training=replace(self.training, selection="last", **changed),
                data=replace(self.data, **augmented),
                split="train",
                views=self.model.pretraining_views,
                begins=0,
                ends=before,
            ),
            last,
        )
