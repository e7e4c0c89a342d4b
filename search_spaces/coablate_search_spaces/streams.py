"""Does fusion pay? Each stream alone against CC-DFARM, with TIAM and without.

TIAM works within the skeleton stream, which alone is plain HCN here: only without TIAM does the fused network differ
from its streams by fusion alone. Published for the skeleton stream: HCN's own paper (Li et al. 2018); I3D alone is not
in CC-DFARM's tables; without TIAM is the third row of its Tables 5 and 6.
"""

from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._cc_dfarm import BASE, published

STUDY = Study(
    name="streams",
    title="Single streams against their fusion",
    base=BASE,
    arms=(
        Arm(name="video only", changes={"model.streams": ("rgb",)}),
        Arm(
            name="skeleton only",
            changes={"model.streams": ("skeleton",), "model.tiam": "none"},
            published={"ntu60/cs": 86.5, "ntu60/cv": 91.1},
        ),
        Arm(name="fused, no TIAM", changes={"model.tiam": "none"}, published=published(91.3, 94.8, 89.6, 91.2)),
        Arm(name="fused", changes={}, published=published(93.8, 97.2, 90.9, 92.3)),
    ),
    reference="skeleton only",
)
