"""Runs the suites on what a user brings, by reference."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coablate_platform.conformance.model import MODEL, ModelSubject
from coablate_platform.conformance.protocol import PROTOCOL, ProtocolSubject
from coablate_platform.conformance.reader import READER, ReaderSubject
from coablate_platform.conformance.sampler import SAMPLER, SamplerSubject
from coablate_platform.conformance.study import STUDY, StudySubject
from coablate_platform.conformance.suite import Outcome
from coablate_platform.data import formats, protocols
from coablate_platform.study import source
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import Kind, load_object
from coablate_platform.study.load import load_study
from coablate_platform.study.overrides import MODELS
from coablate_platform.study.search import SAMPLER_KIND


def check_model(reference: str) -> Iterator[Outcome]:
    """Check a model. Like the others, it raises InputError where the reference leads to nothing of the kind."""
    return MODEL.run(ModelSubject(config=_brought(reference, MODELS)))


def check_reader(reference: str, folder: Path | None) -> Iterator[Outcome]:
    """Check a data set's reader, on the clips in a folder where one is given."""
    if folder is not None and not folder.exists():
        raise InputError(f"{folder}: no such folder")
    reader = formats.READERS.get(reference) or _brought(reference, formats.KIND)
    return READER.run(ReaderSubject(reader=reader, folder=folder))


def check_protocol(reference: str) -> Iterator[Outcome]:
    """Check a protocol, on a clip of every performer, camera and setup."""
    protocol = protocols.PROTOCOLS.get(reference) or _brought(reference, protocols.KIND)
    return PROTOCOL.run(ProtocolSubject(protocol=protocol))


def check_sampler(reference: str) -> Iterator[Outcome]:
    """Check a sampler's factory."""
    return SAMPLER.run(SamplerSubject(factory=_brought(reference, SAMPLER_KIND)))


def check_study(reference: str) -> Iterator[Outcome]:
    """Check a study or a search."""
    return STUDY.run(StudySubject(study=load_study(reference)))


def _brought(reference: str, kind: Kind) -> Any:
    source.forget()
    return load_object(reference, kind).value
