"""Small data sets in published formats, for several tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io


def _write_clip(folder: Path, action: int, subject: int, frames: int = 6) -> Path:
    """Write one clip of UTD-MHAD; return its skeleton's path."""
    generator = np.random.default_rng(action * 10 + subject)
    depth = np.zeros((240, 320, frames), np.uint16)
    for moment in range(frames):
        depth[60:180, 100 + 4 * moment : 180 + 4 * moment, moment] = 2000 + 20 * moment
    skeleton = generator.normal([[[0.0], [0.0], [2.5]]], 0.3, (20, 3, frames))
    for name in ("Skeleton", "Depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / "Skeleton" / f"a{action}_s{subject}_t1_skeleton.mat"
    scipy.io.savemat(path, {"d_skel": skeleton})
    depth_path = folder / "Depth" / f"a{action}_s{subject}_t1_depth.mat"
    scipy.io.savemat(depth_path, {"d_depth": depth}, do_compression=True)
    return path


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    return _write_clip


@pytest.fixture
def genuine(tmp_path: Path) -> Path:
    """Six clips of UTD-MHAD: two actions of three subjects."""
    for subject in (1, 2, 7):
        for action in (1, 2):
            _write_clip(tmp_path / "utd", action, subject)
    return tmp_path / "utd"


@pytest.fixture(scope="module")
def cluster():
    """Ray, started once for all tests of a file."""
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, _system_config={"enable_metrics_collection": False}, **quiet)
    yield ray
    ray.shutdown()
