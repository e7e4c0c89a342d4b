"""When lanes are started, without Ray."""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from coablate_platform.lanes.cluster import Cluster, LaneSize
from coablate_platform.lanes.pool import WorkerPool
from coablate_platform.study.errors import InputError, LaneLostError, NoRoomLeftError, UnfitNodesError
from coablate_platform.study.study import Resources
from coablate_search_spaces.smoke import STUDY


class Lanes:
    """Remembers what was started; a test puts into ``over`` what has ended."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.without: list[list[str]] = []
        self.over: list[tuple[int, Exception | None]] = []

    def start(self, lane: int, without: Collection[str]) -> None:
        self.started.append(lane)
        self.without.append(sorted(without))

    def ended(self) -> Iterable[tuple[int, Exception | None]]:
        over, self.over = self.over, []
        return over


LOST = RuntimeError("the controller died")


def pool_of(lanes: Lanes, capacity: Callable[[], int], most: int, **options: float) -> WorkerPool:
    """A pool on nodes that can all train."""
    return WorkerPool(lanes, lambda without: capacity(), most, pytest.fail, lambda lanes: None, **options)


def test_as_many_lanes_as_fit_and_never_more_than_runs():
    lanes = Lanes()
    pool_of(lanes, lambda: 3, most=8).reconcile()
    assert lanes.started == [0, 1, 2]
    lanes = Lanes()
    pool_of(lanes, lambda: 3, most=2).reconcile()
    assert lanes.started == [0, 1]


def test_nodes_that_join_bring_lanes_and_nodes_that_leave_take_none():
    lanes, capacity = Lanes(), iter([1, 3, 2, 4])
    pool = pool_of(lanes, lambda: next(capacity), most=8, every=0)
    for expected in ([0], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3]):
        pool.reconcile()
        assert lanes.started == expected
        assert pool.started == len(expected)


@pytest.mark.parametrize(("holds", "looks"), [(1, [0.0, 10.0, 20.5]), (2, [0.0])])
def test_the_capacity_is_asked_for_every_ten_seconds_while_lanes_are_missing(monkeypatch, holds, looks):
    asked, now = [], [0.0]
    monkeypatch.setattr("coablate_platform.lanes.pool.time", SimpleNamespace(monotonic=lambda: now[0]))
    pool = pool_of(Lanes(), lambda: asked.append(now[0]) or holds, most=2)
    for now[0] in (0.0, 5.0, 9.9, 10.0, 19.9, 20.5):
        pool.reconcile()
    assert asked == looks


def test_no_lane_is_added_when_one_found_nothing_left_to_take():
    lanes, capacity = Lanes(), iter([1, 3])
    pool = pool_of(lanes, lambda: next(capacity), most=8, every=0)
    pool.reconcile()
    lanes.over = [(0, None)]
    pool.reconcile()
    assert lanes.started == [0]


def test_a_lost_lane_is_started_again():
    lanes = Lanes()
    pool = pool_of(lanes, lambda: 2, most=8, every=0)
    pool.reconcile()
    lanes.over = [(1, LOST)]
    pool.reconcile()
    assert lanes.started == [0, 1, 1]


def test_a_lane_is_given_up_while_others_train_and_the_study_ends_with_the_last():
    lanes, said = Lanes(), []
    pool = WorkerPool(lanes, lambda without: 3, 3, said.append, lambda lanes: None, 0)
    pool.reconcile()
    lanes.over = [(1, LaneLostError("lane 1 failed 3 times"))]
    pool.reconcile()
    assert said == ["Not started again: lane 1 failed 3 times"]
    assert lanes.started == [0, 1, 2]
    lanes.over = [(0, None), (2, LaneLostError("lane 2 failed 3 times"))]
    with pytest.raises(LaneLostError, match="lane 2 failed 3 times"):
        pool.reconcile()


def test_a_lane_whose_nodes_are_gone_is_started_where_there_is_room():
    lanes, capacity, said = Lanes(), iter([2, 1, 2, 1]), []
    pool = WorkerPool(lanes, lambda without: next(capacity), 2, said.append, lambda lanes: None, 0)
    pool.reconcile()
    lanes.over = [(0, NoRoomLeftError("no worker was there in time"))]
    pool.reconcile()
    assert (lanes.started, pool.started) == ([0, 1], 1)
    pool.reconcile()
    assert (lanes.started, pool.started) == ([0, 1, 2], 2)
    lanes.over = [(1, NoRoomLeftError("no worker was there in time"))]
    pool.reconcile()
    assert said == ["No room for a lane now; its run goes to the others, and it starts again where there is"]


def test_nodes_that_cannot_train_are_said_once_and_not_used_again():
    lanes, said = Lanes(), []
    places = {"good": 1, "bad": 2}
    pool = WorkerPool(
        lanes, lambda without: sum(places[n] for n in set(places) - set(without)), 8, said.append, lambda lanes: None, 0
    )
    pool.reconcile()
    assert lanes.started == [0, 1, 2]
    lanes.over = [(1, UnfitNodesError({"bad": "host b: no store"})), (2, UnfitNodesError({"bad": "host b: no store"}))]
    pool.reconcile()
    assert said == ["Not used: host b: no store"]
    assert pool.started == 1
    places["late"] = 1
    pool.reconcile()
    assert lanes.started == [0, 1, 2, 3]
    assert lanes.without == [[], [], [], ["bad"]]
    lanes.over = [(0, LOST)]
    pool.reconcile()
    assert (lanes.started[-1], lanes.without[-1]) == (0, ["bad"])


def test_room_is_asked_for_until_lanes_find_no_run():
    lanes, asked = Lanes(), []
    pool = WorkerPool(lanes, lambda without: 2, 3, pytest.fail, asked.append, 0)
    assert asked == [3]
    pool.reconcile()
    lanes.over = [(1, None)]
    pool.reconcile()
    lanes.over = [(0, LOST)]
    pool.reconcile()
    assert asked == [3, 1]
    lanes.over = [(0, None)]
    pool.reconcile()
    assert asked == [3, 1, 0]


def test_a_study_ends_where_no_node_can_train():
    lanes = Lanes()
    pool = WorkerPool(lanes, lambda without: 2 - len(without), 8, lambda line: None, lambda lanes: None, 0)
    pool.reconcile()
    lanes.over = [(1, UnfitNodesError({"b": "host b: no store"}))]
    pool.reconcile()
    lanes.over = [(0, UnfitNodesError({"a": "host a: no clock"}))]
    with pytest.raises(InputError, match=r"^no node can train: host b: no store; host a: no clock$"):
        pool.reconcile()


@pytest.mark.parametrize(
    ("nodes", "size", "lanes"),
    [
        ([(2, 0)], LaneSize(workers=1, cpus=1, gpus=0), 2),
        ([(2, 0), (2, 0)], LaneSize(workers=1, cpus=4, gpus=0), 0),  # a worker stands on one node
        ([(2, 0), (2, 0)], LaneSize(workers=4, cpus=1, gpus=0), 1),  # a lane does not
        ([(8, 1), (4, 0)], LaneSize(workers=1, cpus=1, gpus=1), 1),
        ([(8, 1), (4, 0)], LaneSize(workers=1, cpus=1, gpus=0), 12),
        ([(8, 1)], LaneSize(workers=1, cpus=1, gpus=0.25), 4),
        ([], LaneSize(workers=1, cpus=1, gpus=0), 0),
    ],
)
def test_lanes_that_fit_a_cluster(nodes, size, lanes):
    assert Cluster(nodes=tuple(nodes)).lanes(size) == lanes


def none_asked() -> int:
    raise AssertionError("nobody asked how many runs share a GPU")


def test_a_lane_takes_a_gpu_where_there_is_one_and_the_study_says_nothing():
    assert Cluster(nodes=((2, 0),)).size_of(STUDY, none_asked) == LaneSize(workers=1, cpus=1, gpus=0)
    assert Cluster(nodes=((2, 0), (8, 2))).size_of(STUDY, none_asked) == LaneSize(workers=1, cpus=1, gpus=1)
    with pytest.raises(InputError, match=r"1 worker\(s\) with 1 CPU and 0 GPU each; the cluster's nodes have: 0.5 CPU"):
        Cluster(nodes=((0.5, 0),)).size_of(STUDY, none_asked)


def test_lanes_share_a_gpu_where_the_study_asks_for_what_fits():
    fit = replace(STUDY, resources=Resources(gpus="fit"))
    cluster = Cluster(nodes=((16, 2),))
    for runs in range(1, 33):
        size = Cluster(nodes=((64, 2),)).size_of(fit, lambda runs=runs: runs)
        assert round(size.gpus * 10_000) * runs <= 10_000  # Ray counts a GPU in so many parts
        assert Cluster(nodes=((64, 2),)).lanes(size) == 2 * runs
    assert Cluster(nodes=((4, 0),)).size_of(fit, none_asked).gpus == 0
    pair = fit.override({"training.workers": 2})
    assert cluster.size_of(pair, none_asked) == LaneSize(workers=2, cpus=1, gpus=1)  # one each: they cannot share
    with pytest.raises(InputError, match="2 workers cannot share GPUs"):
        cluster.size_of(replace(pair, resources=Resources(gpus=0.5)), none_asked)


@pytest.mark.parametrize(("cpus", "gpus"), [(0, None), (1, -1), (1, 1.5), (1, math.nan), (1, math.inf)])
def test_resources_that_nobody_can_have_are_refused(cpus, gpus):
    with pytest.raises(InputError, match="resources: "):
        Resources(cpus=cpus, gpus=gpus)


def test_what_a_user_may_say_of_gpus():
    assert (Resources.parse_gpus("fit"), Resources.parse_gpus("0.5"), Resources.parse_gpus("2")) == ("fit", 0.5, 2)
    with pytest.raises(InputError, match="--gpus half: expected a number, or 'fit'"):
        Resources.parse_gpus("half")
