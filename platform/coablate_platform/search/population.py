"""Population-based training: the worst runs of each generation continue from the weights of better ones.

All members pause after the same epochs. So who is copied, and the whole course of the search, follows from the log:
neither the number of lanes nor an interruption changes it.

Source: Jaderberg et al., "Population Based Training of Neural Networks" (2017); there members exploit each other
whenever they are ready, here in generations.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coablate_platform.journal.trials import TrialRecord
from coablate_platform.search.scheduler import Lineage, SearchScheduler, SearchSetup
from coablate_platform.study.errors import InputError
from coablate_platform.study.search import Search
from coablate_platform.study.streams import stream
from coablate_platform.study.suggesters import PlainValue
from coablate_platform.train.events import RunState

FACTORS = (0.8, 1.2)
"""A number is multiplied by one of these when it is perturbed."""
RESAMPLED = 0.25
"""How often a value is resampled instead."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trial of the population.

    Args:
        number: the trial's number.
        born: the epoch after which it began; 0 for the first generation.
        values: epoch -> metric, as far as its checkpoint reaches too.
        ended: whether it has ended, in whatever way.
    """

    number: int
    born: int
    values: Mapping[int, float]
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What happens after an epoch that all members have reached.

    Args:
        epoch: the epoch.
        parents: for each new trial, the trial whose weights it continues.
        replaced: trials that are stopped.
    """

    epoch: int
    parents: tuple[int, ...]
    replaced: tuple[int, ...]


class Population:
    """Decides when members pause, which are replaced, and by copies of which.

    Args:
        search: ``stopping.grace`` is the number of epochs from one generation to the next; of the members, one in
            ``stopping.reduction`` is replaced.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._every = search.stopping.grace_of(search.base.epochs)
        self._one_in = search.stopping.reduction
        last = search.base.epochs - 1
        self.last_pause = last - last % self._every

    def pauses(self, epoch: int) -> bool:
        """Return whether members wait for each other after this epoch."""
        return 0 < epoch <= self.last_pause and epoch % self._every == 0

    def pause_before(self, epoch: int) -> int:
        """Return the last epoch up to this one after which members wait for each other; 0 before the first."""
        epoch = min(epoch, self.last_pause)
        return epoch - epoch % self._every

    def generations(self, members: Sequence[Member]) -> Iterator[Generation]:
        """Yield the generations that are due or past, in order. The same members give the same generations.

        Args:
            members: all trials so far, with those that were replaced.
        """
        size = self._search.trials
        if sum(member.born == 0 for member in members) < size:
            return
        for epoch in range(self._every, self.last_pause + 1, self._every):
            there = [member for member in members if member.born < epoch]
            reached = [member for member in there if epoch in member.values]
            if not reached or not all(member.ended for member in there if member not in reached):
                return
            ranked = [m.number for m in sorted(reached, key=lambda m: (-m.values[epoch], m.number))]
            count = max(len(ranked) // self._one_in, 1)
            replaced = ranked[max(len(ranked) - count, 1) :]  # never the only one
            born = size - len(ranked) + len(replaced)  # members that failed are replaced too
            places = stream(self._search.seed, "population", epoch).integers(count, size=born)
            yield Generation(epoch=epoch, parents=tuple(ranked[p] for p in places.tolist()), replaced=tuple(replaced))

    def perturbed(self, parameters: Mapping[str, PlainValue], epoch: int, slot: int) -> "PerturbedTrial":
        """Return what suggests the parameters of the new trial in a slot of a generation, from its parent's."""
        return PerturbedTrial(parameters, stream(self._search.seed, "population", epoch, slot))


