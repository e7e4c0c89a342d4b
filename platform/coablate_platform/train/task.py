"""What a training is given: the run, and its clips."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from coablate_platform.study.config import Phase, RunConfig
from coablate_platform.study.model import ClipShape
from coablate_platform.train.provenance import Origin

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run.

    Args:
        run_id: identity of the run.
        config: the run's configuration.
        seed: (study seed, run seed).
        origin: the run's origin; None for a run that is not recorded.
        tested: whether the selected epoch's weights are tested. Trials of a search are not: whoever chooses among many
            by looking at the test split has no test split any more.
    """

    run_id: str
    config: RunConfig
    seed: tuple[int, int]
    origin: Origin | None = None
    tested: bool = True


class DataSplits(Protocol):
    """The clips of a run, divided into the splits ``train``, ``validation`` and ``test``.

    ``rank`` is the rank of a worker and ``world`` the number of workers. A batch is described at
    :class:`~coablate_platform.study.model.ModelConfig`.
    """

    @property
    def shape(self) -> ClipShape:
        """The sizes of the clips."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """Number of clips by split."""
        ...

    @property
    def names(self) -> list[str]:
        """Names of the clips by row in the store."""
        ...

    def train(self, epoch: int, phase: Phase, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the augmented batches of an epoch, counted from 0 over all phases.

        A worker gets an equal share of each batch.
        """
        ...

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the batches of a split without augmentation; a worker gets its share of the split's clips."""
        ...
