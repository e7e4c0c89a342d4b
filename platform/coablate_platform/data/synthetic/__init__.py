"""The synthetic set: NTU files of figures that move, for which video and skeleton are both needed.

Twelve classes are (gesture, thing held, fingers). The skeleton has no things, and the video, whose figures have no
fingers, shows no tapping and no thumbs. So by construction, for balanced classes, the best that any method can reach is
the number of groups it can tell apart over twelve:

- video: cup, tablet, book (each with still and tapping fingers), raised hand (thumb up and down), handshake, parcel,
  push, hug: 8 groups, 8/12 = 66.7 %;
- skeleton: holding still (cup, tablet, book), holding and tapping (the same), thumb up, thumb down, hands that meet
  (with and without a parcel), push, hug: 7 groups, 7/12 = 58.3 %;
- both: 12/12.

The six classes of things held before the chest cross three things with two ways of the fingers, so that neither stream
alone is right more than every second or third time, and each adds what the other lacks.
"""

from coablate_platform.data.synthetic.motion import ACTIONS
from coablate_platform.data.synthetic.write import SyntheticConfig, generate

__all__ = ["ACTIONS", "SyntheticConfig", "generate"]
