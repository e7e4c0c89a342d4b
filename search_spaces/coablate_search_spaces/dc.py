"""Decomposition & Composition: what each adds to early fusion, beside its parent and beside late fusion.

All arms are pre-trained without labels; a linear class layer on the frozen encoder is then trained with them. Early
fusion alone is trained by the consistency of two fused views, which is our choice, and the next three arms keep it.
"""

from coablate_platform.study.contrasts import Contrast
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._dc import BASE, published

ALONE = {
    "model.consistency": 5.0,
    "model.decomposition": 0.0,
    "model.inter": 0.0,
    "model.variance": 0.0,
    "model.covariance": 0.0,
    "model.composition": 0.0,
}
DECOMPOSITION = {"model.decomposition": 5.0, "model.variance": 5.0, "model.covariance": 1.0}
COMPOSITION = {"model.composition": 1.0}
PARENT = {
    "model.consistency": 0.0,
    "model.granularities": ("whole",),
    "model.inter": 5.0,
    **DECOMPOSITION,
}

STUDY = Study(
    name="dc",
    title="Decomposition & Composition (linear probe)",
    base=apply_changes(BASE, ALONE),
    arms=(
        Arm(name="early fusion", changes={}),
        Arm(name="+decomposition", changes=DECOMPOSITION),
        Arm(name="+composition", changes=COMPOSITION),
        Arm(name="both", changes=DECOMPOSITION | COMPOSITION, published=published(85.8, 91.8, 77.5, 78.8)),
        Arm(name="UmURL", changes=PARENT, published=published(84.2, 90.9, 75.2, 76.3)),
        Arm(name="late fusion", changes=PARENT | {"model.fusion": "late"}),
    ),
    reference="early fusion",
    contrasts=(
        Contrast(name="decomposition", plus={"+decomposition": 1}, minus={"early fusion": 1}),
        Contrast(name="composition", plus={"+composition": 1}, minus={"early fusion": 1}),
        Contrast(name="both over UmURL", plus={"both": 1}, minus={"UmURL": 1}),
        Contrast(name="both over late fusion", plus={"both": 1}, minus={"late fusion": 1}),
    ),
)
