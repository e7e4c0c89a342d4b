"""What lanes ask of Ray and Ray Train, and what they make of the answers, with a Ray that only takes notes."""

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.train import ControllerError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from coablate_platform.lanes import pool
from coablate_platform.lanes.cluster import LaneSize
from coablate_platform.lanes.lane import LaneConfig, serve
from coablate_platform.lanes.pool import RayLanes
from coablate_platform.study.errors import LaneLostError, NoRoomLeftError
from coablate_platform.train.failures import MAX_LOSSES

SIZE = LaneSize(workers=2, cpus=1, gpus=0)
HERE = "a" * 56


@dataclass(eq=False)
class Future:
    """A call under way: what it was called with, and how it ended."""

    arguments: tuple[Any, ...] = ()
    done: bool = False
    error: Exception | None = None
    value: object = None

    def end(self, error: Exception | None = None) -> None:
        self.done, self.error = True, error


@dataclass(eq=False)
class Actor:
    """An actor of a class with these options: it carries nothing out."""

    kind: type | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    calls: list[Future] = field(default_factory=list)
    unfit: dict[int, dict[str, str]] = field(default_factory=dict)  # of a dispatcher
    failures: int = 1  # of a dispatcher

    def options(self, **settings: Any) -> "Actor":
        self.settings |= settings
        return self

    def remote(self) -> "Actor":
        return self

    def __getattr__(self, name: str) -> SimpleNamespace:
        if name == "unfit_nodes":
            return SimpleNamespace(remote=lambda lane: Future(done=True, value=self.unfit.get(lane, {})))
        if name == "count_failure":
            return SimpleNamespace(remote=lambda lane: Future(done=True, value=self.failures))
        return SimpleNamespace(remote=self._call)

    def _call(self, *arguments: Any) -> Future:
        self.calls.append(Future(arguments))
        return self.calls[-1]


class NotedRay:
    """Ray as far as lanes use it; a wait that would last fails."""

    train = ray.train

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.killed: list[Actor] = []
        self.waits: list[tuple[int, float | None]] = []

    def remote(self, **settings: Any) -> Any:
        def made(kind: type) -> Actor:
            self.actors.append(Actor(kind, settings))
            return self.actors[-1]

        return made

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address="127.0.0.1:6379", get_node_id=lambda: HERE)

    def wait(
        self, futures: list[Future], *, num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Future], list[Future]]:
        assert 0 < num_returns <= len(futures)
        done = [future for future in futures if future.done][:num_returns]
        assert timeout is not None or len(done) == num_returns, "waits for ever"
        self.waits.append((num_returns, timeout))
        return done, [future for future in futures if future not in done]

    def get(self, future: Future) -> object:
        assert future.done
        if future.error is not None:
            raise future.error
        return future.value

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor)


@pytest.fixture
def noted(monkeypatch) -> NotedRay:
    fake = NotedRay()
    monkeypatch.setattr(pool, "ray", fake)
    return fake


def config_of(dispatcher: Actor, lane: int = 0) -> LaneConfig:
    return LaneConfig(
        lane=lane, dispatcher=dispatcher, recorder=None, checkpoints="c", store="s", proof=None, threads=1
    )


def test_the_lanes_trainers_are_an_actor_beside_the_driver_that_comes_back(noted):
    RayLanes(config_of(Actor()), SIZE, "scratch", most=5)
    [trainers] = noted.actors
    placed = trainers.settings.pop("scheduling_strategy")
    assert (placed.node_id, placed.soft) == (HERE, False)
    assert trainers.settings == {
        "num_cpus": 0,
        "max_concurrency": 5,
        "runtime_env": {"env_vars": {"RAY_ADDRESS": "127.0.0.1:6379"}},
        "max_restarts": MAX_LOSSES,
        "max_task_retries": MAX_LOSSES,
    }


def test_lanes_are_fitted_under_their_numbers_and_each_end_is_reported_once(noted):
    dispatcher = Actor()
    lanes = RayLanes(config_of(dispatcher), SIZE, "scratch", most=5)
    assert list(lanes.ended()) == []
    for lane in (0, 1, 2):
        lanes.start(lane, {"bad": "why"})
    calls = noted.actors[0].calls
    assert [call.arguments for call in calls] == [
        (config_of(dispatcher, lane), SIZE, "scratch", ("bad",)) for lane in (0, 1, 2)
    ]
    assert list(lanes.ended()) == []
    lost = RuntimeError("the controller died")
    calls[0].end()
    calls[2].end(lost)
    assert dict(lanes.ended()) == {0: None, 2: lost}
    assert list(lanes.ended()) == []
    dispatcher.unfit[1] = {"node": "host b: no store"}
    calls[1].end()
    [(lane, error)] = lanes.ended()
    assert (lane, error.nodes) == (1, {"node": "host b: no store"})
    assert {patience for _, patience in noted.waits} == {0}


