"""Records the provenance of a result: digests of the code that computed it, package versions, host and device."""

import functools
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from coablate_platform.study import source
from coablate_platform.study.code_digest import digest_of, imported_names
from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical
from coablate_platform.study.model import ModelConfig, ReadsFiles

PACKAGES = ("torch", "numpy", "av", "pyarrow", "ray")
PLATFORM = "platform"
"""Name of the part of the code that all runs share, whatever their model."""
PLATFORM_CODE = ("coablate_platform.data", "coablate_platform.train", "coablate_platform.study.streams")
"""Packages and modules of that part: reading data, training, and random streams."""
EXCLUDED_CODE = (
    *("coablate_platform.data.formats", "coablate_platform.data.info", "coablate_platform.data.prepare"),
    *("coablate_platform.data.progress", "coablate_platform.data.shard", "coablate_platform.data.synthetic"),
    "coablate_platform.data.write_shards",
    *("coablate_platform.train.events", "coablate_platform.train.failures", "coablate_platform.train.provenance"),
)
"""Packages and modules among them that compute nothing in a run. The store's fingerprint stands for how it was made."""
_WITHOUT_DIGEST = {*PACKAGES, *sys.stdlib_module_names, "coablate_platform", "safetensors", "typing_extensions"}
"""Packages without a digest of their own: recorded by version, part of the platform's code, or without effect."""


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


def check_unchanged(origin: Origin, config: RunConfig) -> None:
    """Check that the files that a run's model reads are those that were there when the run was planned.

    Raises:
        InputError: a file has changed since, or is another one on this machine.
    """
    if canonical(config) != origin.config:
        fields = config.model.file_fields if isinstance(config.model, ReadsFiles) else ()
        paths = ", ".join(str(path) for field in fields if (path := getattr(config.model, field)))
        raise InputError(f"the content of {paths or 'a file'} is not what it was when the run was planned")


def context(
    origin: Origin, model: ModelConfig, fingerprint: str, seed: tuple[int, int], device: torch.device
) -> dict[str, Any]:
    """Return the context of an attempt, which a worker records before it trains.

    The code is that of this process. A worker that starts after a file has changed therefore records the changed code.

    Args:
        origin: the run's origin.
        model: the run's model.
        fingerprint: fingerprint of the store.
        seed: (study seed, run seed).
        device: the device that trains.
    """
    return {
        "config": origin.config,
        "data": fingerprint,
        "seed": list(seed),
        **versions(replace(origin, model_code=origin.model_code | model_code(model))),
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
    return {"code": _code(origin.model_code), "packages": packages}


def code_at_hand(model: ModelConfig) -> dict[str, str]:
    """Return the code with which this process trains a model: part of the code -> digest."""
    return _code(model_code(model))


def _code(of_model: Mapping[str, str]) -> dict[str, str]:
    return {PLATFORM: platform_code(), **of_model}


@functools.cache
def platform_code() -> str:
    """Return a digest (8 hex digits) of the platform's part.

    It is cached: later changes of a file do not change the code that this process has imported.
    """
    specs = [importlib.util.find_spec(name) for name in EXCLUDED_CODE]  # found without an import
    excluded = [_root_of(Path(str(spec.origin))) for spec in specs if spec is not None]
    files = {name: content for part in PLATFORM_CODE for name, content in _files_of(part, excluded).items()}
    return digest_of(files)


def model_code(model: ModelConfig) -> dict[str, str]:
    """Return digests of a model's code: of the classes of its configuration and objective, and of what they import.

    They are taken once a process for each class, from the files as they were imported.

    Returns:
        Top-level package or module -> 8 hex digits. An imported package of another author that is installed has its
        version instead.
    """
    return dict(_code_of((*type(model).__mro__, *type(model.objective()).__mro__)))


@functools.cache
def _code_of(classes: tuple[type, ...]) -> dict[str, str]:
    names = {kind.__module__.partition(".")[0] for kind in classes} - _WITHOUT_DIGEST
    code: dict[str, str] = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in code:
            continue
        files = source.files_of(name)
        if not files and name not in names and (version := _installed_version(name)) is not None:
            code[name] = version
        elif files := files or _files_of(name):
            code[name] = digest_of(files)
            imported = {name for content in files.values() for name in imported_names(content)}
            waiting += sorted((imported | source.computed_imports(name)) - _WITHOUT_DIGEST)
    return code


def _installed_version(name: str) -> str | None:
    """Return the version of the installed package that has this top-level name; None if it is no installed package."""
    spec = importlib.util.find_spec(name)
    places = {Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib")}
    if spec is None or spec.origin is None or not places & set(Path(spec.origin).resolve().parents):
        return None
    packages = importlib.metadata.packages_distributions().get(name, [])
    return f"version {importlib.metadata.version(packages[0])}" if packages else None


def _files_of(name: str, excluded: Sequence[Path] = ()) -> dict[str, bytes]:
    """Return the Python files of a module or package, apart from excluded files and folders: path -> content.

    Paths begin with the module's or package's own name, wherever it lies. Nothing for a module without a source file.
    """
    try:
        module = sys.modules.get(name) or importlib.import_module(name)
    except ImportError:  # an import in a function that is not called, or under a condition
        return {}
    roots = [Path(path) for path in getattr(module, "__path__", []) or filter(None, [getattr(module, "__file__", "")])]
    return {
        found.relative_to(root.parent).as_posix(): found.read_bytes()
        for root in roots
        for found in (sorted(root.rglob("*.py")) if root.is_dir() else [root])
        if found.suffix == ".py" and not {found, *found.parents} & set(excluded)
    }


def _root_of(origin: Path) -> Path:
    """Return the folder of a package or the file of a module, from where Python found it."""
    return origin.parent if origin.name == "__init__.py" else origin
