"""Finds a study: a shipped name, ``package.module``, or a path to a ``.py`` file, each holding ``STUDY``."""

import contextlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

SHIPPED = "coablate_search_spaces"
LONE_FILE = "coablate_study_"  # in front of the module name of a study that is a file


def shipped() -> list[str]:
    """Return the names of the studies that ship with Coablate."""
    package = importlib.import_module(SHIPPED)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load_study(reference: str) -> Study | Search:
    """Return the study or search that ``reference`` names.

    Raises:
        InputError: nothing is found there, it cannot be imported, or it holds no ``STUDY``.
    """
    module = _module(reference)
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study | Search):
        raise InputError(f"study {reference}: {module.__file__} defines no STUDY of type Study or Search")
    return study


def _module(reference: str) -> ModuleType:
    if reference.endswith(".py"):
        return _from_file(Path(reference))
    if reference in shipped():
        return importlib.import_module(f"{SHIPPED}.{reference}")
    if "/" in reference or reference.startswith("."):
        raise InputError(f"study {reference}: expected a shipped name, package.module, or a path that ends in .py")
    if "." not in reference:
        raise InputError(f"no study named {reference!r}{did_you_mean(reference, shipped())}")
    with _in_one_line(reference):
        return importlib.import_module(reference)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"study {path}: no such file")
    name = f"{LONE_FILE}{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"study {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _in_one_line(str(path)):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _in_one_line(reference: str) -> Iterator[None]:
    """Say of whatever a study's code raises where it comes from."""
    try:
        yield
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(f"study {reference}: no module named {error.name!r}") from error
    except Exception as error:
        raise InputError(f"study {reference}: {type(error).__name__}: {error}") from error
