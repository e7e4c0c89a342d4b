"""Runs the suite of checks on an object that is named by a reference. ``coablate check`` prints the outcomes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from coablate_platform.conformance.model import MODEL, ModelSubject
from coablate_platform.conformance.protocol import PROTOCOL, ProtocolSubject
from coablate_platform.conformance.reader import CLIPS, READER, ReaderSubject
from coablate_platform.conformance.sampler import SAMPLER, SamplerSubject
from coablate_platform.conformance.study import STUDY, StudySubject
from coablate_platform.conformance.suite import Outcome
from coablate_platform.data import formats, protocols
from coablate_platform.study import source
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import Kind, load_object
from coablate_platform.study.load import load_study
from coablate_platform.study.overrides import MODEL_KIND
from coablate_platform.study.search import SAMPLER_KIND

SuiteName = Literal["model", "data", "protocol", "sampler", "study"]


def run_checks(suite: SuiteName, reference: str, folder: Path | None = None) -> Iterator[Outcome]:
    """Run a suite and yield the outcome of each check.

    Args:
        suite: which suite.
        reference: ``file.py:NAME``, ``file.py`` if exactly one object in it fits, ``module:NAME``, or a registered or
            built-in name.
        folder: for ``data`` only, a folder of the data set's files. If None, only the reader itself is checked.

    Raises:
        InputError: the reference names no object of this kind, or the folder does not exist.
    """
    if folder is not None and suite != "data":
        raise InputError(f"{folder}: a {suite} is checked without a folder")
    if folder is not None and not folder.exists():
        raise InputError(f"{folder}: no such folder")
    if suite == "model":
        yield from MODEL.run(ModelSubject(config=_load(reference, MODEL_KIND)))
    elif suite == "data":
        reader = formats.READERS.get(reference) or _load(reference, formats.READER_KIND)
        subject = ReaderSubject(reader=reader, folder=folder)
        yield from READER.run(subject)
        if folder is not None:
            yield from CLIPS.run(subject)
    elif suite == "protocol":
        protocol = protocols.PROTOCOLS.get(reference) or _load(reference, protocols.PROTOCOL_KIND)
        yield from PROTOCOL.run(ProtocolSubject(protocol=protocol))
    elif suite == "sampler":
        yield from SAMPLER.run(SamplerSubject(factory=_load(reference, SAMPLER_KIND)))
    else:
        yield from STUDY.run(StudySubject(study=load_study(reference)))


def _load(reference: str, kind: Kind) -> Any:
    source.forget()
    return load_object(reference, kind).value
