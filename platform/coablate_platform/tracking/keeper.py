"""Keeps a study's follower alive from the driver: it is started, started again where it dies, and asked to finish."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

from coablate_platform.journal.journal import Journal
from coablate_platform.passwords import TRACKING
from coablate_platform.tracking.follower import GRACE, tracking_uri

SOON_S = 3.0
"""Seconds after which a wait for MLflow is said."""
_PAUSES_S = (1.0, 5.0, 15.0, 60.0)  # before a follower is started again; the last one repeats
_DONE, _REFUSED = 0, 2  # exit codes of a follower that would end in the same way again


class FollowerKeeper:
    """A study's follower, in a process of its own, started at once. It ends when this process ends, if not before.

    Its messages go to ``studies/<key>/tracking.log`` in a local results folder, else in this machine's state folder.

    Args:
        directory: the results folder.
        key: the study's key; its plan is written already.
        uri: MLflow's tracking URI; None means the folder's own, see
            :func:`~coablate_platform.tracking.follower.tracking_uri`.
        say: shows a line to the user.
    """

    def __init__(self, directory: str, key: str, uri: str | None, say: Callable[[str], None]) -> None:
        self._directory, self._key, self._say = directory, key, say
        self._uri = tracking_uri(directory, uri)
        folder = Journal(directory).folder.state / "studies" / key
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "tracking.log"
        self._changing = threading.Lock()  # held while the process is replaced
        self._asked = threading.Event()
        self._process = self._start()
        threading.Thread(target=self._keep, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id of the follower as it is now."""
        return self._process.pid

    def ask_to_finish(self) -> None:
        """Ask the follower to bring MLflow up to date a last time, without waiting for it."""
        with self._changing:
            self._asked.set()
            if self._process.poll() not in (None, _DONE, _REFUSED):
                _close_input(self._process)
                self._process = self._start()  # it died, and MLflow may lack what happened since
            _close_input(self._process)

    def finish(self, timeout: float = GRACE + 30) -> int | None:
        """Ask the follower to bring MLflow up to date a last time, and wait for it up to ``timeout`` seconds.

        A follower that something kills meanwhile is started once more: MLflow may lack what happened since.

        Returns:
            0 if MLflow is up to date; otherwise ``coablate track`` can catch up later. None if it was killed, late.
        """
        self.ask_to_finish()
        code = self._wait(timeout)
        if code is None or code >= 0:
            return code
        with self._changing:
            self._process = self._start()
            _close_input(self._process)
        return self._wait(timeout)

    def _wait(self, timeout: float) -> int | None:
        """Wait for the follower to end, and return its exit code; None if it took too long and was killed."""
        try:
            return self._process.wait(min(timeout, SOON_S))
        except subprocess.TimeoutExpired:
            self._say(f"Waiting for MLflow, {timeout:.0f} s at most")
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def _keep(self) -> None:
        """Start the follower again, after a growing pause, whenever it dies before it is asked to finish."""
        for deaths in range(sys.maxsize):
            code = self._process.wait()
            if code == _DONE or self._asked.is_set():
                return
            why = f"signal {-code}" if code < 0 else f"exit code {code}, see {self._log}"
            if code == _REFUSED:
                self._say(f"MLflow's follower has stopped ({why}); training goes on")
                return
            pause = _PAUSES_S[min(deaths, len(_PAUSES_S) - 1)]
            self._say(f"MLflow's follower has died ({why}); it is started again in {pause:.0f} s, training goes on")
            self._asked.wait(pause)
            with self._changing:
                if self._asked.is_set():
                    return
                _close_input(self._process)
                self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "coablate_platform.tracking.follower", self._directory, "--study", self._key]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--follow"],
                env=os.environ | {TRACKING: self._uri},  # not an option: it may hold a password
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C then interrupts the driver only, and the follower can still finish
            )


def _close_input(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()
