"""The code of a clip's sides in several splits."""

import itertools

import pytest

from coablate_platform.data.sides import SIDES, code_of, codes_with


@pytest.mark.parametrize("splits", [1, 2, 3])
def test_every_combination_of_sides_has_a_code_of_its_own(splits):
    combinations = list(itertools.product(SIDES, repeat=splits))
    assert sorted(map(code_of, combinations)) == list(range(1, 3**splits + 1))
    for number, side in itertools.product(range(splits), SIDES):
        expected = {code_of(sides) for sides in combinations if sides[number] == side}
        assert codes_with(splits, number, side) == expected


def test_a_store_s_codes_keep_their_meaning():
    """Stores hold them: other codes would move clips to another side."""
    assert code_of(["train", "train", "train"]) == 1
    assert code_of(["validation", "train", "train"]) == 2
    assert code_of(["train", "test", "validation"]) == 16
    assert codes_with(2, 1, "test") == {7, 8, 9}
