"""What a store holds, in numbers, for a person to look at."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from coablate_platform.data.protocols import for_source
from coablate_platform.data.store import Store


@dataclass(frozen=True, kw_only=True)
class ProtocolCounts:
    """How a protocol divides the store.

    Args:
        name: of the protocol.
        default: whether a study that names none gets it.
        train: clips that train when validation subjects are held out.
        validation: clips that are held out.
        test: clips of the test split.
        rule: how validation is chosen, in words.
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
        uri: where it lies.
        source: format it was made from.
        fingerprint: of its content.
        clips: number of clips.
        classes: names by label.
        clips_per_class: clips by label.
        joints: joints a person.
        persons: persons a clip at most.
        frames: fewest, median and most skeleton frames a clip.
        video_sizes: (height, width) of stored frames, with the number of clips; empty without video.
        recipe: how it was made.
        versions: of the packages that made it.
        protocols: those of its source that find clips to train and test on.
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
    recipe: dict[str, Any]
    versions: dict[str, str]
    protocols: tuple[ProtocolCounts, ...]


def describe_store(store: Store) -> StoreDescription:
    """Count what the store holds; no clip is read."""
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
        protocols=_divisions(store),
    )


def _divisions(store: Store) -> tuple[ProtocolCounts, ...]:
    found = []
    for protocol in for_source(store.source, store.own_protocol):
        split = {name: len(rows) for name, rows in protocol.split(store.index).items()}
        if split["train"] and split["test"]:
            default = protocol.name == store.default_protocol
            found.append(ProtocolCounts(name=protocol.name, default=default, rule=protocol.rule, **split))
    return tuple(found)
