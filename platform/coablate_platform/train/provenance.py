"""Records the provenance of a result: digests of the code that computed it, package versions, host and device."""

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
"""Name of the part of the code that all runs share, whatever their model."""
PLATFORM_CODE = ("coablate_platform.data", "coablate_platform.train", "coablate_platform.study.streams")
"""Packages and modules of that part: reading data, training, and random streams."""
EXCLUDED_CODE = ("coablate_platform.data.synthetic",)
"""Packages among them that no run executes."""
_WITHOUT_DIGEST = {*PACKAGES, *sys.stdlib_module_names, "coablate_platform"}
"""Packages without a digest of their own: their versions are recorded, or they belong to the platform's part."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the driver knows of a run's provenance. On workers, the package metadata and sources may be missing.

    Args:
        config: the run's configuration in canonical form.
        model_code: digests of the model's code, see :func:`model_code`.
        version: version of Coablate.
    """

    config: dict[str, Any]
    model_code: dict[str, str]
    version: str


def origin_of(config: RunConfig) -> Origin:
    """Return the origin of runs with this configuration that this process plans."""
    version = importlib.metadata.version("coablate")
    return Origin(config=canonical(config), model_code=model_code(config.model), version=version)


def context(origin: Origin, fingerprint: str, seed: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Return the context of an attempt, which a worker records before it trains.

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
    """Return the versions that must be equal in all runs of a table.

    Returns:
        ``code``: part of the code -> digest, for the platform and for the run's model. ``packages``: name -> version.
    """
    packages = {"coablate": origin.version} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"code": {PLATFORM: platform_code(), **origin.model_code}, "packages": packages}


@functools.cache
def platform_code() -> str:
    """Return a digest (8 hex digits) of the platform's part.

    It is cached: later changes of a file do not change the code that this process has imported.
    """
    modules = [importlib.import_module(name) for name in PLATFORM_CODE]
    specs = [importlib.util.find_spec(name) for name in EXCLUDED_CODE]  # found without an import
    return _digest(modules, [Path(str(spec.origin)).parent for spec in specs if spec is not None])


def model_code(model: ModelConfig) -> dict[str, str]:
    """Return digests of the code of a model: of the classes of its configuration and objective, and of their bases.

    Returns:
        Top-level package -> 8 hex digits. A user's own files have one digest per module: the module that defines the
        class, and the modules in its folder that it imports.
    """
    classes = (*type(model).__mro__, *type(model.objective()).__mro__)
    parts: dict[str, str] = {}
    for name in sorted({kind.__module__.partition(".")[0] for kind in classes} - _WITHOUT_DIGEST):
        parts |= source.module_digests(name) or {name: _digest([sys.modules[name]])}
    return parts


def _digest(modules: Sequence[ModuleType], excluded: Sequence[Path] = ()) -> str:
    hasher = hashlib.sha256()
    for module in modules:
        roots = [Path(path) for path in getattr(module, "__path__", [])] or [Path(str(module.__file__))]
        for root in roots:
            for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
                if not any(folder in file.parents for folder in excluded):
                    hasher.update(f"{file.relative_to(root.parent)}\n".encode() + file.read_bytes())
    return hasher.hexdigest()[:8]
