"""Where a result comes from: a digest of the code that computes it, package versions, host and device."""

import functools
import hashlib
import importlib
import importlib.metadata
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from coablate_platform.study.config import RunConfig
from coablate_platform.study.identity import canonical

PACKAGES = ("torch", "numpy", "av", "pyarrow", "ray")
COMPUTING = ("coablate_platform.data", "coablate_platform.train", "coablate_platform.study.streams")
"""Whose code a result depends on: two rooms, and what every random stream comes from."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of a run, recorded by the driver. Workers may lack Coablate's installation and the model's sources.

    Args:
        config: the run's configuration in canonical form.
        model_code: see :func:`code_of`.
        version: Coablate's.
    """

    config: dict[str, Any]
    model_code: str
    version: str


def origin_of(config: RunConfig) -> Origin:
    """Return the origin of runs of a configuration that this process plans."""
    version = importlib.metadata.version("coablate")
    return Origin(config=canonical(config), model_code=code_of(config.model), version=version)


def context(origin: Origin, fingerprint: str, seed: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Return what a worker records about an attempt before it trains.

    Args:
        origin: the run's origin.
        fingerprint: fingerprint of the store.
        seed: (study seed, run seed).
        device: the device that trains.
    """
    return {
        "config": origin.config,
        "data": fingerprint,
        "seed": list(seed),
        **versions(origin),
        "host": platform.node(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def versions(origin: Origin) -> dict[str, Any]:
    """Return what runs of one table must have in common: ``code``, a digest, and ``packages`` with their versions."""
    packages = {"coablate": origin.version} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"code": f"{origin.model_code}-{computing_code()}", "packages": packages}


@functools.cache
def computing_code() -> str:
    """Return a digest (8 hex digits) of the rooms that compute, read once: a process runs what it has imported."""
    return _digest(*(importlib.import_module(name) for name in COMPUTING))


def code_of(model: object) -> str:
    """Return a digest (8 hex digits) of the package, or the lone file, that a model's configuration comes from."""
    module = sys.modules[type(model).__module__]
    return _digest(sys.modules[module.__name__.partition(".")[0]])


def _digest(*modules: ModuleType) -> str:
    hasher = hashlib.sha256()
    for module in modules:
        roots = [Path(path) for path in getattr(module, "__path__", [])] or [Path(str(module.__file__))]
        for root in roots:
            for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
                hasher.update(f"{file.relative_to(root.parent)}\n".encode() + file.read_bytes())
    return hasher.hexdigest()[:8]
