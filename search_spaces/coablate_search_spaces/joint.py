"""Search over DSFM's placement with λ and r per site, TIAM and MFFM, and the learning rate together.

MMTM is not part of this search, as it has neither λ nor r; the study ``modules`` compares it with DSFM.
"""

from coablate_model.placement import DSFM1, DSFM2
from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.search import Search
from coablate_platform.study.space import Space
from coablate_search_spaces._cc_dfarm import BASE, STOPPING, placements, with_gate_fields

STUDY = Search(
    name="joint",
    title="Placement, λ, r, modules and learning rate of CC-DFARM",
    base=apply_changes(BASE, {"model.placement": (with_gate_fields(DSFM1), with_gate_fields(DSFM2))}),
    space=Space(
        {
            "model.placement": placements(
                3,
                channels=Choice(options=(16, 32, 64, 128, 256)),
                floor=Float(low=0.0, high=1.0),
                reduction=Choice(options=(2, 4, 8, 16)),
            ),
            "model.tiam": Choice(options=("none", "st", "channel")),
            "model.mffm": Choice(options=(False, True)),
            "training.learning_rate": Float(low=1e-4, high=2e-2, log=True),
        }
    ),
    trials=60,
    stopping=STOPPING,
)
