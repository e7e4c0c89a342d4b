"""What the studies of Decomposition & Composition share: the base configuration, and published accuracies."""

from coablate_model.dc.config import DC
from coablate_platform.study.config import Augmentation, DataConfig, Pretraining, RunConfig, TrainingConfig

MODEL = DC(width=128, feed_forward=256, projector_hidden=256, projector_out=256)
VIEWS = Augmentation(
    crop_ratio=0.1, crop_frames=16, rotation=0.785, tilt=0.0, scale=0.0, jitter=0.0, shear=0.5, corruption=0.5
)
"""Views: a part of the clip, turned about the vertical, sheared, and with corrupted joints."""
STILL = {
    "data.crop_ratio": 1.0,
    "data.rotation": 0.0,
    "data.tilt": 0.0,
    "data.scale": 0.0,
    "data.jitter": 0.0,
}
"""No augmentation, as in a linear probe."""
BASE = RunConfig(
    model=MODEL,
    data=DataConfig(skeleton_frames=32, crop_ratio=1.0, rotation=0.0, tilt=0.0, scale=0.0, jitter=0.0),
    pretraining=Pretraining(
        epochs=100,
        batch_size=64,
        optimiser="adam",
        learning_rate=1e-3,
        weight_decay=1e-5,
        schedule="cosine",
        warmup_epochs=5,
        augmentation=VIEWS,
    ),
    training=TrainingConfig(
        epochs=60, batch_size=64, optimiser="adam", learning_rate=5e-3, weight_decay=0.0, schedule="cosine"
    ),
)
"""Sized for some hundred clips on a CPU. The parent's sizes are ``--set model.width=1024 --set model.feed_forward=1024
--set model.projector_hidden=2048 --set model.projector_out=4096 --set data.skeleton_frames=64 --set
pretraining.epochs=451 --set pretraining.batch_size=512 --set pretraining.learning_rate=5e-4 --set training=umurl``."""


def published(cs: float, cv: float, csub: float, cset: float) -> dict[str, float]:
    """Return published accuracies in percent by protocol; the arguments are in the order of the paper's columns."""
    return {"ntu60/cs": cs, "ntu60/cv": cv, "ntu120/csub": csub, "ntu120/cset": cset}
