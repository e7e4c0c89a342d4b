"""Optuna's storage. Several searches may share it; each has a study of its own there and changes no other."""

import contextlib
from collections.abc import Iterator

import optuna
from optuna.exceptions import OptunaError
from optuna.pruners import BasePruner
from optuna.storages import InMemoryStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from coablate_platform.study.errors import InputError, first_line

OWNER = "coablate.folder"  # user attribute of Optuna's study: the results folder it belongs to


def open_storage(url: str) -> RDBStorage:
    """Return the storage at a URL. It keeps no connection open: a search asks seldom and runs long.

    Raises:
        InputError: it cannot be opened.
    """
    with _in_one_line(url):
        return RDBStorage(url, engine_kwargs={"poolclass": NullPool})


def put(name: str, memory: InMemoryStorage, url: str, owner: str, pruner: BasePruner) -> optuna.Study:
    """Copy a study into the storage at ``url``, replacing what an earlier start of the same search left there.

    Args:
        name: name of the study.
        memory: the storage that holds it now.
        url: URL of the storage to copy it to.
        owner: the results folder it belongs to.
        pruner: pruner of the returned study.

    Returns:
        The study in the storage.

    Raises:
        InputError: the storage cannot be opened, or the study of that name belongs to another results folder.
    """
    storage = open_storage(url)
    with _in_one_line(url):
        if name in optuna.get_all_study_names(storage):
            found = optuna.load_study(study_name=name, storage=storage)
            theirs = found.user_attrs.get(OWNER)
            begun = theirs is None and not found.get_trials(deepcopy=False)  # killed before the owner was written
            moved = url.startswith(f"sqlite:///{owner}/")  # the folder's own file, and the folder was moved
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
