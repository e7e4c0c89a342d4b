"""Smoke test of an installation: two arms, one seed, two epochs, a small network and small clips.

Its accuracies do not compare the models.
"""

from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._cc_dfarm import BASE

STUDY = Study(
    name="smoke",
    title="Smoke test",
    base=apply_changes(BASE, {"model.width": 0.125, "data.size": 32, "data.skeleton_frames": 16, "training.epochs": 2}),
    arms=(
        Arm(name="MMTM", changes={"model.fusion": "mmtm"}),
        Arm(name="DSFM", changes={"model.fusion": "dsfm"}),
    ),
    reference="MMTM",
    seeds=1,
)
