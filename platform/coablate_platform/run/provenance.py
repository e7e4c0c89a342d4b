"""Where a result comes from: a digest of the code that computes it, package versions, host and device."""

import hashlib
import importlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import torch

from coablate_platform.study.config import RunConfig
from coablate_platform.study.identity import canonical

PACKAGES = ("coablate", "torch", "numpy", "av", "pyarrow", "ray")
COMPUTING = ("coablate_platform.data", "coablate_platform.run")  # rooms whose code a result depends on


def context(config: RunConfig, fingerprint: str, seed: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Return what is recorded beside a run's results."""
    return {
        "config": canonical(config),
        "data": fingerprint,
        "seed": list(seed),
        "code": code_digest(type(config.model)),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "host": platform.node(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def code_digest(model: type) -> str:
    """Return a digest (12 hex digits) of the sources of the model's package and of the rooms that compute."""
    hasher = hashlib.sha256()
    for name in sorted({*COMPUTING, model.__module__.partition(".")[0]}):
        module = importlib.import_module(name)
        roots = [Path(path) for path in getattr(module, "__path__", [])] or [Path(str(module.__file__))]
        for root in roots:
            for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
                hasher.update(f"{name}/{file.name}\n".encode() + file.read_bytes())
    return hasher.hexdigest()[:12]
