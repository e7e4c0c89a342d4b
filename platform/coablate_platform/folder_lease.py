"""Holds a results folder in object storage for one process at a time: the lock file of storage that has no locks.

``pyarrow.fs`` offers no conditional put. Each process therefore writes a *claim*, a small file of its own in
``.lease``, and then lists the others' claims:

| claim | its process | other processes |
|---|---|---|
| open | has written it, and lists the others; withdraws it if another claim lives | withdraw theirs, and try again |
| held | found no other; renews it until it ends, and then deletes it | are refused when they see it renewed |
| lapsed | has not renewed it for ``lapse`` seconds; must not write any more | take over and delete it |

Guarantee: at most one process holds the folder, if listings show every file that was written before they began (Amazon
S3, Google Cloud Storage and Azure promise this) and the clocks of hosts and storage run at the same rate, to a tenth.
They need not agree. Of two processes that write claims at a time, at least one lists the other's and withdraws. A
process counts by its own clock, from before it wrote its claim. Others count by the storage's clock, from when it was
written.

A write that is under way when the lease lapses may still arrive later. It is a whole file, and the files of a run have
names of their own for each attempt.
"""

import contextlib
import getpass
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Self

from pyarrow import fs

from coablate_platform.files import filesystem_of, write_atomically
from coablate_platform.study.errors import InputError, LeaseLostError

LAPSE_S = 60.0
"""Seconds after its last renewal when a claim lapses."""
FOLDER = ".lease"
_RENEWALS = 12  # in the time in which a claim lapses
_EARLY = 1 / 6  # share of that time by which a process stops before its claim lapses
_MARGIN = 2.0  # seconds beyond that time before others take over: storage gives times in whole seconds
_READS = 3  # of a claim that is written or deleted while it is read
_PAUSE_S = 0.1  # between two of them
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # it goes on while the machine is suspended


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The content of a claim's file.

    Args:
        owner: user of the process that wrote it.
        host: name of the process's host.
        process: id of the process there.
        since: when the process claimed the folder, in Unix seconds by its host's clock.
        lapse: seconds after its last renewal when it lapses.
        held: whether the process holds the folder.
        turn: a fencing token, 0 while the claim is open; a holder's is higher than those of all claims that it found.
    """

    owner: str
    host: str
    process: int
    since: float
    lapse: float
    held: bool = False
    turn: int = 0

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"process {self.process} of {self.owner} on {self.host} has used it since {since}"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A claim as a listing shows it: its file's name and its time of writing in seconds, by the storage's clock."""

    name: str
    written: float
    claim: Claim

    def lives(self, now: float) -> bool:
        """Return whether it has not lapsed at a time of the storage's clock."""
        return now - self.written < self.claim.lapse + _MARGIN


