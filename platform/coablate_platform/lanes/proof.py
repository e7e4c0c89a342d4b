"""Proves that a node can train a study's runs, before one of its workers takes a run.

A node that lacks the store, or that writes to a results folder of its own, would take run after run and fail each. The
driver leaves a file in the results folder; every worker looks for that file and compares store, code, package versions
and clock with what the driver has.
"""

import contextlib
import functools
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import ray.cloudpickle

from coablate_platform.data.store import Store
from coablate_platform.files import local_copy
from coablate_platform.process import seconds_ahead
from coablate_platform.study.errors import InputError, first_line
from coablate_platform.study.model import ModelConfig
from coablate_platform.study.source import attach
from coablate_platform.train.provenance import Origin, model_code, versions

CLOCK_S = 60.0
"""Seconds by which a node's clock may differ from that of the driver's node."""


class ResultsFolder(Protocol):
    """The results folder, as the driver and every node see it. Errors are of :class:`OSError`."""

    @property
    def uri(self) -> str: ...

    def write(self, name: str, content: bytes) -> None: ...

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if there is no such file."""
        ...

    def delete(self, name: str) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a worker must find on its node.

    Args:
        out: the results folder.
        probe: name of the file that the driver left there.
        store: URI of the prepared store.
        fingerprint: the store's fingerprint.
        source: path or URI of the folder of the copies of the user's files; empty if there are none.
        model: the model of the study's base configuration, pickled.
        origin: what the driver knows of the provenance of such runs.
        versions: code and package versions of the driver; None accepts all.
    """

    out: ResultsFolder
    probe: str
    store: str
    fingerprint: str
    source: str
    model: bytes
    origin: Origin
    versions: dict[str, dict[str, str]] | None


@functools.lru_cache(maxsize=1)
def open_store(uri: str) -> Store:
    """Open the store once for the proof and all runs of a lane, which use the same memory-mapped files."""
    return Store.open(uri)


@contextlib.contextmanager
def left_probe(out: ResultsFolder) -> Iterator[str]:
    """Leave a file in the results folder during the block, and return its name.

    Raises:
        OSError: the folder cannot be written.
    """
    name = f".probe-{uuid.uuid4().hex}"
    out.write(name, name.encode())
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            out.delete(name)


def findings(proof: Proof, driver_time: Callable[[], float]) -> list[str]:
    """Return what is wrong on this node, a line each; nothing where it can train.

    The user's files are attached, so that the study's models can be imported from now on.

    Args:
        proof: what is expected.
        driver_time: asks for the time on the driver's node, in Unix seconds.
    """
    if line := _check_results(proof):  # what is missing else would follow from it
        return [line]
    checks = (_check_store, _check_versions)
    return [line for check in checks if (line := check(proof))] + _check_clock(driver_time)


def _check_results(proof: Proof) -> str:
    """Say that the results folder is not the driver's, or cannot be written."""
    where = f"results folder {proof.out.uri}"
    try:
        if proof.out.read(proof.probe) != proof.probe.encode():
            return f"{where} is not the driver's: it must be a folder that all nodes share"
        own = f"{proof.probe}-{os.uname().nodename}-{os.getpid()}"
        proof.out.write(own, b"")
        proof.out.delete(own)
    except OSError as error:
        return f"{where} cannot be used ({error.strerror or first_line(error)})"
    return ""


def _check_store(proof: Proof) -> str:
    """Say that the store is absent, or another one."""
    try:
        found = open_store(proof.store).fingerprint
    except (InputError, OSError) as error:
        return f"store {proof.store} cannot be opened ({first_line(error)})"
    if found == proof.fingerprint:
        return ""
    return f"store {proof.store} is another one: its fingerprint is {found[:12]}, expected {proof.fingerprint[:12]}"


def _check_versions(proof: Proof) -> str:
    """Attach the user's files, and say that the model cannot be imported, or that versions differ.

    Builds of one version count as equal: a driver without GPU has another torch than its workers.
    """
    try:
        attach(str(local_copy(proof.source)) if proof.source else "")
        model: ModelConfig = ray.cloudpickle.loads(proof.model)
        own = versions(replace(proof.origin, model_code=proof.origin.model_code | model_code(model)))
    except Exception as error:  # whatever an import raises
        return f"the study's model cannot be imported ({type(error).__name__}: {first_line(error)})"
    if proof.versions is None:
        return ""
    differing = [
        f"{name} {has or 'missing'}, expected {expected}"
        for part, found in proof.versions.items()
        for name, expected in found.items()
        if _public(has := own[part].get(name, "")) != _public(expected)
    ]
    return f"other code or packages than the driver's: {'; '.join(differing)}" if differing else ""


def _public(version: str) -> str:
    """Return a version without its build, such as ``+cpu``."""
    return version.partition("+")[0]


def _check_clock(driver_time: Callable[[], float]) -> list[str]:
    """Say that the clock differs."""
    ahead = -seconds_ahead(driver_time)
    if abs(ahead) <= CLOCK_S:
        return []
    return [f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of the driver's node"]
