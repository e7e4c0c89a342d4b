"""What the PAN studies share: the base configuration, and published accuracies by protocol."""

from coablate_model.pan.config import PAN
from coablate_model.pan.settings import TokenSettings
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig

MODEL = PAN(tokens=TokenSettings(patch=8, width=96, depth=2, heads=3), width=0.25, label_smoothing=0.05)
BASE = RunConfig(
    model=MODEL,
    data=DataConfig(frames=8, size=64, framing="persons", skeleton_frames=24, crop_ratio=0.8, rotation=0.3),
    training=TrainingConfig(epochs=30, batch_size=16, optimiser="adamw", learning_rate=2e-3, schedule="one_cycle"),
)
"""Sized for some hundred clips on CPU cores. Public ancestors have ``--set model.tokens.patch=16 --set
model.tokens.width=384 --set model.tokens.depth=12 --set model.tokens.heads=6 --set model.width=1 --set data.size=224
--set data.skeleton_frames=64``."""

NONE = {"model.tokens.calibration": "none"}
ATTENTION = {"model.tokens.calibration": "attention"}