class FolderLease:
    """The lease of a results folder, held from entry to exit.

    Args:
        uri: URI of the folder.
        on_loss: called in another thread with the reason, if the lease is lost. The process must not write any more.
        say: shows a line to the user, where another process has to be waited for.
        lapse: seconds after the last renewal when the lease lapses.
    """

    def __init__(
        self, uri: str, on_loss: Callable[[str], None], say: Callable[[str], None], lapse: float = LAPSE_S
    ) -> None:
        self._uri, self._on_loss, self._say, self._lapse = uri, on_loss, say, lapse
        self._filesystem, root = filesystem_of(uri)
        self._folder, self._name = f"{root}/{FOLDER}", f"{uuid.uuid4().hex}.json"
        self._until, self._lost = 0.0, ""
        self._claim = Claim(
            owner=getpass.getuser(), host=socket.gethostname(), process=os.getpid(), since=time.time(), lapse=lapse
        )
        self._ended = threading.Event()
        self._renewing = threading.Lock()  # held while a renewal is under way

    def __enter__(self) -> Self:
        """Acquire the lease. Where another process holds it, wait until that renews it or its lease lapses.

        Raises:
            InputError: another process holds the folder and lives, or a claim is damaged.
            OSError: the storage cannot be read or written.
        """
        seen, began, said = dict[str, float](), _now(), False
        while not self._acquired():
            for rival in (found for found in self._others() if found.claim.held):
                if seen.setdefault(rival.name, rival.written) != rival.written:
                    raise InputError(
                        f"results folder {self._uri}: {rival.claim}; wait until it has ended, or use another folder"
                    )
                if not said and _now() - began > 2 * self._lapse / _RENEWALS:
                    self._say(f"{rival.claim}, and may be dead; its lease lapses in {self._lapse:.0f} s at most")
                    said = True
            time.sleep(random.uniform(0.5, 1.5))
        for action in (self._keep, self._watch):
            threading.Thread(target=action, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        with self._renewing, contextlib.suppress(OSError):  # where it cannot be deleted, it lapses
            self._delete(self._name)

    def check(self) -> None:
        """Check that the lease is still held. Costs no request.

        Raises:
            LeaseLostError: it is not.
        """
        if not self._lost and _now() > self._until:
            self._lost = f"it could not be renewed for {self._lapse * (1 - _EARLY):.0f} s"
        if self._lost:
            raise LeaseLostError(
                f"results folder {self._uri}: its lease is lost ({self._lost}); what is recorded is kept"
            )

    def _acquired(self) -> bool:
        """Write an open claim, and hold the folder if no other claim lives; else withdraw it and return False."""
        began = _now()
        self._write(replace(self._claim, held=False, turn=0))
        found = self._list()
        others = [other for other in found if other.name != self._name]
        now = max((own.written for own in found if own.name == self._name), default=None)
        if now is None or any(other.lives(now) for other in others):
            self._delete(self._name)
            return False
        self._until = began + self._lapse * (1 - _EARLY)
        turn = 1 + max((other.claim.turn for other in others), default=0)
        self._claim = replace(self._claim, held=True, turn=turn)
        try:
            self._renew()
        except LeaseLostError:  # this process was suspended meanwhile
            self._lost = ""
            self._delete(self._name)
            return False
        for other in others:
            self._delete(other.name)
        return True

    def _renew(self) -> None:
        """Write the claim again.

        Raises:
            LeaseLostError: it had lapsed before that, or another process has taken over.
            OSError: the storage cannot be read or written.
        """
        began = _now()
        self.check()
        self._write(self._claim)
        self.check()
        found = self._list()
        now = max((other.written for other in found), default=0.0)
        for other in found:
            later = other.name != self._name and other.claim.held and other.claim.turn >= self._claim.turn
            if later and other.lives(now):
                self._lost = str(other.claim)
                self.check()
        self._until = began + self._lapse * (1 - _EARLY)

    def _keep(self) -> None:
        """Renew the lease until it ends or is lost. While the storage does not answer, try again."""
        while not self._ended.wait(self._lapse / _RENEWALS):
            with self._renewing, contextlib.suppress(OSError, InputError):
                if self._ended.is_set():
                    return
                try:
                    self._renew()
                except LeaseLostError:
                    return

    def _watch(self) -> None:
        """Report the loss of the lease, also while a renewal waits for the storage."""
        while not self._ended.wait(self._lapse / 100):
            try:
                self.check()
            except LeaseLostError as error:
                self._on_loss(str(error))
                return

    def _others(self) -> list[_Found]:
        return [found for found in self._list() if found.name != self._name]

    def _list(self) -> list[_Found]:
        """List the claims, by one request and those to read the others'."""
        infos = self._filesystem.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        files = [info for info in infos if info.type is fs.FileType.File and info.base_name.endswith(".json")]
        own = self._name
        claims = [(info, self._claim if info.base_name == own else self._read(info.path)) for info in files]
        return [
            _Found(name=info.base_name, written=(info.mtime_ns or 0) / 1e9, claim=claim)
            for info, claim in claims
            if claim is not None
        ]

    def _read(self, path: str) -> Claim | None:
        """Return a claim, or None if it is deleted meanwhile.

        Raises:
            InputError: it is damaged.
            OSError: the storage cannot be read.
        """
        for reads_left in reversed(range(_READS)):
            try:
                with self._filesystem.open_input_stream(path) as stream:
                    return Claim(**json.loads(stream.read()))
            except FileNotFoundError:
                return None
            except (OSError, ValueError, TypeError) as error:  # it was deleted or written while it was read
                if reads_left:
                    time.sleep(_PAUSE_S)
                elif isinstance(error, OSError):
                    raise
        raise InputError(f"{self._uri}/{FOLDER}: {path.rpartition('/')[2]} is no claim of this version; delete it")

    def _write(self, claim: Claim) -> None:
        write_atomically(self._filesystem, f"{self._folder}/{self._name}", json.dumps(asdict(claim)).encode())

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.delete_file(f"{self._folder}/{name}")


def _now() -> float:
    return time.clock_gettime(_CLOCK)
