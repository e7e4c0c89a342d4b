"""Spaces: legal draws only, one encoding each, conditions, grids, and what a declaration may not say."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import optuna
import pytest
from ray import tune

from coablate_model.hcn import LAYERS
from coablate_model.placement import DSFM1, DSFM2, PAPER_PLACEMENT, RGB_SITES, Site, check_placement
from coablate_platform.study.domains import Choice, FixedTrial, Float, Int, Placement, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.space import Space

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


def _drawn(space: Space, trials: int, seed: int = 0) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found = []
    for _ in range(trials):
        trial = study.ask()
        found.append((space.suggest(trial), trial.params))
        study.tell(trial, 0.0)
    return found


@pytest.mark.parametrize("factors", SPACES.values(), ids=SPACES)
def test_every_draw_has_one_encoding(factors):
    space = Space(factors)
    seen: dict[str, Mapping[str, Any]] = {}
    for changes, parameters in _drawn(space, 200):
        assert space.encode(changes) == parameters
        assert space.decode(parameters) == changes
        assert seen.setdefault(repr(changes), parameters) == parameters


def test_placements_are_legal_and_all_can_be_drawn():
    every = Space({"placement": SITES}).grid(100_000)
    drawn = [Space({"placement": SITES}).decode(parameters)["placement"] for parameters in every]
    for sites in drawn:
        check_placement(sites)
        assert len(sites) <= 3
    pairs = [
        tuple(zip(ahead, behind, strict=True))
        for count in range(4)
        for ahead in combinations(RGB_SITES, count)
        for behind in combinations(LAYERS, count)
    ]
    assert len(set(drawn)) == len(drawn) == sum(2 ** len(pair) for pair in pairs)
    assert {tuple((site.rgb, site.skeleton) for site in sites) for sites in drawn} == set(pairs)
    assert PAPER_PLACEMENT in drawn


def test_at_least_two_sites_are_always_there():
    drawn = [changes["placement"] for changes, _ in _drawn(Space(SPACES["at least two"]), 300)]
    assert {len(sites) for sites in drawn} == {2, 3}
    for sites in drawn:
        check_placement(sites)


def test_a_space_is_fixed_where_every_draw_asks_the_same():
    fixed = {name for name, factors in SPACES.items() if Space(factors).is_fixed}
    assert fixed == {"float", "int", "choice", "named"}
    assert Space({"parts": Subset(of=("tiam", "dsfm"))}).is_fixed


def test_subsets_keep_their_size_and_order():
    drawn = {changes["parts"] for changes, _ in _drawn(Space(SPACES["subset"]), 200)}
    assert drawn == {("tiam",), ("dsfm",), ("mffm",), ("tiam", "dsfm"), ("tiam", "mffm"), ("dsfm", "mffm")}


def test_conditions_decide_what_exists():
    for changes, _ in _drawn(Space(SPACES["conditional"]), 300):
        assert ("floor" in changes) == (changes["fusion"] == "dsfm")
        assert ("ratio" in changes) == (changes["fusion"] == "mmtm")
        assert ("deep" in changes) == (changes.get("ratio") in (2, 3))


def test_a_range_is_covered_evenly_on_its_scale():
    rates = [np.log10(changes["rate"]) for changes, _ in _drawn(Space(SPACES["float"]), 600)]
    assert abs(np.mean(rates) + 2.5) < 0.15
    assert min(rates) < -3.9
    assert max(rates) > -1.1


def test_values_that_do_not_exist_with_the_others_are_not_encoded():
    space = Space(SPACES["conditional"])
    assert space.encode({"fusion": "mmtm", "floor": 0.5, "ratio": 4}) == {"fusion": "mmtm", "ratio": 4}


def test_what_is_conditional_on_what_does_not_exist_does_not_exist():
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


def test_a_grown_space_still_knows_old_trials():
    old = Space({"fusion": Choice(options=("dsfm",))}).encode({"fusion": "dsfm"})
    grown = Space({"fusion": Choice(options=("dsfm", "mmtm")), "rate": Float(low=0.1, high=1.0)})
    known = FixedTrial(old, otherwise=grown.encode({"fusion": "mmtm", "rate": 0.5}))
    assert grown.suggest(known) == {"fusion": "dsfm", "rate": 0.5}
    shrunk = Space({"fusion": Choice(options=("mmtm",))})
    with pytest.raises(InputError, match="'dsfm' is none of 'mmtm'"):
        shrunk.decode(old)


def test_grids_are_whole_and_keep_their_budget():
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
        (lambda: Space({"a": Float(low=0.0, high=1.0), "a.b": Float(low=0.0, high=1.0)}), "clash"),
        (
            lambda: Space({"fusion": Choice(options=(1, 2)), "floor": Float(low=0.0, high=1.0, when={"fuson": (1,)})}),
            "did you mean 'fusion'",
        ),
        (
            lambda: Space({"floor": Float(low=0.0, high=1.0, when={"fusion": (1,)}), "fusion": Choice(options=(1, 2))}),
            "declared after",
        ),
        (
            lambda: Space({"fusion": Choice(options=(1, 2)), "floor": Float(low=0.0, high=1.0, when={"fusion": (3,)})}),
            "3 is none of 1, 2",
        ),
    ],
)
def test_declarations_that_make_no_sense_are_refused(declare, message):
    with pytest.raises(InputError, match=message):
        declare()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placement": (DSFM2, DSFM1)}, "cannot be drawn"),
        ({"placement": (Site(rgb="Mixed_5b", skeleton="conv5", channels=7),)}, "7 is none of 64, 256"),
        ({"placment": ()}, "did you mean 'placement'"),
    ],
)
def test_what_a_space_does_not_hold_has_no_encoding(changes, message):
    with pytest.raises(InputError, match=message):
        Space({"placement": SITES}).encode(changes)
