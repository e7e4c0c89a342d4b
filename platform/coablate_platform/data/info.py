"""Describes a store in numbers, for ``coablate data info``."""

from dataclasses import dataclass

import numpy as np

from coablate_platform.data.formats.clip import Recipe
from coablate_platform.data.protocols import for_source
from coablate_platform.data.store import Store


@dataclass(frozen=True, kw_only=True)
class ProtocolCounts:
    """The sizes of a protocol's splits in one store.

    Args:
        name: name of the protocol.
        default: whether a study that names no protocol gets this one.
        train: clips of the training split without the validation clips.
        validation: clips of the validation split.
        test: clips of the test split.
        rule: the rule that chooses the validation split, in words.
    """

    name: str
    default: bool
    train: int
    validation: int
    test: int
    rule: str


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """A store in numbers.

    Args:
        uri: the store's path or URI.
        source: name of the data set's format.
        fingerprint: SHA-256 of the content.
        clips: number of clips.
        classes: class names by label.
        clips_per_class: number of clips by label.
        joints: joints per person.
        persons: most persons that a clip can have.
        frames: minimum, median and maximum of a clip's skeleton frames.
        video_sizes: number of clips by (height, width) of their stored frames; empty without video.
        recipe: the settings that the store was made with.
        versions: versions of the packages that made it.
        protocols: the protocols of the data set whose training and test splits are not empty.
    """

    uri: str
    source: str
    fingerprint: str
    clips: int
    classes: tuple[str, ...]
    clips_per_class: tuple[int, ...]
    joints: int
    persons: int
    frames: tuple[int, float, int]
    video_sizes: dict[tuple[int, int], int]
    recipe: Recipe
    versions: dict[str, str]
    protocols: tuple[ProtocolCounts, ...]


def describe_store(store: Store) -> StoreDescription:
    """Describe a store; only its index is read, no clip."""
    frames = np.asarray(store.index["frames"])
    sizes = np.stack([np.asarray(store.index["video_height"]), np.asarray(store.index["video_width"])], axis=1)
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    return StoreDescription(
        uri=store.uri,
        source=store.source,
        fingerprint=store.fingerprint,
        clips=len(store),
        classes=store.classes,
        clips_per_class=tuple(np.bincount(store.labels, minlength=len(store.classes)).tolist()),
        joints=len(store.layout.joints),
        persons=store.persons,
        frames=(int(frames.min()), float(np.median(frames)), int(frames.max())),
        video_sizes={(h, w): n for (h, w), n in zip(kinds.tolist(), counts.tolist(), strict=True) if h},
        recipe=store.metadata.recipe,
        versions=store.metadata.versions,
        protocols=_protocol_counts(store),
    )


def _protocol_counts(store: Store) -> tuple[ProtocolCounts, ...]:
    counts = []
    for protocol in for_source(store.source, store.own_protocol):
        split = {name: len(rows) for name, rows in protocol.split(store.index).items()}
        if split["train"] and split["test"]:
            default = protocol.name == store.default_protocol
            counts.append(ProtocolCounts(name=protocol.name, default=default, rule=protocol.rule, **split))
    return tuple(counts)
