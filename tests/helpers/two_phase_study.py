"""A study of two small arms whose runs are pre-trained before they are trained."""

from dataclasses import replace

from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._dc import BASE

STUDY = Study(
    name="two_phases",
    title="Two arms that are pre-trained",
    base=apply_changes(
        replace(BASE, model=replace(BASE.model, width=8, feed_forward=8, projector_hidden=8, projector_out=8)),
        {
            "data.skeleton_frames": 8,
            "pretraining.epochs": 2,
            "pretraining.batch_size": 5,
            "training.epochs": 30,
            "training.batch_size": 5,
        },
    ),
    arms=(
        Arm(name="both", changes={}),
        Arm(name="no composition", changes={"model.composition": 0.0}),
    ),
    reference="both",
    seeds=1,
)
