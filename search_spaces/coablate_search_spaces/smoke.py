"""Is everything in place? Two arms, one seed, two epochs at the smallest size; says nothing about the models."""

from dataclasses import replace

from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._cc_dfarm import BASE

STUDY = Study(
    name="smoke",
    title="Smoke test",
    base=replace(
        BASE,
        model=replace(BASE.model, width=0.125),
        data=replace(BASE.data, size=32, skeleton_frames=16),
        training=replace(BASE.training, epochs=2),
    ),
    arms=(
        Arm(name="MMTM", changes={"model.fusion": "mmtm"}),
        Arm(name="DSFM", changes={"model.fusion": "dsfm"}),
    ),
    reference="MMTM",
    seeds=1,
)