class PopulationScheduler(SearchScheduler):
    """Trains a population: members pause together, and the worst are replaced by perturbed copies of the best.

    | a member | its state |
    |---|---|
    | trains | in ``_waiting`` |
    | has reached the end of its generation before others | in ``_paused`` |
    | may train on | in ``_open_records`` |
    | was replaced, completed or failed | its record has an outcome |

    Raises:
        InputError: there can be no such storage for Optuna's study, or the file of a member is gone.
    """

    def __init__(self, setup: SearchSetup) -> None:
        super().__init__(setup)
        self._population = Population(setup.search)
        self._paused: list[TrialRecord] = []
        self._settled = 0  # the last epoch after which the population was renewed
        self._arrived = Counter(  # trial -> the last pause that it has come to, 0 before the first
            {
                record.number: self._population.pause_before(self._log.reached(record.run_id))
                for record in self._open_records
            }
        )
        if lost := set(range(self._next_number)) - self._records.keys():
            raise InputError(
                f"trial {min(lost)} of the population is gone from the journal; the search cannot go on without it"
            )
        self._settle()

    @property
    def exhausted(self) -> bool:
        """Whether no member is left to start or to continue. Runs may still train."""
        ended = all(record.outcome is not None for record in self._records.values())
        return super().exhausted and (ended or self._settled == self._population.last_pause)

    def _new_trial(self) -> TrialRecord:
        return self._suggest(origin={"epoch": 0, "slot": self._sampled})

    def _stops(self, number: int, epoch: int, value: float) -> bool:
        _, judged = self._optuna.judge(number, epoch, value)
        return self._population.pauses(judged)

    def _on_stop(self, number: int, epoch: int) -> None:
        self._arrived[number] = epoch
        self._paused.append(self._records[number])

    def _may_continue(self, stopped: bool) -> bool:
        return True

    def _may_reopen(self, record: TrialRecord) -> bool:
        """Return whether no later generation was created: it has replaced the failed member."""
        last = max(record.epoch, record.origin["epoch"])
        return all(other.origin["epoch"] <= last for other in self._records.values())

    def _lineage(self, origin: Mapping[str, int]) -> Lineage:
        parent = self._records.get(origin.get("parent", -1))
        return (self._setup.name, parent.run_id if parent else "", origin["epoch"], origin["slot"])

    def _settle(self) -> None:
        """Renew the population after every epoch that all members have reached, and let the others train on."""
        for generation in self._population.generations([self._member(record) for record in self.records]):
            there = {(record.origin["epoch"], record.origin["slot"]) for record in self.records}
            for slot, parent in enumerate(generation.parents):
                if (generation.epoch, slot) not in there:
                    self._fork(self._records[parent], generation.epoch, slot)
            for number in generation.replaced:
                if self._records[number].outcome is None:
                    self._end(number, RunState.STOPPED)
            self._settled = generation.epoch
        left = [r for r in self._open_records + self._paused if self._records[r.number].outcome is None]
        self._paused = [record for record in left if self._arrived[record.number] > self._settled]
        self._open_records = [record for record in left if record not in self._paused]

    def _fork(self, parent: TrialRecord, epoch: int, slot: int) -> None:
        """Start a trial that continues from ``parent``'s checkpoint with perturbed parameters."""
        perturbed = self._population.perturbed(parent.params, epoch, slot)
        self._search.space.suggest(perturbed)
        origin = {"epoch": epoch, "slot": slot, "parent": parent.number}
        self._open_records.append(self._write_new(perturbed.params, origin, sampler=""))

    def _member(self, record: TrialRecord) -> Member:
        """Return a trial as a member that has come as far as its checkpoint; its reports may be ahead of that."""
        ended = record.outcome is not None
        until = record.epoch if ended else self._arrived[record.number]
        values = self._values_of(record.run_id) if until else {}
        own = {epoch: value for epoch, value in values.items() if epoch <= until}
        return Member(number=record.number, born=record.origin["epoch"], values=own, ended=ended)


class PerturbedTrial:
    """PBT's explore step as an Optuna-like trial.

    Multiplies each value of the parent by 0.8 or 1.2, or resamples it (25 %); samples parameters that the parent lacks.

    Args:
        parameters: the parent's.
        generator: belongs to this trial alone.

    Attributes:
        params: what was suggested, by parameter.
    """

    def __init__(self, parameters: Mapping[str, PlainValue], generator: np.random.Generator) -> None:
        self._parameters, self._generator = parameters, generator
        self.params: dict[str, PlainValue] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if (known := self._kept(name)) is None:
            ends = np.log([low, high]) if log else [low, high]
            sampled = float(self._generator.uniform(*ends))
            value = float(np.exp(sampled)) if log else sampled
        else:
            value = known * self._factor()
        value = min(max(value, low), high)
        self.params[name] = value
        return value

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if (known := self._kept(name)) is None:
            value = int(self._generator.integers(low, high + 1))
        else:
            factor = self._factor()
            step = max(round(abs(factor - 1) * int(known)), 1)  # a small number moves too
            value = int(known) + (step if factor > 1 else -step)
        value = min(max(value, low), high)
        self.params[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[PlainValue]) -> PlainValue:
        resample = self._generator.random() < RESAMPLED
        value = choices[int(self._generator.integers(len(choices)))]
        if not resample and name in self._parameters and self._parameters[name] in choices:
            value = self._parameters[name]
        self.params[name] = value
        return value

    def _kept(self, name: str) -> float | None:
        """Return the parent's number, or None where there is none or it must be resampled."""
        resample = self._generator.random() < RESAMPLED
        known = self._parameters.get(name)
        return None if resample or known is None else float(known)

    def _factor(self) -> float:
        return FACTORS[int(self._generator.integers(len(FACTORS)))]
