"""Where a result comes from: digests of the code that computes it, part by part, package versions, host and device."""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from coablate_platform.study import source
from coablate_platform.study.config import ModelConfig, RunConfig
from coablate_platform.study.identity import canonical

PACKAGES = ("torch", "numpy", "av", "pyarrow", "ray")
PLATFORM = "platform"
"""The part of the code that all runs have in common, whatever their model."""
COMPUTING = ("coablate_platform.data", "coablate_platform.train", "coablate_platform.study.streams")
"""What that part is made of: two rooms, and what every random stream comes from."""
NOT_COMPUTING = ("coablate_platform.data.synthetic",)
"""What of it no run executes."""
_NO_PART = {*PACKAGES, *sys.stdlib_module_names, "coablate_platform"}
"""Packages of which no digest is taken: their versions are recorded, or they belong to the platform's part."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of a run, recorded by the driver. Workers may lack Coablate's installation and the model's sources.

    Args:
        config: the run's configuration in canonical form.
        model_code: see :func:`code_of`.
        version: Coablate's.
    """

    config: dict[str, Any]
    model_code: dict[str, str]
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
    """Return what runs of one table must have in common.

    Returns:
        ``code``: part -> digest, the platform's and those of the run's model; ``packages``: name -> version.
    """
    packages = {"coablate": origin.version} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"code": {PLATFORM: computing_code(), **origin.model_code}, "packages": packages}


@functools.cache
def computing_code() -> str:
    """Return a digest (8 hex digits) of the rooms that compute, read once: a process runs what it has imported."""
    modules = [importlib.import_module(name) for name in COMPUTING]
    specs = [importlib.util.find_spec(name) for name in NOT_COMPUTING]  # they are not imported for that
    return _digest(modules, [Path(str(spec.origin)).parent for spec in specs if spec is not None])


def code_of(model: ModelConfig) -> dict[str, str]:
    """Return digests of what a model comes from: of its configuration's and its objective's classes, and their bases.

    Returns:
        Top-level package -> 8 hex digits. Of a user's own files, each module has its digest: the one that holds the
        class, and those beside it that it imports.
    """
    classes = (*type(model).__mro__, *type(model.objective()).__mro__)
    parts: dict[str, str] = {}
    for name in sorted({kind.__module__.partition(".")[0] for kind in classes} - _NO_PART):
        parts |= source.code_parts(name) or {name: _digest([sys.modules[name]])}
    return parts


def _digest(modules: Sequence[ModuleType], left_out: Sequence[Path] = ()) -> str:
    hasher = hashlib.sha256()
    for module in modules:
        roots = [Path(path) for path in getattr(module, "__path__", [])] or [Path(str(module.__file__))]
        for root in roots:
            for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
                if not any(folder in file.parents for folder in left_out):
                    hasher.update(f"{file.relative_to(root.parent)}\n".encode() + file.read_bytes())
    return hasher.hexdigest()[:8]
