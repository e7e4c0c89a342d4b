"""What all tests share: where the genuine data lies, and the helpers beside the tests."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "run"))  # clips.py, the in-memory set


@pytest.fixture(scope="session")
def genuine_data() -> Path:
    """The folder that COABLATE_DATA names; tests that need it are skipped, saying why, where it is unset."""
    if "COABLATE_DATA" not in os.environ:
        pytest.skip("COABLATE_DATA is not set: no genuine data on this machine")
    return Path(os.environ["COABLATE_DATA"])
