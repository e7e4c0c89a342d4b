"""The synthetic set: NTU files of moving figures, whose classes can only be told apart with both modalities.

A class is a gesture, a held object and a way to hold the fingers. The skeleton has no objects, and the figures in the
video have no fingers. Each modality therefore sees some of the twelve classes as one group. With balanced classes, no
method can reach more than the number of groups divided by twelve:

========  ======  =======  ===================================================================================
modality  groups  ceiling  the groups
========  ======  =======  ===================================================================================
video          8   66.7 %  cup, tablet, book (each with still or tapping fingers), raised hand (thumb up or
                           down), handshake, parcel, push, hug
skeleton       7   58.3 %  holding still (cup, tablet or book), holding and tapping (the same), thumb up, thumb
                           down, meeting hands (with or without a parcel), push, hug
both          12    100 %  each class
========  ======  =======  ===================================================================================

Six classes are the combinations of three objects, held in front of the chest, with still or tapping fingers. Among
these, the video alone is right in one of two clips at best, and the skeleton alone in one of three.
"""

from coablate_platform.data.synthetic.motion import ACTIONS
from coablate_platform.data.synthetic.write import SyntheticConfig, generate

__all__ = ["ACTIONS", "SyntheticConfig", "generate"]
