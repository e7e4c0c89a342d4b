"""The copy of a search's study in Optuna's storage, for optuna-dashboard. Several searches may share a storage.

Nothing is read back from it: the study that decides is in memory and follows from the journal.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from coablate_platform.study.errors import InputError, first_line

FILE = "optuna.db"
OWNER = "coablate.folder"  # user attribute of Optuna's study: the results folder it belongs to
EARLIER = "coablate.earlier"
"""User attribute of a trial that belongs to an earlier search, from which the study learns."""
PATIENCE_S = 2
"""How long to wait for a lock or a server's answer."""
_QUICK_S = 0.1
_REST = 10
"""What takes longer than ``_QUICK_S`` is followed by a rest of so many times as long: no search waits much for it."""
ERRORS = (SQLAlchemyError, OptunaError, ImportError, ValueError, KeyError, OSError, RuntimeError)


def storage_url(state: Path, given: str | None) -> str:
    """Return the URL of a search's storage: the given one, else that of a file in the folder of local databases."""
    return given or f"sqlite:///{state.resolve() / FILE}"


def open_storage(url: str) -> RDBStorage:
    """Return the storage at a URL. It keeps no connection open: a search asks seldom and runs long.

    Raises:
        Exception: one of many kinds; it cannot be opened.
    """
    given, limits = make_url(url), dict[str, Any]()
    if given.get_driver_name() in ("psycopg", "psycopg2"):
        limits = {"connect_timeout": PATIENCE_S, "options": f"-c statement_timeout={1000 * PATIENCE_S}"}
    elif given.get_backend_name() == "sqlite":
        limits = {"timeout": PATIENCE_S}
    limits = {name: value for name, value in limits.items() if name not in given.query}
    return RDBStorage(url, engine_kwargs={"poolclass": NullPool, "connect_args": limits})


class StudyCopy:
    """A copy of a search's study in a storage. The search goes on whether the storage answers or not.

    After an error the copy is stale: it is made anew at once, else at a later :meth:`update` or :meth:`catch_up`.

    Args:
        study: the study in memory.
        memory: the storage that holds it.
        url: URL of the storage to copy it to.
        owner: the results folder it belongs to.
        say: shows a line to the user, where the storage fails for the first time.

    Raises:
        InputError: there can be no such storage, or the study of that name belongs to another results folder.
    """

    def __init__(
        self, study: optuna.Study, memory: InMemoryStorage, url: str, owner: str, say: Callable[[str], None]
    ) -> None:
        self._study, self._memory, self._url, self._owner, self._say = study, memory, url, owner, say
        study.set_user_attr(OWNER, owner)
        self._storage: RDBStorage | None = None  # None while the copy is stale
        self._id = -1  # of the copy
        self._ids: list[int] = []  # of its trials
        self._changed: set[int] = set()  # numbers of the trials that have changed since they were written
        self._rests_until = 0.0
        self._has_said = False
        try:
            self._make()
        except ERRORS as error:
            if not _may_pass(error):
                raise InputError(f"Optuna storage {url}: {in_words(error)}") from None
            self._tell(error)

    def update(self, number: int) -> None:
        """Write a trial that has changed, with those that could not be written before; later if the storage is slow."""
        self._changed.add(number)
        if time.monotonic() >= self._rests_until:
            self.catch_up()

    def catch_up(self) -> str:
        """Write all that the storage lacks, and return what prevents it; an empty text if nothing does."""
        began, fault = time.monotonic(), self._write()
        took = time.monotonic() - began
        self._rests_until = began + took + (_REST * took if took > _QUICK_S else 0)
        return fault

    def _write(self) -> str:
        try:
            if self._storage is not None:
                self._write_changes(self._storage)
                return ""
        except ERRORS:  # it is locked, or the copy is gone
            self._storage = None
        try:
            self._make()
        except (InputError, *ERRORS) as error:
            self._tell(error)
            return in_words(error)
        return ""

    def _make(self) -> None:
        """Copy the whole study, replacing what is there of it."""
        name, storage = self._study.study_name, open_storage(self._url)
        if name in optuna.get_all_study_names(storage):
            found = optuna.load_study(study_name=name, storage=storage)
            theirs = found.user_attrs.get(OWNER)
            begun = theirs is None and not found.get_trials(deepcopy=False)  # killed before the owner was written
            moved = self._url.startswith(f"sqlite:///{self._owner}/")  # the folder's own file, and the folder was moved
            if theirs != self._owner and not begun and not moved:
                raise InputError(
                    f"Optuna storage {self._url}: its study {name} belongs to {theirs}; choose another storage"
                )
            optuna.delete_study(study_name=name, storage=storage)
        optuna.copy_study(from_study_name=name, from_storage=self._memory, to_storage=storage)
        self._id = storage.get_study_id_from_name(name)
        self._ids = [trial._trial_id for trial in storage.get_all_trials(self._id, deepcopy=False)]
        self._changed.clear()
        self._storage = storage

    def _write_changes(self, storage: RDBStorage) -> None:
        """Write the trials that have changed.

        Raises:
            KeyError: the copy is gone, or its place in the storage belongs to another search.
        """
        name, owner = storage.get_study_name_from_id(self._id), storage.get_study_user_attrs(self._id).get(OWNER)
        if (name, owner) != (self._study.study_name, self._owner):
            raise KeyError(name)
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials[len(self._ids) :]:
            self._ids.append(storage.create_new_trial(self._id, template_trial=trial))
            self._changed.discard(trial.number)
        for number in sorted(self._changed):
            _write_trial(storage, self._ids[number], trials[number])
        self._changed.clear()

    def _tell(self, error: Exception) -> None:
        if not self._has_said:
            self._has_said = True
            self._say(
                f"Optuna storage {self._url} cannot be written now ({in_words(error)}); the search goes on without it "
                "and brings it up to date later"
            )


def _write_trial(storage: RDBStorage, trial_id: int, trial: FrozenTrial) -> None:
    """Write what has changed of a trial since it was written: its reports and attributes, and its end."""
    there = storage.get_trial(trial_id)
    if there.state.is_finished():
        return
    for step in trial.intermediate_values.keys() - there.intermediate_values.keys():
        storage.set_trial_intermediate_value(trial_id, step, trial.intermediate_values[step])
    for key in trial.user_attrs.keys() - there.user_attrs.keys():
        storage.set_trial_user_attr(trial_id, key, trial.user_attrs[key])
    for key in trial.system_attrs.keys() - there.system_attrs.keys():
        storage.set_trial_system_attr(trial_id, key, trial.system_attrs[key])
    if trial.state.is_finished():
        storage.set_trial_state_values(trial_id, trial.state, trial.values)


def _cause(error: Exception) -> BaseException:
    """Return the database's error where Optuna has wrapped it."""
    return error.__cause__ or error if isinstance(error, StorageInternalError) else error


def _may_pass(error: Exception) -> bool:
    """Return whether a storage may be opened later: it is locked or out of reach, and its URL makes sense."""
    return isinstance(_cause(error), OperationalError) and "unable to open database file" not in str(_cause(error))


def in_words(error: Exception) -> str:
    """Return an error of a storage as one line."""
    return (
        str(error) if isinstance(error, InputError) else f"{type(_cause(error)).__name__}: {first_line(_cause(error))}"
    )
