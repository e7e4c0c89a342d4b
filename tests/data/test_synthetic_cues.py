"""The cues of the synthetic set: which classes each modality can tell apart, by construction."""

from collections import Counter

import numpy as np
import pytest

from coablate_platform.data.synthetic import ACTIONS, SyntheticConfig
from coablate_platform.data.synthetic.figure import FINGERS, PARENTS, Build, two_bones
from coablate_platform.data.synthetic.motion import Action, Streams, Style, perform, view
from coablate_platform.data.synthetic.render import background, project, render, sample_look
from coablate_platform.data.synthetic.write import ClipKey, held_objects, make_clip

TIME = np.arange(24) / 30
SIZE = 64
BODY = [joint for joint in range(25) if joint not in FINGERS]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def play(action: Action, seed: int = 0) -> list[np.ndarray]:
    builds = [Build.sample(rng(seed)), Build.sample(rng(seed + 1))]
    streams = Streams(gesture=rng(seed + 2), fingers=rng(seed + 3))
    return view(perform(action, builds, Style.sample(rng(seed)), TIME, streams), 2, rng(seed + 4))


def shoot(action: Action, bodies: list[np.ndarray], seed: int = 0) -> np.ndarray:
    looks = [sample_look(rng(seed + 5 + n), rng(seed + 7 + n), 1.0) for n in range(len(bodies))]
    objects = held_objects(action, bodies, rng(seed + 9))
    return render(bodies, looks, objects, background(rng(seed + 10), SIZE, 1.0), rng(seed + 11))


def pairs(same: str, differ: str) -> list[tuple[Action, Action]]:
    """Return pairs of actions that are equal in gesture and ``same`` and different in ``differ``."""
    return [
        (first, second)
        for number, first in enumerate(ACTIONS)
        for second in ACTIONS[number + 1 :]
        if first.gesture == second.gesture
        and getattr(first, same) == getattr(second, same)
        and getattr(first, differ) != getattr(second, differ)
    ]


@pytest.mark.parametrize(("first", "second"), pairs("fingers", "held"), ids=lambda action: action.name)
def test_the_held_object_is_seen_only_by_the_video(first: Action, second: Action) -> None:
    one, two = play(first), play(second)
    for body, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(body, other)
    assert np.abs(shoot(first, one).astype(int) - shoot(second, two)).max() > 60


@pytest.mark.parametrize(("first", "second"), pairs("held", "fingers"), ids=lambda action: action.name)
def test_fingers_are_seen_only_by_the_skeleton(first: Action, second: Action) -> None:
    one, two = play(first), play(second)
    np.testing.assert_array_equal(shoot(first, one), shoot(second, two))
    np.testing.assert_array_equal(one[0][:, BODY], two[0][:, BODY])
    fingers = np.linalg.norm(one[0][:, FINGERS] - two[0][:, FINGERS], axis=-1)
    assert fingers.max() > 0.08


def test_ceilings_of_each_stream_are_those_in_the_documentation() -> None:
    video = Counter((action.gesture, action.held) for action in ACTIONS)
    skeleton = Counter((action.gesture, action.fingers) for action in ACTIONS)
    assert (len(video), len(skeleton), len(set(ACTIONS)), len(ACTIONS)) == (8, 7, 12, 12)


def test_bones_keep_their_length_and_limbs_reach_their_targets() -> None:
    for action in ACTIONS:
        for body in play(action):
            for joint in (5, 6, 9, 10, 13, 14, 17, 18):
                length = np.linalg.norm(body[:, joint] - body[:, PARENTS[joint]], axis=-1)
                np.testing.assert_allclose(length, length[0], atol=1e-9)
    middle, end = two_bones(np.zeros((1, 3)), np.array([[0.3, 0, 0]]), 0.25, 0.2, np.array([0, -1.0, 0]))
    np.testing.assert_allclose(end, [[0.3, 0, 0]], atol=1e-12)
    assert middle[0, 1] < 0


def test_joints_project_onto_the_figure() -> None:
    """Pixels that are equal in a black and in a white room belong to the figure; its joints must lie on them."""
    action = ACTIONS[6]
    bodies = play(action)
    look = [sample_look(rng(0), rng(1), 1.0)]
    black, white = (render(bodies, look, [], np.full((SIZE, SIZE, 3), v, np.float32), rng(2)) for v in (0.0, 1.0))
    figure = np.abs(black.astype(int) - white).max(axis=-1) < 40
    assert 0.05 < figure.mean() < 0.5
    pixels = project(bodies[0][:, BODY], SIZE).astype(int).clip(0, SIZE - 1)
    on = [figure[frame, y, x] for frame, places in enumerate(pixels) for x, y in places]
    assert np.mean(on) > 0.97


def test_written_colour_pixels_are_those_of_the_video() -> None:
    config = SyntheticConfig(size=SIZE, difficulty=0.0)
    text = make_clip(config, ClipKey(camera=2, performer=3, replication=1, action=7)).skeleton.split()
    joint = np.array(text[13:25], dtype=float)
    np.testing.assert_allclose(joint[5:7], project(joint[None, :3], SIZE)[0], rtol=1e-5)
    np.testing.assert_allclose(joint[3], 256 + 365.5 * joint[0] / joint[2], rtol=1e-5)
