"""Decomposition & Composition with few labels: fine-tuning after pre-training, against training from scratch.

The protocol is ours: 1 % and 10 % of the training clips, at least one a class, drawn anew for each run seed.
"""

from coablate_platform.study.contrasts import Contrast
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._dc import BASE

SHARES = {"1 %": 0.01, "10 %": 0.1, "100 %": 1.0}

STUDY = Study(
    name="dc_labels",
    title="Decomposition & Composition with few labels (fine-tuning)",
    base=apply_changes(BASE, {"model.encoder": "trained", "training.learning_rate": 1e-3, "data.crop_ratio": 0.8}),
    arms=tuple(
        Arm(name=f"{share} of labels, {start}", changes={"data.labels": value, **changes})
        for share, value in SHARES.items()
        for start, changes in (("from scratch", {"pretraining": None}), ("pre-trained", {}))
    ),
    reference="100 % of labels, pre-trained",
    contrasts=tuple(
        Contrast(
            name=f"pre-training with {share} of labels",
            plus={f"{share} of labels, pre-trained": 1},
            minus={f"{share} of labels, from scratch": 1},
        )
        for share in SHARES
    ),
    seeds=5,
)
