"""Runs commands on a cluster as Ray jobs: submits, follows, lists and stops them, through Ray's job client."""

import asyncio
import contextlib
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from coablate_platform.cluster.file import ClusterFile
from coablate_platform.cluster.launcher import tunnel
from coablate_platform.passwords import STORAGE, TRACKING, masked
from coablate_platform.study.errors import ClusterError, InputError, did_you_mean, first_line

JOB_SERVER_PORT = 8265
AGENT_WAIT_S = 60.0
"""How long to wait for a cluster that has just started to take jobs."""
_NO_AGENT = "No available agent"  # part of the job server's message until then
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray that say on the terminal what is sent, and that a log has ended."""
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_POLL_S = 1.0
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the cluster knows it.

    Args:
        name: its submission id.
        status: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        command: the command that it runs.
        started: when it was submitted, in seconds since 1970.
        ended: when it ended, likewise; None while it runs.
        exit_code: the command's exit code; None if it has none.
        message: why it failed, in Ray's words.
    """

    name: str
    status: str
    command: str
    started: float
    ended: float | None
    exit_code: int | None
    message: str

    @property
    def study(self) -> str:
        """The name of the study that it runs, with which its name begins."""
        return self.name.rsplit("-", 2)[0]

    @property
    def open(self) -> bool:
        """Whether it waits or runs."""
        return self.status not in _ENDED


class JobServer:
    """A cluster's job server.

    Args:
        address: its address, ``http://HOST:PORT``.

    Raises:
        ClusterError: it does not answer, or not to this user's token.
    """

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.address = address
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._errors(), _without_other_addresses():
            self._client = JobSubmissionClient(address)

    def submit(self, words: list[str], name: str, folder: Path | None) -> str:
        """Submit a command, and return the job's name.

        Args:
            words: the command; a word that begins with ``$`` is a variable of the cluster's environment.
            name: how the job's name begins.
            folder: a folder of this machine that becomes the command's working directory; None: none is sent.
        """
        quoted = " ".join(f'"{word}"' if word.startswith("$") else shlex.quote(word) for word in words)
        if masked(quoted) != quoted:
            raise InputError(
                f"{masked(quoted)}: the cluster would show this password to all its users; export the address in "
                f"~/.bashrc of the head instead ({TRACKING}, {STORAGE})"
            )
        asked = {
            "entrypoint": quoted,
            "submission_id": f"{name}-{datetime.now():%Y%m%d-%H%M%S}",
            "runtime_env": {"working_dir": str(folder)} if folder else {},
        }
        deadline = time.monotonic() + AGENT_WAIT_S
        with self._errors():
            while True:
                try:
                    return str(self._client.submit_job(**asked))
                except RuntimeError as error:
                    if _NO_AGENT not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(_POLL_S)

    def jobs(self) -> list[Job]:
        """Return the submitted jobs, the latest first."""
        with self._errors():
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.started, reverse=True)

    def job(self, name: str | None) -> Job:
        """Return the job with this name, or the latest that runs this study.

        Args:
            name: the name; None: the latest job that runs, else the latest.

        Raises:
            InputError: there is none.
        """
        jobs = self.jobs()
        if not jobs:
            raise InputError("no run was submitted to this cluster; submit one: coablate run STUDY --cluster FILE")
        if name is None:
            return next((job for job in jobs if job.open), jobs[0])
        for job in jobs:
            if name in (job.name, job.study):
                return job
        raise InputError(f"no run {name!r} on this cluster{did_you_mean(name, {job.study for job in jobs})}")

    def log(self, name: str) -> str:
        """Return what a job has printed so far."""
        with self._errors():
            text: str = self._client.get_job_logs(name)
        return text

    def follow(self, name: str, show: Callable[[str], object]) -> Job:
        """Show what a job prints until it ends, and return it then.

        Raises:
            ClusterError: the connection is lost; the job goes on.
        """

        async def tail() -> None:
            async for text in self._client.tail_job_logs(name):
                show(text)

        with self._errors():
            asyncio.run(tail())
        return self.wait(name)

    def wait(self, name: str) -> Job:
        """Wait until a job has ended, and return it."""
        while (job := self.job(name)).open:
            time.sleep(_POLL_S)
        return job

    def stop(self, name: str) -> bool:
        """Ask a job to end, and return whether it was running."""
        with self._errors():
            return bool(self._client.stop_job(name))

    def forget(self, name: str) -> None:
        """Remove a job that has ended from the list of jobs."""
        with self._errors():
            self._client.delete_job(name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the client's errors into errors of one line."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of requests, aiohttp and Ray
            raise ClusterError(
                f"the job server at {self.address}: {type(error).__name__}: {first_line(error)}"
            ) from None


@contextlib.contextmanager
def _without_other_addresses() -> Iterator[None]:
    """Hide the addresses of the environment during the block: Ray's client would prefer them to the given one."""
    hidden = {name: os.environ.pop(name) for name in _ADDRESSES if name in os.environ}
    try:
        yield
    finally:
        os.environ |= hidden


@contextlib.contextmanager
def connected(cluster: str) -> Iterator[JobServer]:
    """Connect to a cluster's job server for the block: through an SSH tunnel, or at its address.

    Args:
        cluster: a cluster file, or the address of a job server (``http://HOST:PORT``).
    """
    if "://" in cluster:
        yield JobServer(cluster)
        return
    with tunnel(ClusterFile.read(Path(cluster)), JOB_SERVER_PORT) as port:
        yield JobServer(f"http://127.0.0.1:{port}")


def _job(details: Any) -> Job:
    return Job(
        name=details.submission_id,
        status=details.status.value,
        command=details.entrypoint,
        started=(details.start_time or 0) / 1000,
        ended=details.end_time and details.end_time / 1000,
        exit_code=details.driver_exit_code,
        message=first_line(Exception(details.message or "")),
    )
