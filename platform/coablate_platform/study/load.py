"""Finds a study: a shipped name, one that a package has registered, a module, or a ``.py`` file."""

import importlib
import pkgutil

from coablate_platform.study import source
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import Kind, file_of, installed, load_object
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

SHIPPED = "coablate_search_spaces"


def _lacking(value: object) -> str:
    return "" if isinstance(value, Study | Search) else f"it is of type {type(value).__name__}"


STUDIES = Kind(
    word="study",
    unknown="no study named",
    group="coablate.studies",
    expected="Study or Search",
    lacking=_lacking,
    name="STUDY",
    study=True,
)


def shipped() -> list[str]:
    """Return the names of the studies that ship with Coablate."""
    package = importlib.import_module(SHIPPED)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load_study(reference: str) -> Study | Search:
    """Return the study or search that ``reference`` names.

    A file's study takes the place of what was imported of a user's files before.

    Args:
        reference: a shipped or registered name, ``package.module`` or ``path/to/file.py``, both with ``:NAME`` behind
            them where it is not ``STUDY``.

    Raises:
        InputError: nothing is found there, it cannot be imported, or it holds no study.
    """
    if file_of(reference) is not None:
        source.forget()
    elif reference in shipped():
        reference = f"{SHIPPED}.{reference}"
    elif ("/" in reference or reference.startswith(".")) and reference not in installed(STUDIES):
        raise InputError(f"study {reference}: expected a shipped name, package.module, or a path that ends in .py")
    study: Study | Search = load_object(reference, STUDIES, shipped()).value
    return study
