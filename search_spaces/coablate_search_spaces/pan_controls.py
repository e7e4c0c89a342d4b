"""Does it matter that tokens are those at the joints? The token graph with joints, and with three controls.

The controls have as many tokens and the same graph: at random patches, on an even grid, and at the joints of another
clip of the same class. Without them, a gain of the token graph may be one of looking at the video at all.
"""

from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._pan import BASE, NONE

STUDY = Study(
    name="pan_controls",
    title="PAN's token graph: tokens at joints, and elsewhere",
    base=apply_changes(BASE, {"model.graphs": "tokens", **NONE}),
    arms=(
        Arm(name="joints", changes={}),
        Arm(name="random patches", changes={"model.tokens.places": "random"}),
        Arm(name="even grid", changes={"model.tokens.places": "grid"}),
        Arm(name="another clip's joints", changes={"data.pixels_of": "class"}),
    ),
    reference="joints",
)
