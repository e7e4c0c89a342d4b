"""A run's identity: the same for the same run, another for any change that could change the result."""

import dataclasses

import pytest

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.identity import canonical, run_id

BASE = RunConfig(model=CCDFARM(), data=DataConfig(protocol="utd/cs"), training=TrainingConfig())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Impostor(CCDFARM):
    """Another class with the same fields."""


def test_identity_does_not_depend_on_how_a_value_was_written():
    again = RunConfig(model=CCDFARM(width=1), data=DataConfig(protocol="utd/cs"), training=TrainingConfig())
    assert run_id(dataclasses.replace(again, model=CCDFARM(width=1.0)), "f", (0, 0)) == run_id(BASE, "f", (0, 0))


@pytest.mark.parametrize("part", ["model", "data", "training"])
def test_every_field_counts(part):
    known = run_id(BASE, "f", (0, 0))
    changes = {"model": {"floor": 0.25}, "data": {"flip": 0.25}, "training": {"workers": 2}}
    changed = dataclasses.replace(BASE, **{part: dataclasses.replace(getattr(BASE, part), **changes[part])})
    assert run_id(changed, "f", (0, 0)) != known


def test_data_seeds_and_the_model_class_count():
    ids = {
        run_id(BASE, "f", (0, 0)),
        run_id(BASE, "g", (0, 0)),
        run_id(BASE, "f", (1, 0)),
        run_id(BASE, "f", (0, 1)),
        run_id(dataclasses.replace(BASE, model=Impostor()), "f", (0, 0)),
    }
    assert len(ids) == 5


def test_identity_is_pinned():
    """Changing this on purpose means that no earlier run is found any more: say so in the changelog."""
    plain = RunConfig(model=Pinned(), data=DataConfig(protocol="utd/cs"), training=TrainingConfig())  # type: ignore[arg-type]
    assert canonical(plain)["model"] == {"x": 1, "kind": f"{__name__}.Pinned"}
    assert canonical(plain.training)["learning_rate"] == 0.002
    assert len(run_id(plain, "f", (0, 0))) == 64


@dataclasses.dataclass(frozen=True)
class Pinned:
    x: int = 1


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(TypeError, match="no canonical form"):
        canonical({"x": object()})
