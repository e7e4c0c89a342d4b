"""When lanes are started, without Ray."""

from collections.abc import Iterable

import pytest

from coablate_platform.run.keeper import Keeper
from coablate_platform.run.policy import MAX_LOSSES, LaneLostError


class Lanes:
    """Remembers what was started; a test puts into ``over`` what has ended."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.over: list[tuple[int, Exception | None]] = []

    def start(self, lane: int) -> None:
        self.started.append(lane)

    def ended(self) -> Iterable[tuple[int, Exception | None]]:
        over, self.over = self.over, []
        return over


LOST = RuntimeError("the controller died")


def test_as_many_lanes_as_fit_and_never_more_than_runs():
    lanes = Lanes()
    Keeper(lanes, lambda: 3, most=8).tend()
    assert lanes.started == [0, 1, 2]
    lanes = Lanes()
    Keeper(lanes, lambda: 3, most=2).tend()
    assert lanes.started == [0, 1]


def test_nodes_that_join_bring_lanes_and_nodes_that_leave_take_none():
    lanes, capacity = Lanes(), iter([1, 3, 2, 4])
    keeper = Keeper(lanes, lambda: next(capacity), most=8, every=0)
    for expected in ([0], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3]):
        keeper.tend()
        assert lanes.started == expected
        assert keeper.started == len(expected)


def test_the_capacity_is_not_asked_for_at_every_step():
    asked = []
    keeper = Keeper(Lanes(), lambda: asked.append(1) or 1, most=8)
    keeper.tend()
    keeper.tend()
    assert len(asked) == 1


def test_no_lane_is_added_when_one_found_nothing_left_to_take():
    lanes, capacity = Lanes(), iter([1, 3])
    keeper = Keeper(lanes, lambda: next(capacity), most=8, every=0)
    keeper.tend()
    lanes.over = [(0, None)]
    keeper.tend()
    assert lanes.started == [0]


def test_a_lost_lane_is_started_again():
    lanes = Lanes()
    keeper = Keeper(lanes, lambda: 2, most=8, every=0)
    keeper.tend()
    lanes.over = [(1, LOST)]
    keeper.tend()
    assert lanes.started == [0, 1, 1]


def test_a_lane_that_is_lost_too_often_stops_the_study():
    lanes = Lanes()
    keeper = Keeper(lanes, lambda: 1, most=8)
    keeper.tend()
    for _ in range(MAX_LOSSES - 1):
        lanes.over = [(0, LOST)]
        keeper.tend()
    lanes.over = [(0, LOST)]
    with pytest.raises(LaneLostError, match=f"lane 0 was lost {MAX_LOSSES} times, last with: the controller died"):
        keeper.tend()
    assert lanes.started == [0] * MAX_LOSSES
