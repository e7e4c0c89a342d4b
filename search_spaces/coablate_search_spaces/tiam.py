"""The two readings of TIAM, which CC-DFARM's text leaves open, against the model without it.

The paper's Table 5 has the model without TIAM (its third row) and with it (its last row), in whichever reading it uses.
"""

from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._cc_dfarm import BASE, MARGIN, published

STUDY = Study(
    name="tiam",
    title="TIAM over channels and positions, or over frames and joints",
    base=BASE,
    arms=(
        Arm(name="no TIAM", changes={"model.tiam": "none"}, published=published(91.3, 94.8, 89.6, 91.2)),
        Arm(name="channel", changes={"model.tiam": "channel"}, published=published(93.8, 97.2, 90.9, 92.3)),
        Arm(name="st", changes={"model.tiam": "st"}, published=published(93.8, 97.2, 90.9, 92.3)),
    ),
    reference="no TIAM",
    margin=MARGIN,
)
