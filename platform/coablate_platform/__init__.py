"""Coablate: ablation studies and searches that can be believed, on Ray.

The rooms, in the order in which a study flows: ``study`` declares, ``data`` feeds, ``run`` executes,
``results`` concludes. Imports point only back along this line; ``cli`` stands above them all.
"""

import os
import sys

if "ray" not in sys.modules:  # Ray reads these once, when it is imported; its servers inherit them
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
