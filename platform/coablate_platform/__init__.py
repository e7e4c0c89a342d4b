"""Coablate: ablation studies and searches on Ray whose tables can be believed.

The rooms: ``study`` declares, ``data`` feeds, ``train`` computes, ``planning`` resolves, ``journal`` remembers,
``search`` chooses, ``lanes`` executes, ``results`` concludes, ``tracking`` and ``screen`` show, ``conformance`` proves.
``cli``, ``driver``, ``searching`` and ``session`` stand above. Imports point one way; ``tests/test_tree.py`` holds it.
"""

import os
import sys

if "ray" not in sys.modules:  # Ray reads these once, when it is imported; its servers inherit them
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
