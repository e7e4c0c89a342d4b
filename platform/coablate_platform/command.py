"""Holds the options of ``coablate run`` as a plan keeps them, and what the user accepts of recorded results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from coablate_platform.passwords import STORAGE, TRACKING, completed, masked
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import file_of, reference_to_copy
from coablate_platform.study.source import Sources


@dataclass(frozen=True, kw_only=True)
class Command:
    """The options of ``coablate run``. The plan keeps them, so that ``resume`` can use them again.

    Args:
        study: a shipped or registered name, ``package.module`` or an absolute path to a ``.py`` file.
        data: URI of the prepared store.
        protocol: name or reference of the protocol; None: the study's, else the store's default.
        seeds: number of seeds (of a search: of its confirmation); None: as declared.
        overrides: ``field=value`` texts.
        address: ``host:port`` of a running Ray cluster, ``auto`` or ``local``; None: that of ``RAY_ADDRESS``, else a
            local one is started.
        tracking: MLflow tracking URI; None: a database in the results folder.
        gpus: GPUs that a worker holds, a number or ``fit``; None: as declared.
        trials: number of trials of a search; None: as declared.
        sampler: name or reference of a search's sampler; None: as declared.
        grace: grace period of a search in epochs; None: as declared.
        storage: URL of Optuna's storage; None: an SQLite file in the results folder.
        warm: names or keys of earlier searches in the results folder, from whose trials a search learns.
        source: digest of the user's own files that were imported; empty if there were none.
    """

    study: str
    data: str
    protocol: str | None = None
    seeds: int | None = None
    overrides: tuple[str, ...] = ()
    address: str | None = None
    tracking: str | None = None
    gpus: str | None = None
    trials: int | None = None
    sampler: str | None = None
    grace: int | None = None
    storage: str | None = None
    warm: tuple[str, ...] = ()
    source: str = ""

    @property
    def user_files(self) -> list[Path]:
        """The user's own files that the options refer to."""
        named = [self.study, self.protocol, self.sampler, *(text.partition("=")[2] for text in self.overrides)]
        return [file for text in named if text is not None and (file := file_of(text)) is not None]

    def with_copies_in(self, folder: Path) -> "Command":
        """Return the command with references to the copies of the user's files in a folder."""

        def to_copy(text: str) -> str:
            return reference_to_copy(text, folder, is_study=file_of(text) == file_of(self.study))

        values = [text.partition("=") for text in self.overrides]
        return replace(
            self,
            study=to_copy(self.study),
            protocol=self.protocol and to_copy(self.protocol),
            sampler=self.sampler and to_copy(self.sampler),
            overrides=tuple(f"{field}{equals}{to_copy(value)}" for field, equals, value in values),
        )

    def to_resume(self) -> dict[str, Any]:
        """Return the options as a plan keeps them: without passwords, with the digest of the imported user files."""
        tracking, storage = (text and masked(text) for text in (self.tracking, self.storage))
        return asdict(replace(self, source=Sources.imported().digest, tracking=tracking, storage=storage))

    def with_passwords(self, environment: Mapping[str, str]) -> "Command":
        """Return the command with the passwords that its plan does not keep.

        Args:
            environment: the environment variables, in which the whole addresses stand.

        Raises:
            InputError: an address lacks its password, and the environment does not have the whole address.
        """
        tracking = whole_address("tracking", self.tracking, environment)
        return replace(self, tracking=tracking, storage=whole_address("storage", self.storage, environment))


@dataclass(frozen=True, kw_only=True)
class Accepts:
    """What the user accepts of results that are in the journal already.

    Args:
        mixed: a table with runs of different code or package versions.
        as_recorded: completed runs and trials that other code trained than the code at hand.
    """

    mixed: bool = False
    as_recorded: bool = False

    @property
    def options(self) -> str:
        """The options of the command line that accept it, each after a space."""
        return " --mixed" * self.mixed + " --as-recorded" * self.as_recorded


def whole_address(option: str, kept: str | None, environment: Mapping[str, str]) -> str | None:
    """Return an address with the password that its plan does not keep.

    Args:
        option: ``tracking`` or ``storage``.
        kept: the address as the plan keeps it; None if it keeps none.
        environment: the environment variables, in which the whole address stands.

    Raises:
        InputError: the password is missing, and the environment does not have the whole address.
    """
    variable = {"tracking": TRACKING, "storage": STORAGE}[option]
    whole = completed(kept, environment.get(variable))
    if kept and whole is None:
        raise InputError(f"--{option} {kept}: its password was not kept; set {variable} to the whole address")
    return whole
