"""Each stream alone against the fused network, with and without TIAM.

TIAM is part of the skeleton stream, but the skeleton arm is plain HCN. Only the fused arm without TIAM differs from the
two streams by fusion alone. Sources of the published values: the skeleton stream from HCN's own paper (Li et al. 2018),
the fused arms from CC-DFARM's Tables 5 and 6, whose third row is the one without TIAM. No value is given for I3D alone,
which is not in these tables.
"""

from coablate_platform.study.contrasts import Contrast
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._cc_dfarm import BASE, MARGIN, published

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
    margin=MARGIN,
    contrasts=(
        Contrast(name="fusion over the skeleton", plus={"fused, no TIAM": 1}, minus={"skeleton only": 1}),
        Contrast(name="fusion over the video", plus={"fused, no TIAM": 1}, minus={"video only": 1}),
        Contrast(name="TIAM in the fused network", plus={"fused": 1}, minus={"fused, no TIAM": 1}),
    ),
)
