"""The decisions of population-based training, without runs: when members pause, who is replaced, how values change."""

from dataclasses import replace

import numpy as np
import pytest
from curves import POPULATION, population

from coablate_platform.search.population import Member, PerturbedTrial, Population


def member(number: int, value: float, born: int = 0, ended: bool = False, epoch: int = 6) -> Member:
    return Member(number=number, born=born, values={epoch: value}, ended=ended)


def test_the_worst_are_replaced_from_the_best():
    turn = next(Population(population()).generations([member(n, n / 10) for n in range(8)]))
    assert turn.epoch == 6
    assert set(turn.replaced) == {0, 1}
    assert len(turn.parents) == 2
    assert set(turn.parents) <= {6, 7}


def test_nothing_happens_before_all_have_come():
    members = [member(n, n / 10) for n in range(8)]
    assert not list(Population(population()).generations(members[:-1]))
    late = replace(members[3], values={5: 0.1})
    assert not list(Population(population()).generations([*members[:3], late, *members[4:]]))


def test_members_that_failed_are_replaced_too_and_the_last_one_is_kept():
    failed = [Member(number=n, born=0, values={}, ended=True) for n in range(7)]
    turn = next(Population(population()).generations([*failed, member(7, 0.5)]))
    assert turn.replaced == ()
    assert turn.parents == (7,) * 7


def test_where_all_failed_there_is_no_turn():
    failed = [Member(number=n, born=0, values={}, ended=True) for n in range(8)]
    assert not list(Population(population()).generations(failed))


@pytest.mark.parametrize(("grace", "pauses"), [(6, [6, 12, 18, 24]), (9, [9, 18]), (14, [14]), (26, [26])])
def test_members_wait_for_each_other_at_each_multiple_of_grace_but_the_end(grace, pauses):
    """Of 27 epochs."""
    waits = Population(population(stopping=replace(POPULATION, grace=grace)))
    assert [epoch for epoch in range(40) if waits.pauses(epoch)] == pauses
    for epoch in range(28):
        assert waits.pause_before(epoch) == max([pause for pause in pauses if pause <= epoch], default=0)


def test_every_pause_that_all_have_come_to_is_a_generation():
    def lived(number: int, born: int, until: int) -> Member:
        values = dict.fromkeys(range(born + 1, until + 1), 0.5)
        return Member(number=number, born=born, values=values, ended=True)

    members = [lived(number, 0, 27) for number in range(6)] + [lived(number, 0, 6) for number in (6, 7)]
    for first, born, until in ((8, 6, 12), (10, 12, 18), (12, 18, 24), (14, 24, 27)):
        members += [lived(first, born, until), lived(first + 1, born, until)]
    generations = list(Population(population()).generations(members))
    assert [generation.epoch for generation in generations] == [6, 12, 18, 24]
    assert [generation.replaced for generation in generations] == [(6, 7), (8, 9), (10, 11), (12, 13)]
    assert all(set(generation.parents) <= {0, 1} for generation in generations)
    assert [len(generation.parents) for generation in generations] == [2] * 4


def test_of_equal_members_the_earlier_is_the_better_whatever_their_order():
    members = [member(n, 0.5) for n in range(8)]
    found = [list(Population(population()).generations(order)) for order in (members, members[::-1])]
    assert found[0] == found[1]
    assert found[0][0].replaced == (6, 7)


class Dice:
    """A generator that rolls what a test says, and remembers what it was asked for."""

    def __init__(self, random: float, integer: int = 0, real: float = 0.0) -> None:
        self._random, self._integer, self._real = random, integer, real
        self.between: list[tuple[float, ...]] = []

    def random(self) -> float:
        return self._random

    def integers(self, *ends: int) -> int:
        self.between.append(ends)
        return self._integer

    def uniform(self, *ends: float) -> float:
        self.between.append(ends)
        return self._real


KEEPS, RESAMPLES = 0.25, 0.2499
SMALLER, LARGER = 0, 1
KNOWN = {"rate": 0.1, "size": 10, "one": 1, "zero": 0, "kind": "a"}


@pytest.mark.parametrize(
    ("name", "direction", "value"),
    [
        ("rate", SMALLER, 0.08),
        ("rate", LARGER, 0.12),
        ("size", SMALLER, 8),
        ("size", LARGER, 12),
        ("one", SMALLER, 0),  # a small number moves too
        ("one", LARGER, 2),
        ("zero", LARGER, 1),
        ("zero", SMALLER, 0),  # the range ends
    ],
)
def test_a_parent_s_number_becomes_a_fifth_smaller_or_larger(name, direction, value):
    trial = PerturbedTrial(KNOWN, Dice(KEEPS, direction))
    suggested = trial.suggest_float(name, 0, 1, log=True) if name == "rate" else trial.suggest_int(name, 0, 40)
    assert suggested == pytest.approx(value)
    assert type(suggested) is (float if name == "rate" else int)
    assert trial.params == {name: suggested}


def test_a_perturbed_number_stays_in_its_range():
    smaller, larger = (PerturbedTrial(KNOWN, Dice(KEEPS, direction)) for direction in (SMALLER, LARGER))
    assert (smaller.suggest_float("rate", 0.09, 0.11), larger.suggest_float("rate", 0.09, 0.11)) == (0.09, 0.11)
    assert (smaller.suggest_int("size", 9, 11), larger.suggest_int("size", 9, 11)) == (9, 11)


@pytest.mark.parametrize(("name", "random"), [("rate", RESAMPLES), ("new", KEEPS)])
def test_a_number_is_resampled_from_its_whole_range_now_and_then_and_where_the_parent_has_none(name, random):
    dice = Dice(random, integer=7, real=-1.5)
    trial = PerturbedTrial(KNOWN, dice)
    assert trial.suggest_float(name, -2.0, 2.0) == -1.5
    assert trial.suggest_float(name, 1e-3, 1.0, log=True) == pytest.approx(np.exp(-1.5))
    assert trial.suggest_int(name, 2, 40) == 7
    assert dice.between == [(-2.0, 2.0), pytest.approx((np.log(1e-3), 0.0)), (2, 41)]


@pytest.mark.parametrize(
    ("name", "random", "choices", "value"),
    [
        ("kind", KEEPS, ("a", "b"), "a"),
        ("kind", RESAMPLES, ("a", "b"), "b"),
        ("kind", KEEPS, ("b", "c"), "c"),  # the parent's is gone
        ("new", KEEPS, ("a", "b"), "b"),
    ],
)
def test_a_choice_is_the_parent_s_unless_it_is_resampled(name, random, choices, value):
    dice = Dice(random, integer=1)
    trial = PerturbedTrial(KNOWN, dice)
    assert trial.suggest_categorical(name, choices) == value
    assert trial.params == {name: value}
    assert dice.between == [(2,)]
