"""What happens to a lane that is lost as a whole, without Ray."""

import threading

import pytest

from coablate_platform.run.policy import MAX_LOSSES
from coablate_platform.run.tuner import _keep_lane


class Lane:
    """Fails so many times, then ends well; ``stopping`` says that the study is over before it fails."""

    def __init__(self, failures: int, stopping: threading.Event | None = None) -> None:
        self.failures, self.stopping, self.starts = failures, stopping, 0

    def __call__(self) -> None:
        self.starts += 1
        if self.stopping is not None:
            self.stopping.set()
        if self.starts <= self.failures:
            raise RuntimeError("the controller died")


def test_a_lost_lane_is_started_again():
    lane = Lane(failures=1)
    _keep_lane(0, lane, threading.Event())
    assert lane.starts == 2


def test_a_lane_that_falls_with_ray_is_left_alone(caplog):
    over = threading.Event()
    lane = Lane(failures=9, stopping=over)
    _keep_lane(0, lane, over)
    assert lane.starts == 1
    assert not caplog.records


def _keep_and_wait(lane: Lane) -> None:
    _keep_lane(0, lane, threading.Event())
    threading.Event().wait(5)  # the interrupt is delivered to the main thread


def test_a_lane_that_cannot_be_started_stops_the_study():
    lane = Lane(failures=9)
    with pytest.raises(KeyboardInterrupt):
        _keep_and_wait(lane)
    assert lane.starts == MAX_LOSSES
