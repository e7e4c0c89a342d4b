"""What the studies of CC-DFARM share: the base at a CPU's size, and the columns in which the paper reports."""

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig

BASE = RunConfig(
    model=CCDFARM(width=0.25),
    data=DataConfig(frames=8, size=56, skeleton_frames=32),
    training=TrainingConfig(epochs=30, batch_size=32, optimiser="adamw", learning_rate=2e-3, schedule="one_cycle"),
)
"""Small enough for two CPU cores. The paper's size: ``--set model.width=1 --set data.frames=32 --set data.size=224
--set training=paper``."""


def published(cs: float, cv: float, csub: float, cset: float) -> dict[str, float]:
    """Return accuracies in percent by protocol, in the paper's column order."""
    return {"ntu60/cs": cs, "ntu60/cv": cv, "ntu120/csub": csub, "ntu120/cset": cset}
