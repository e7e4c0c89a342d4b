"""Phases for tests of what is trained or loaded in one."""

from coablate_platform.study.config import DataConfig, Phase, TrainingConfig


class _NoObjective:
    """Stands for an objective where only clips are loaded."""

    def loss(self, outputs, batch, step):
        raise NotImplementedError


def loading(batch_size: int, data: DataConfig, views: int = 0) -> Phase:
    """Return a phase for loading clips."""
    training = TrainingConfig(batch_size=batch_size)
    return Phase(
        name="", objective=_NoObjective(), training=training, data=data, split="train", views=views, begins=0, ends=30
    )
