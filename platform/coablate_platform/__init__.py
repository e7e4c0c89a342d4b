"""Coablate: ablation studies and searches on Ray whose tables can be believed.

The rooms: ``study`` declares, ``data`` feeds, ``train`` computes, ``planning`` resolves, ``journal`` remembers,
``search`` chooses, ``lanes`` executes, ``results`` concludes, ``tracking`` and ``screen`` show, ``conformance`` proves.
``cli`` with its ``options``, ``driver``, ``searching`` and ``session`` stand above. Imports point one way;
``tests/test_tree.py`` holds it.
"""

import os
import secrets
import sys
from pathlib import Path


def _has_home() -> bool:
    """Return whether this user has a home folder in which Ray finds its token, or can keep one."""
    try:
        home = Path.home()
        return (home / ".ray" / "auth_token").is_file() or os.access(home, os.W_OK)
    except (RuntimeError, OSError):  # a user without an entry among the system's, as in many containers
        return False


# oneDNN (torch 2.13) ends the process in some dilated 3-D convolutions in bf16 where it uses AMX. It reads this once.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")  # the newest instructions before AMX
# Ray sets this while its threads run already, which read the environment: adding a variable then can end the process.
os.environ.setdefault("PYTHONBREAKPOINT", "")  # as if it were not set
if "ray" not in sys.modules:  # Ray reads these once, when it is imported; its servers inherit them
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not _has_home():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # for a Ray of this process alone
