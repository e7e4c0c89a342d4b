"""CC-DFARM Table 4: DSFM1 alone and DSFM2 alone against both. TIAM and MFFM are on in every arm."""

from coablate_model.placement import DSFM1, DSFM2
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._cc_dfarm import BASE, MARGIN, published

STUDY = Study(
    name="dsfm_count",
    title="CC-DFARM number of DSFM modules (Table 4)",
    base=BASE,
    arms=(
        Arm(name="DSFM1 only", changes={"model.placement": (DSFM1,)}, published=published(91.3, 95.4, 88.5, 89.2)),
        Arm(name="DSFM2 only", changes={"model.placement": (DSFM2,)}, published=published(90.8, 94.2, 87.3, 88.6)),
        Arm(name="both", changes={"model.placement": (DSFM1, DSFM2)}, published=published(93.8, 97.2, 90.9, 92.3)),
    ),
    reference="both",
    margin=MARGIN,
)
