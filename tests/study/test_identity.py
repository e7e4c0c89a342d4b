"""The identity of a run changes with everything that can change its result, and with nothing else."""

import dataclasses

import pytest

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical, canonical_changes, run_id

BASE = RunConfig(model=CCDFARM(), data=DataConfig(protocol="utd/cs"), training=TrainingConfig())


@dataclasses.dataclass(frozen=True, kw_only=True)
class SameFields(CCDFARM):
    """Another class with the same fields as its base."""


def test_a_whole_number_and_a_float_of_one_value_give_one_identity():
    whole, real = (dataclasses.replace(BASE, model=CCDFARM(width=width, mmtm_ratio=2)) for width in (1, 1.0))
    assert run_id(whole, "f", (0, 0)) == run_id(real, "f", (0, 0))
    assert canonical(real)["model"]["mmtm_ratio"] == 2
    assert isinstance(canonical(real)["model"]["mmtm_ratio"], int)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wide:
    width: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deep:
    width: int = 3


class AnyModel:
    """What a configuration needs to count as a model."""

    modalities = ()
    build = objective = describe = lambda *_: None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded(AnyModel):
    """A model with fields that can hold several classes."""

    encoder: Wide | Deep = Wide()
    more: tuple[Wide | Deep, ...] = ()
    plain: Wide = Wide()


def test_a_change_of_a_whole_part_names_its_class():
    assert canonical_changes({"model": Deep(width=4), "model.width": 1, "training.metric": "top5"}) == {
        "model": {"width": 4, "kind": f"{__name__}.Deep"},
        "model.width": 1,
        "training.metric": "top5",
    }
    assert canonical_changes({"model.more": (Wide(),)}) == {"model.more": [{"width": 3}]}


def test_the_class_of_a_part_changes_the_identity():
    models = [Encoded(), Encoded(encoder=Deep()), Encoded(more=(Wide(),)), Encoded(more=(Deep(),))]
    runs = [RunConfig(model=model, data=DataConfig(), training=TrainingConfig()) for model in models]  # type: ignore[arg-type]
    assert len({run_id(run, "f", (0, 0)) for run in runs}) == 4
    assert canonical(runs[1])["model"]["encoder"] == {"width": 3, "kind": f"{__name__}.Deep"}
    assert canonical(runs[1])["model"]["plain"] == {"width": 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kinds(AnyModel):
    kind: str = "lstm"


def test_a_field_named_kind_is_refused_where_the_class_is_stored_under_kind():
    run = RunConfig(model=Kinds(), data=DataConfig(), training=TrainingConfig())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Kinds has a field named 'kind'"):
        run_id(run, "f", (0, 0))


@pytest.mark.parametrize("part", ["model", "data", "training"])
def test_a_changed_field_changes_the_identity(part):
    before = run_id(BASE, "f", (0, 0))
    changes = {"model": {"floor": 0.25}, "data": {"flip": 0.25}, "training": {"workers": 2}}
    changed = dataclasses.replace(BASE, **{part: dataclasses.replace(getattr(BASE, part), **changes[part])})
    assert run_id(changed, "f", (0, 0)) != before


def test_data_seeds_and_the_model_class_change_the_identity():
    ids = {
        run_id(BASE, "f", (0, 0)),
        run_id(BASE, "g", (0, 0)),
        run_id(BASE, "f", (1, 0)),
        run_id(BASE, "f", (0, 1)),
        run_id(dataclasses.replace(BASE, model=SameFields()), "f", (0, 0)),
    }
    assert len(ids) == 5


def test_the_canonical_form_stays_the_same():
    """A change of it means that no earlier run is found: the changelog must say so."""
    plain = RunConfig(model=Pinned(), data=DataConfig(protocol="utd/cs"), training=TrainingConfig())  # type: ignore[arg-type]
    assert canonical(plain)["model"] == {"x": 1, "kind": f"{__name__}.Pinned"}
    assert canonical(plain.training)["learning_rate"] == 0.002
    assert len(run_id(plain, "f", (0, 0))) == 64


@dataclasses.dataclass(frozen=True)
class Pinned(AnyModel):
    x: int = 1


def test_a_value_without_a_canonical_form_is_refused():
    with pytest.raises(TypeError, match="no canonical form"):
        canonical({"x": object()})