def controller(failure: Exception) -> Exception:
    """How Ray tells of an error of Train's controller."""
    error = ControllerError(failure)
    return ray.exceptions.RayTaskError("fit", "a traceback of many lines", error)


@pytest.mark.parametrize(
    ("failures", "error", "kind", "text"),
    [
        (1, controller(ValueError("a\nb")), ray.exceptions.RayTaskError, ""),
        (
            MAX_LOSSES,
            controller(ValueError("a\nb")),
            LaneLostError,
            "^lane 4 failed 3 times before it took a run, last with ValueError: a$",
        ),
        (
            MAX_LOSSES,
            controller(WorkerGroupStartupTimeoutError(2)),
            NoRoomLeftError,
            "^WorkerGroupStartupTimeoutError: .* for 2 workers",
        ),
    ],
)
def test_a_lane_is_lost_when_it_fails_again_and_again_but_not_for_want_of_room(noted, failures, error, kind, text):
    dispatcher = Actor(failures=failures)
    lanes = RayLanes(config_of(dispatcher), SIZE, "scratch", most=5)
    lanes.start(4, ())
    noted.actors[0].calls[0].end(error)
    [(lane, found)] = lanes.ended()
    assert (lane, type(found)) == (4, kind)
    assert re.search(text, str(found))
    given_away = [call.arguments for call in dispatcher.calls if call.arguments]
    assert given_away == ([] if kind is ray.exceptions.RayTaskError else [(4, 0.0)])


def test_without_its_dispatcher_a_study_ends(noted):
    dispatcher = Actor()
    lanes = RayLanes(config_of(dispatcher), SIZE, "scratch", most=5)
    dispatcher.calls[0].end(RuntimeError("its node is gone"))
    with pytest.raises(LaneLostError, match="the dispatcher died"):
        list(lanes.ended())


def test_the_end_of_all_lanes_is_waited_for_with_patience(noted):
    lanes = RayLanes(config_of(Actor()), SIZE, "scratch", most=5)
    lanes.wait(7.0)
    assert noted.waits == []
    lanes.start(0, ())
    lanes.start(1, ())
    lanes.wait(7.0)
    assert noted.waits == [(2, 7.0)]
    lanes.kill()
    assert noted.killed == noted.actors


@pytest.mark.parametrize(
    ("gpus", "without", "selector"), [(0, (), None), (0.5, ("a", "b"), {"ray.io/node-id": "!in(a,b)"})]
)
def test_a_lane_is_a_trainer_that_restarts_its_workers(monkeypatch, noted, gpus, without, selector):
    fitted = []
    monkeypatch.setattr(pool.TorchTrainer, "__init__", lambda trainer, *given, **named: fitted.append((given, named)))
    monkeypatch.setattr(pool.TorchTrainer, "fit", lambda trainer: fitted.append("fit"))
    dispatcher = Actor()
    config, size = config_of(dispatcher, lane=3), LaneSize(workers=2, cpus=1, gpus=gpus)
    pool._Trainers().fit(config, size, "/scratch", without)
    (given, named), end = fitted
    assert (given, end) == ((serve,), "fit")
    assert named["train_loop_config"] is config
    scaling, running = named["scaling_config"], named["run_config"]
    assert (scaling.num_workers, scaling.use_gpu) == (2, gpus > 0)
    assert scaling.resources_per_worker == size.claim
    assert scaling.label_selector == selector
    assert (running.storage_path, running.name) == ("/scratch", "lane-3")
    assert (running.failure_config.max_failures, running.failure_config.controller_failure_limit) == (-1, 0)
    [reporter] = running.callbacks
    reporter.after_exception(None, {0: RuntimeError("a worker died")})
    assert [call.arguments for call in dispatcher.calls] == [(3,)]
    dispatcher.failures = MAX_LOSSES
    with pytest.raises(RuntimeError, match="a worker died"):
        reporter.after_exception(None, {0: RuntimeError("a worker died")})
