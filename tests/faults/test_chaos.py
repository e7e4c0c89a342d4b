"""Whatever is killed, and whenever: the same table, no run lost, nothing done twice but what a kill cut off."""

import random

import pytest
from chaos import VICTIMS, check_agreement, course
from processes import tracked

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]
LANES = 2


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    return course(store.uri, tmp_path_factory.mktemp("undisturbed"), pause=0.05)


def check(store, folder, undisturbed, kills, seed):
    found = course(store.uri, folder, kills, seed)
    assert found.outcome == undisturbed.outcome
    steps_an_epoch = undisturbed.steps // 8  # two arms of four epochs
    assert found.steps <= undisturbed.steps + len(kills) * LANES * steps_an_epoch
    assert {run.info.status for run in tracked(folder / "out")} == {"FINISHED"}
    assert len(tracked(folder / "out")) == 1 + 2 + 2  # the study, its arms, its runs: none twice
    check_agreement(folder / "out")


def test_three_kills_in_a_row_change_nothing(store, tmp_path, undisturbed):
    check(store, tmp_path, undisturbed, ("worker", "driver", "follower"), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", *VICTIMS])
def test_two_kills_of_the_same_change_nothing(store, tmp_path, undisturbed, victim):
    check(store, tmp_path, undisturbed, (victim, victim), seed=1)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_five_kills_of_the_driver_change_nothing(store, tmp_path, undisturbed, seed):
    check(store, tmp_path, undisturbed, ("driver",) * 5, seed)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_five_kills_of_anything_change_nothing(store, tmp_path, undisturbed, seed):
    check(store, tmp_path, undisturbed, random.Random(seed).choices(["driver", *VICTIMS], k=5), seed)
