"""Loads a study or search by reference: a shipped or registered name, a module, or a ``.py`` file."""

import importlib
import pkgutil

from coablate_platform.study import source
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import Kind, file_of, load_object, registered, type_mismatch
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

SHIPPED = "coablate_search_spaces"


STUDY_KIND = Kind(
    label="study",
    unknown_prefix="no study named",
    group="coablate.studies",
    expected="Study or Search",
    mismatch=lambda value: type_mismatch(value, Study, Search),
    default_name="STUDY",
    is_study=True,
)


def shipped() -> list[str]:
    """Return the names of the studies that ship with Coablate."""
    package = importlib.import_module(SHIPPED)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load_study(reference: str) -> Study | Search:
    """Load a study or search.

    Before a file is loaded, all modules of the user's files are unloaded.

    Args:
        reference: a shipped or registered name, ``package.module`` or ``path/to/file.py``, both with ``:NAME`` appended
            if the study is not called ``STUDY``.

    Raises:
        InputError: the name is unknown, the module cannot be imported, or it defines no study.
    """
    if file_of(reference) is not None:
        source.forget()
    elif reference in shipped():
        reference = f"{SHIPPED}.{reference}"
    elif ("/" in reference or reference.startswith(".")) and reference not in registered(STUDY_KIND):
        raise InputError(f"study {reference}: expected a shipped name, package.module, or a path that ends in .py")
    study: Study | Search = load_object(reference, STUDY_KIND, shipped()).value
    return study
