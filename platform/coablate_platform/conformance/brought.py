"""Runs a suite on what a user brings, by reference."""

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
from coablate_platform.study.overrides import MODELS
from coablate_platform.study.search import SAMPLER_KIND

What = Literal["model", "data", "protocol", "sampler", "study"]


def outcomes_of(what: What, reference: str, folder: Path | None = None) -> Iterator[Outcome]:
    """Yield the outcomes of a suite, one check after the other.

    Args:
        what: which suite.
        reference: ``file.py:NAME``, ``file.py`` where just one object in it fits, ``module:NAME`` or a known name.
        folder: of ``data``, where clips lie; without one, only the reader itself is checked.

    Raises:
        InputError: the reference leads to nothing of that kind, or there is no such folder.
    """
    if folder is not None and (what != "data" or not folder.exists()):
        raise InputError(f"{folder}: {'no such folder' if what == 'data' else f'a {what} is checked without a folder'}")
    if what == "model":
        yield from MODEL.run(ModelSubject(config=_brought(reference, MODELS)))
    elif what == "data":
        reader = formats.READERS.get(reference) or _brought(reference, formats.KIND)
        subject = ReaderSubject(reader=reader, folder=folder)
        yield from READER.run(subject)
        if folder is not None:
            yield from CLIPS.run(subject)
    elif what == "protocol":
        protocol = protocols.PROTOCOLS.get(reference) or _brought(reference, protocols.KIND)
        yield from PROTOCOL.run(ProtocolSubject(protocol=protocol))
    elif what == "sampler":
        yield from SAMPLER.run(SamplerSubject(factory=_brought(reference, SAMPLER_KIND)))
    else:
        yield from STUDY.run(StudySubject(study=load_study(reference)))


def _brought(reference: str, kind: Kind) -> Any:
    source.forget()
    return load_object(reference, kind).value
