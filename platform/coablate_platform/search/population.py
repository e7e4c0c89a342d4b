"""Population-based training: generations of runs, of which the worst go on from the weights of better ones.

Source: Jaderberg et al., "Population Based Training of Neural Networks" (2017). Here in generations: every member
pauses after the same epochs, so that who is copied, and with it the whole course, follows from what is written down,
however many lanes there are and wherever the search was cut off.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coablate_platform.study.domains import Plain
from coablate_platform.study.search import Search
from coablate_platform.study.streams import stream

FACTORS = (0.8, 1.2)
"""By one of which a number is multiplied when it is varied."""
RESAMPLED = 0.25
"""How often a value is drawn anew instead."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trial of the population.

    Args:
        number: the trial's.
        born: the epoch after which it began; 0 for those that were drawn at the start.
        values: epoch -> what it reported, as far as its checkpoint reaches too.
        ended: whether it came to an end, one way or another.
    """

    number: int
    born: int
    values: Mapping[int, float]
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What happens after an epoch that all members have reached.

    Args:
        epoch: which.
        parents: trials from whose weights new ones go on, one a new trial.
        replaced: trials that are given up.
    """

    epoch: int
    parents: tuple[int, ...]
    replaced: tuple[int, ...]


class Population:
    """When members pause, who is replaced, and by what.

    Args:
        search: ``stopping.grace`` is the number of epochs between two turns; one in ``stopping.reduction`` is replaced.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._every, self._one_in = search.stopping.grace, search.stopping.reduction
        last = search.base.training.epochs - 1
        self.last_turn = last - last % self._every

    def pauses(self, epoch: int) -> bool:
        """Say whether a member waits for the others after this epoch."""
        return 0 < epoch <= self.last_turn and epoch % self._every == 0

    def turn_before(self, epoch: int) -> int:
        """Return the last epoch up to this one after which members wait for each other; 0 before the first."""
        epoch = min(epoch, self.last_turn)
        return epoch - epoch % self._every

    def turns(self, members: Sequence[Member]) -> Iterator[Turn]:
        """Yield the turns that are due or have been, in order. The same members give the same turns.

        Args:
            members: all trials so far; those that others replaced are among them.
        """
        size = self._search.trials
        if sum(member.born == 0 for member in members) < size:
            return
        for epoch in range(self._every, self.last_turn + 1, self._every):
            there = [member for member in members if member.born < epoch]
            reached = [member for member in there if epoch in member.values]
            if not reached or not all(member.ended for member in there if member not in reached):
                return
            ranked = [m.number for m in sorted(reached, key=lambda m: (-m.values[epoch], m.number))]
            count = max(len(ranked) // self._one_in, 1)
            replaced = ranked[max(len(ranked) - count, 1) :]  # never the only one
            born = size - len(ranked) + len(replaced)  # members that failed are replaced too
            places = stream(self._search.seed, "population", epoch).integers(count, size=born)
            yield Turn(epoch=epoch, parents=tuple(ranked[p] for p in places.tolist()), replaced=tuple(replaced))

    def vary(self, parameters: Mapping[str, Plain], epoch: int, slot: int) -> "PerturbedTrial":
        """Return what suggests the values of the new trial in a slot of a turn, from its parent's."""
        return PerturbedTrial(parameters, stream(self._search.seed, "population", epoch, slot))


class PerturbedTrial:
    """Suggests values near known ones, or anew; what is not known is drawn. ``asked`` keeps what was suggested."""

    def __init__(self, parameters: Mapping[str, Plain], generator: np.random.Generator) -> None:
        self._parameters, self._generator = parameters, generator
        self.asked: dict[str, Plain] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if (known := self._kept(name)) is None:
            ends = np.log([low, high]) if log else [low, high]
            drawn = float(self._generator.uniform(*ends))
            value = float(np.exp(drawn)) if log else drawn
        else:
            value = float(known) * self._factor()
        return float(self._keep(name, min(max(value, low), high)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if (known := self._kept(name)) is None:
            value = int(self._generator.integers(low, high + 1))
        else:
            factor = self._factor()
            step = max(round(abs(factor - 1) * int(known)), 1)  # a small number moves too
            value = int(known) + (step if factor > 1 else -step)
        return int(self._keep(name, min(max(value, low), high)))

    def suggest_categorical(self, name: str, choices: Sequence[Plain]) -> Any:
        anew = self._generator.random() < RESAMPLED
        drawn = choices[int(self._generator.integers(len(choices)))]
        known = not anew and name in self._parameters and self._parameters[name] in choices
        return self._keep(name, self._parameters[name] if known else drawn)

    def _kept(self, name: str) -> Any:
        """Return a known number, unless there is none or it is to be drawn anew."""
        anew = self._generator.random() < RESAMPLED
        return None if anew else self._parameters.get(name)

    def _factor(self) -> float:
        return FACTORS[int(self._generator.integers(len(FACTORS)))]

    def _keep(self, name: str, value: Any) -> Any:
        self.asked[name] = value
        return value
