"""Search spaces: valid values only, one encoding for each, conditions, grids, and declarations that are refused."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import optuna
import pytest
from ray import tune

from coablate_model.hcn import LAYERS
from coablate_model.placement import DSFM1, DSFM2, PAPER_PLACEMENT, RGB_SITES, Site, check_placement
from coablate_platform.study.domains import Choice, Float, Int, Placement, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.space import Space
from coablate_platform.study.suggesters import FixedTrial

SITES = Placement(
    site=Site, streams={"rgb": RGB_SITES, "skeleton": LAYERS}, fields={"channels": Choice(options=(64, 256))}, most=3
)
SPACES = {
    "float": {"rate": Float(low=1e-4, high=1e-1, log=True)},
    "int": {"ratio": Int(low=1, high=8)},
    "choice": {"fusion": Choice(options=("dsfm", "mmtm", None, True, 3))},
    "named": {"placement": Choice(options={"paper": PAPER_PLACEMENT, "none": ()})},
    "subset": {"parts": Subset(of=("tiam", "dsfm", "mffm"), least=1, most=2)},
    "placement": {"placement": SITES},
    "at least two": {
        "placement": Placement(
            site=Site, streams=SITES.streams, fields={"channels": Int(low=8, high=64)}, least=2, most=3
        )
    },
    "conditional": {
        "fusion": Choice(options=("dsfm", "mmtm")),
        "floor": Float(low=0.0, high=1.0, when={"fusion": ("dsfm",)}),
        "ratio": Int(low=2, high=8, when={"fusion": ("mmtm",)}),
        "deep": Choice(options=(1, 2), when={"ratio": (2, 3), "fusion": ("mmtm",)}),
    },
}


def _suggested(space: Space, trials: int, seed: int = 0) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    suggested = []
    for _ in range(trials):
        trial = study.ask()
        suggested.append((space.suggest(trial), trial.params))
        study.tell(trial, 0.0)
    return suggested


@pytest.mark.parametrize("factors", SPACES.values(), ids=SPACES)
def test_every_suggested_value_has_one_encoding(factors):
    space = Space(factors)
    seen: dict[str, Mapping[str, Any]] = {}
    for changes, parameters in _suggested(space, 200):
        assert space.encode(changes) == parameters
        assert space.decode(parameters) == changes
        assert seen.setdefault(repr(changes), parameters) == parameters


def test_all_valid_placements_and_no_others_can_be_suggested():
    grid = Space({"placement": SITES}).grid(100_000)
    suggested = [Space({"placement": SITES}).decode(parameters)["placement"] for parameters in grid]
    for sites in suggested:
        check_placement(sites)
        assert len(sites) <= 3
    pairs = [
        tuple(zip(ahead, behind, strict=True))
        for count in range(4)
        for ahead in combinations(RGB_SITES, count)
        for behind in combinations(LAYERS, count)
    ]
    assert len(set(suggested)) == len(suggested) == sum(2 ** len(pair) for pair in pairs)
    assert {tuple((site.rgb, site.skeleton) for site in sites) for sites in suggested} == set(pairs)
    assert PAPER_PLACEMENT in suggested


def test_a_placement_has_at_least_its_smallest_number_of_sites():
    suggested = [changes["placement"] for changes, _ in _suggested(Space(SPACES["at least two"]), 300)]
    assert {len(sites) for sites in suggested} == {2, 3}
    for sites in suggested:
        check_placement(sites)


def test_a_space_is_static_where_every_trial_has_the_same_parameters():
    static = {name for name, factors in SPACES.items() if Space(factors).is_static}
    assert static == {"float", "int", "choice", "named"}
    assert Space({"parts": Subset(of=("tiam", "dsfm"))}).is_static


def test_subsets_respect_their_size_and_keep_the_order():
    suggested = {changes["parts"] for changes, _ in _suggested(Space(SPACES["subset"]), 200)}
    assert suggested == {("tiam",), ("dsfm",), ("mffm",), ("tiam", "dsfm"), ("tiam", "mffm"), ("dsfm", "mffm")}


def test_a_factor_exists_only_where_its_condition_holds():
    for changes, _ in _suggested(Space(SPACES["conditional"]), 300):
        assert ("floor" in changes) == (changes["fusion"] == "dsfm")
        assert ("ratio" in changes) == (changes["fusion"] == "mmtm")
        assert ("deep" in changes) == (changes.get("ratio") in (2, 3))


def test_a_logarithmic_range_is_sampled_evenly_on_its_scale():
    rates = [np.log10(changes["rate"]) for changes, _ in _suggested(Space(SPACES["float"]), 600)]
    assert abs(np.mean(rates) + 2.5) < 0.15
    assert min(rates) < -3.9
    assert max(rates) > -1.1


def test_a_value_whose_condition_does_not_hold_is_not_encoded():
    space = Space(SPACES["conditional"])
    assert space.encode({"fusion": "mmtm", "floor": 0.5, "ratio": 4}) == {"fusion": "mmtm", "ratio": 4}


def test_a_condition_on_a_factor_that_does_not_exist_does_not_hold():
    space = Space(
        {
            "fusion": Choice(options=("dsfm", "mmtm")),
            "tiam": Choice(options=("none", "st"), when={"fusion": ("mmtm",)}),
            "floor": Float(low=0.0, high=1.0, when={"tiam": ("st",)}),
        }
    )
    for fusion, parameters in (("dsfm", {"fusion"}), ("mmtm", {"fusion", "tiam", "floor"})):
        encoded = space.encode({"fusion": fusion, "tiam": "st", "floor": 0.5})
        assert encoded.keys() == parameters
        assert space.encode(space.decode(encoded)) == encoded


def test_old_trials_stay_valid_where_a_space_is_extended():
    old = Space({"fusion": Choice(options=("dsfm",))}).encode({"fusion": "dsfm"})
    extended = Space({"fusion": Choice(options=("dsfm", "mmtm")), "rate": Float(low=0.1, high=1.0)})
    trial = FixedTrial(old, otherwise=extended.encode({"fusion": "mmtm", "rate": 0.5}))
    assert extended.suggest(trial) == {"fusion": "dsfm", "rate": 0.5}
    narrowed = Space({"fusion": Choice(options=("mmtm",))})
    with pytest.raises(InputError, match="'dsfm' is not one of 'mmtm'"):
        narrowed.decode(old)


def test_a_grid_has_all_points_unless_they_are_too_many():
    assert (
        len(Space(SPACES["conditional"] | {"floor": Choice(options=(0.1, 0.2), when={"fusion": ("dsfm",)})}).grid(99))
        == 11
    )
    with pytest.raises(InputError, match="more than the 10 configurations"):
        Space({"placement": SITES}).grid(10)
    with pytest.raises(InputError, match="rate is a range of real numbers"):
        Space(SPACES["float"]).grid(10)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Space({}), "no factors"),
        (lambda: Float(low=1.0, high=1.0), "low end must be below"),
        (lambda: Int(low=3, high=2), "low end must be below"),
        (lambda: Float(low=0.0, high=1.0, log=True), "logarithmic"),
        (lambda: Choice(options=()), "no options"),
        (lambda: Choice(options=(1, 1)), "twice"),
        (lambda: Choice(options=(DSFM1, DSFM2)), "plain values"),
        (lambda: Choice(options=(tune.uniform(0, 1),)), "plain values"),
        (lambda: Choice(options={"a": tune.uniform(0, 1)}), "plain values"),
        (lambda: Subset(of=("a", "a")), "different names"),
        (lambda: Subset(of=("a", "b"), least=3), "cannot have 3"),
        (lambda: Placement(site=Site, streams={"rgb": RGB_SITES}, most=1), "two streams"),
        (lambda: Placement(site=Site, streams=SITES.streams, most=5), "0 to 5 sites"),
        (
            lambda: Placement(
                site=Site, streams=SITES.streams, most=1, fields={"channels": Int(low=1, high=2, when={"x": (1,)})}
            ),
            "cannot have a condition",
        ),
        (lambda: Space({"rate": tune.uniform(0, 1)}), r"expected Float, Int.*ray\.tune"),
        (lambda: Space({"model": {"rate": Float(low=0.1, high=1.0)}}), "expected Float, Int"),
        (lambda: Space({"a": Float(low=0.0, high=1.0), "a.b": Float(low=0.0, high=1.0)}), "overlap"),
        (
            lambda: Space({"fusion": Choice(options=(1, 2)), "floor": Float(low=0.0, high=1.0, when={"fuson": (1,)})}),
            "did you mean 'fusion'",
        ),
        (
            lambda: Space({"floor": Float(low=0.0, high=1.0, when={"fusion": (1,)}), "fusion": Choice(options=(1, 2))}),
            "must be declared before",
        ),
        (
            lambda: Space({"fusion": Choice(options=(1, 2)), "floor": Float(low=0.0, high=1.0, when={"fusion": (3,)})}),
            "3 is not one of 1, 2",
        ),
    ],
)
def test_an_invalid_declaration_is_refused(declare, message):
    with pytest.raises(InputError, match=message):
        declare()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placement": (DSFM2, DSFM1)}, "outside the domain: 0 to 3 sites"),
        ({"placement": (Site(rgb="Mixed_5b", skeleton="conv5", channels=7),)}, "7 is not one of 64, 256"),
        ({"placment": ()}, "did you mean 'placement'"),
    ],
)
def test_a_value_outside_the_space_has_no_encoding(changes, message):
    with pytest.raises(InputError, match=message):
        Space({"placement": SITES}).encode(changes)
