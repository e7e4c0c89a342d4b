"""Protocols: the published train/test splits of each data set, as row filters over one store, and a validation split.

None of these data sets has an official validation split, and public code selects checkpoints on the test split. Every
protocol here therefore holds out training rows by a named rule. Selection uses those; the test split is used once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coablate_platform.data.sides import codes_with
from coablate_platform.study.extensions import Kind, Loaded, load_object, registered, type_mismatch

SPLITS = ("train", "validation", "test")
_RULES = ("train", "test", "validation")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A row filter: keeps rows whose subject, camera and setup are all in these sets; None allows every value."""

    subjects: frozenset[int] | None = None
    cameras: frozenset[int] | None = None
    setups: frozenset[int] | None = None

    def matches(self, rows: Mapping[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
        """Return a mask (N,) of the rows to keep, from columns ``subject``, ``camera`` and ``setup`` of N rows each."""
        columns = {"subject": self.subjects, "camera": self.cameras, "setup": self.setups}
        keep = np.ones(len(rows["subject"]), dtype=np.bool_)
        for name, values in columns.items():
            if values is not None:
                keep &= np.isin(rows[name], sorted(values))
        return keep


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way to divide the clips of one data set into train, validation and test split.

    A protocol that rules cannot express is a subclass with a ``split`` of its own.

    Args:
        name: ``set/split``, after the published name.
        source: name of the :class:`~coablate_platform.data.formats.clip.Reader` whose clips it divides.
        train: rows of the published training split.
        test: rows of the published test split.
        validation: rows that are held out of training for selection.
        rule: the rule of ``validation`` in words.
        description: the protocol in words.
        classes: number of classes if the protocol uses only the first of the data set's, else None.
    """

    name: str
    source: str
    train: Rule
    test: Rule
    validation: Rule
    rule: str
    description: str
    classes: int | None = None

    def split(self, rows: Mapping[str, ArrayLike], *, hold_out: bool = True) -> dict[str, NDArray[np.int64]]:
        """Divide rows into disjoint splits ``train``, ``validation`` and ``test``.

        Args:
            rows: integer columns ``subject``, ``camera`` and ``setup`` of equal length, as numpy or Arrow arrays; a
                ``pyarrow.Table`` is also accepted.
            hold_out: whether validation rows are held out of training. If not, the validation split is empty and the
                training split is the published one.

        Returns:
            Ascending row numbers by name of the split.
        """
        columns = {name: np.asarray(rows[name]) for name in ("subject", "camera", "setup")}
        train, test = self.train.matches(columns), self.test.matches(columns)
        held = self.validation.matches(columns) & ~test if hold_out else np.zeros_like(train)
        masks = {"train": train & ~held, "validation": held, "test": test}
        return {name: np.flatnonzero(masks[name]) for name in SPLITS}

    def to_plain(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        rules = {name: vars(getattr(self, name)) for name in _RULES}
        plain = {
            name: {column: None if numbers is None else sorted(numbers) for column, numbers in columns.items()}
            for name, columns in rules.items()
        }
        return {field.name: getattr(self, field.name) for field in fields(self)} | plain

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> "Protocol":
        """Return the protocol whose :meth:`to_plain` gives these values.

        Raises:
            TypeError, KeyError: a field is missing, or unknown.
        """
        rules = {
            name: Rule(
                **{column: None if numbers is None else frozenset(numbers) for column, numbers in said[name].items()}
            )
            for name in _RULES
        }
        return cls(**{**said, **rules})


def _numbers(*parts: int | range) -> frozenset[int]:
    return frozenset(number for part in parts for number in (part if isinstance(part, range) else (part,)))


_NTU60_SETUPS = _numbers(range(1, 18))
_NTU60_TRAIN = _numbers(1, 2, 4, 5, 8, 9, range(13, 20), 25, 27, 28, 31, 34, 35, 38)
_NTU120_TRAIN = _NTU60_TRAIN | _numbers(
    *(45, 46, 47, 49, 50, range(52, 60), 70, 74, 78),
    *(range(80, 87), 89, range(91, 96), 97, 98, 100, 103),
)
_NTU_HELD = _numbers(2, 5, 9, 14)
_ODD, _EVEN = _numbers(range(1, 107, 2)), _numbers(range(2, 107, 2))


def _listed(name: str, source: str, split: tuple[int, int], rule: str, description: str) -> Protocol:
    """Return a protocol whose splits are lists of clips; ``split`` is its number, from 0, and how many the set has."""
    number, count = split
    return Protocol(
        name=name,
        source=source,
        train=Rule(setups=codes_with(count, number, "train", "validation")),
        test=Rule(setups=codes_with(count, number, "test")),
        validation=Rule(setups=codes_with(count, number, "validation")),
        rule=rule,
        description=description,
    )


_ALL = (
    Protocol(
        name="ntu60/cs",
        source="ntu",
        train=Rule(subjects=_NTU60_TRAIN, setups=_NTU60_SETUPS),
        test=Rule(subjects=_numbers(range(1, 41)) - _NTU60_TRAIN, setups=_NTU60_SETUPS),
        validation=Rule(subjects=_NTU_HELD, setups=_NTU60_SETUPS),
        rule="training performers 2, 5, 9 and 14",
        description="NTU RGB+D 60 cross-subject: 20 performers train, the other 20 test",
        classes=60,
    ),
    Protocol(
        name="ntu60/cv",
        source="ntu",
        train=Rule(cameras=_numbers(2, 3), setups=_NTU60_SETUPS),
        test=Rule(cameras=_numbers(1), setups=_NTU60_SETUPS),
        validation=Rule(subjects=_NTU_HELD, cameras=_numbers(2, 3), setups=_NTU60_SETUPS),
        rule="performers 2, 5, 9 and 14 of the training cameras",
        description="NTU RGB+D 60 cross-view: cameras 2 and 3 train, camera 1 tests",
        classes=60,
    ),
    Protocol(
        name="ntu120/csub",
        source="ntu",
        train=Rule(subjects=_NTU120_TRAIN),
        test=Rule(subjects=_numbers(range(1, 107)) - _NTU120_TRAIN),
        validation=Rule(subjects=_NTU_HELD | _numbers(45, 55, 70, 85)),
        rule="training performers 2, 5, 9, 14 (classes 1-60) and 45, 55, 70, 85 (classes 61-120)",
        description="NTU RGB+D 120 cross-subject: 53 performers train, the other 53 test",
    ),
    Protocol(
        name="ntu120/cset",
        source="ntu",
        train=Rule(setups=_numbers(range(2, 33, 2))),
        test=Rule(setups=_numbers(range(1, 33, 2))),
        validation=Rule(setups=_numbers(6, 24)),
        rule="training setups 6 (classes 1-60) and 24 (classes 61-120)",
        description="NTU RGB+D 120 cross-setup: even setups train, odd setups test",
    ),
    Protocol(
        name="utd/cs",
        source="utd_mhad",
        train=Rule(subjects=_numbers(1, 3, 5, 7)),
        test=Rule(subjects=_numbers(2, 4, 6, 8)),
        validation=Rule(subjects=_numbers(7)),
        rule="training subject 7",
        description="UTD-MHAD cross-subject: subjects 1, 3, 5, 7 train, 2, 4, 6, 8 test",
    ),
    Protocol(
        name="utd/few",
        source="utd_mhad",
        train=Rule(subjects=_numbers(1, 3)),
        test=Rule(subjects=_numbers(2, 4, 6, 8)),
        validation=Rule(subjects=_numbers(7)),
        rule="subject 7, who trains in utd/cs and is in neither split here",
        description="UTD-MHAD with half of the training subjects: subjects 1, 3 train, 2, 4, 6, 8 test",
    ),
    Protocol(
        name="ucla/cv",
        source="nw_ucla",
        train=Rule(cameras=_numbers(1, 2)),
        test=Rule(cameras=_numbers(3)),
        validation=Rule(subjects=_numbers(10), cameras=_numbers(1, 2)),
        rule="performer 10 of the training views",
        description="NW-UCLA cross-view: views 1 and 2 train, view 3 tests",
    ),
    *(
        _listed(
            f"jhmdb/split{number + 1}",
            "jhmdb",
            (number, 3),
            "whole source videos: at most a fifth of each class's training clips",
            f"JHMDB, published split {number + 1} of 3: the mean over the three is reported",
        )
        for number in range(3)
    ),
    *(
        _listed(
            f"pku_mmd/{name}",
            "pku_mmd",
            (number, 2),
            "the second of every five training subjects, by number",
            f"PKU-MMD II {long}: the published list says which recordings train and which test",
        )
        for number, (name, long) in enumerate((("cs", "cross-subject"), ("cv", "cross-view")))
    ),
    Protocol(
        name="synthetic/cs",
        source="ntu",
        train=Rule(subjects=_ODD),
        test=Rule(subjects=_EVEN),
        validation=Rule(subjects=_numbers(7)),
        rule="training performer 7",
        description="synthetic set cross-subject: odd performers train, even performers test",
    ),
    Protocol(
        name="synthetic/cv",
        source="ntu",
        train=Rule(cameras=_numbers(2, 3)),
        test=Rule(cameras=_numbers(1)),
        validation=Rule(subjects=_numbers(7), cameras=_numbers(2, 3)),
        rule="performer 7 of the training cameras",
        description="synthetic set cross-view: cameras 2 and 3 train, camera 1 tests",
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


PROTOCOL_KIND = Kind(
    label="protocol",
    unknown_prefix="data.protocol: there is no protocol",
    group="coablate.protocols",
    expected="Protocol",
    mismatch=lambda value: type_mismatch(value, Protocol),
)


def find_protocol(name: str, own: Protocol | None = None) -> Loaded:
    """Return a protocol, and the reference by which other processes can load it.

    Args:
        name: a built-in or registered name, the name of ``own``, ``module:NAME`` or ``file.py:NAME``.
        own: the reader's own protocol, which the store keeps; None if there is none.

    Raises:
        InputError: there is no such protocol; the message names the nearest one.
    """
    known = PROTOCOLS if own is None else {own.name: own, **PROTOCOLS}
    return Loaded(value=known[name], reference=name) if name in known else load_object(name, PROTOCOL_KIND, known)


def get_protocol(name: str, own: Protocol | None = None) -> Protocol:
    """Return a protocol by name or reference, as :func:`find_protocol` does."""
    protocol: Protocol = find_protocol(name, own).value
    return protocol


def for_source(source: str, own: Protocol | None = None) -> tuple[Protocol, ...]:
    """Return all protocols of a data set. Those of ``ntu`` include the synthetic set's protocols.

    Args:
        source: name of the data set's reader.
        own: the reader's own protocol, which the store keeps; None if there is none.

    Raises:
        InputError: a protocol that a package has registered cannot be imported.
    """
    known = (*_ALL, *(() if own is None else (own,)), *map(get_protocol, registered(PROTOCOL_KIND)))
    return tuple(protocol for protocol in known if protocol.source == source)
