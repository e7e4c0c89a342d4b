"""Optuna's storage, which several searches may share: each has a study of its own there and touches no other's."""

import contextlib
from collections.abc import Iterator

import optuna
from optuna.exceptions import OptunaError
from optuna.pruners import BasePruner
from optuna.storages import InMemoryStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from coablate_platform.study.errors import InputError, first_line

OWNER = "coablate.folder"  # the attribute of Optuna's study that says whose it is


def open_storage(url: str) -> RDBStorage:
    """Return the storage at a URL. It holds no connection between two requests: a sweep asks seldom and runs long.

    Raises:
        InputError: it cannot be opened.
    """
    with _in_one_line(url):
        return RDBStorage(url, engine_kwargs={"poolclass": NullPool})


def put(name: str, memory: InMemoryStorage, url: str, owner: str, pruner: BasePruner) -> optuna.Study:
    """Put a study into the storage at ``url``, in place of what an earlier start of the same search left there.

    Args:
        name: of the study.
        memory: where it is, whole.
        url: of the storage.
        owner: whose it is.
        pruner: of the study that is returned.

    Returns:
        The study in the storage.

    Raises:
        InputError: the storage cannot be opened, or the study of that name there is another's.
    """
    storage = open_storage(url)
    with _in_one_line(url):
        if name in optuna.get_all_study_names(storage):
            found = optuna.load_study(study_name=name, storage=storage)
            theirs = found.user_attrs.get(OWNER)
            begun = theirs is None and not found.get_trials(deepcopy=False)  # killed before it could say whose it is
            moved = url.startswith(f"sqlite:///{owner}/")  # a folder's own file says where the folder lay before
            if theirs != owner and not begun and not moved:
                raise InputError(f"Optuna storage {url}: its study {name} belongs to {theirs}; choose another storage")
            optuna.delete_study(study_name=name, storage=storage)
        optuna.load_study(study_name=name, storage=memory).set_user_attr(OWNER, owner)
        optuna.copy_study(from_study_name=name, from_storage=memory, to_storage=storage)
        return optuna.load_study(study_name=name, storage=storage, pruner=pruner)


@contextlib.contextmanager
def _in_one_line(url: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (SQLAlchemyError, OptunaError, ImportError, ValueError, OSError, RuntimeError) as error:
        raise InputError(f"Optuna storage {url}: {type(error).__name__}: {first_line(error)}") from None
