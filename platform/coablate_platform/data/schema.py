"""The store's file formats: the Parquet schema of clips, one row each, and the metadata in ``store.json``."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import RawClip, Recipe
from coablate_platform.data.joints import LAYOUTS, JointLayout
from coablate_platform.data.protocols import Protocol
from coablate_platform.data.video import EncodedVideo
from coablate_platform.study.errors import InputError, did_you_mean

# T skeleton frames · M bodies · V joints · F video frames

FORMAT = 1
METADATA = "store.json"
SHARDS = "clips"  # the folder of the Parquet files

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("subject", pa.int64(), nullable=False),
        pa.field("camera", pa.int64(), nullable=False),
        pa.field("setup", pa.int64(), nullable=False),
        pa.field("replication", pa.int64(), nullable=False),
        pa.field("frames", pa.int64(), nullable=False),  # T
        pa.field("bodies", pa.int64(), nullable=False),  # M
        pa.field("video_frames", pa.int64(), nullable=False),  # F; 0 without a video
        pa.field("video_height", pa.int64(), nullable=False),
        pa.field("video_width", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("xyz", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False),  # (T, M, V, 3)
        pa.field("pixels", pa.list_(pa.field("element", pa.float32(), nullable=False))),  # (T, M, V, 2), stored pixels
        pa.field("valid", pa.list_(pa.field("element", pa.bool_(), nullable=False)), nullable=False),  # (T, M)
        pa.field("video", pa.binary()),  # MPEG-4 part 2, an elementary stream
        pa.field(
            "packets", pa.list_(pa.field("element", pa.int32(), nullable=False))
        ),  # size of each video frame in bytes
    ]
)
INDEX = SCHEMA.names[: SCHEMA.get_field_index("digest") + 1]
"""The small columns, which an open store holds in memory."""

PARQUET: dict[str, object] = {
    "use_dictionary": False,
    "column_encoding": {"xyz.list.element": "BYTE_STREAM_SPLIT", "pixels.list.element": "BYTE_STREAM_SPLIT"},
    "compression": {name: "NONE" if name == "video" else "ZSTD" for name in SCHEMA.names}
    | {f"{name}.list.element": "ZSTD" for name in ("xyz", "pixels", "valid", "packets")},
    "write_page_checksum": True,
    "store_schema": True,
}
"""Options of the Parquet writer. Floats are split into byte streams, which zstd compresses well; video is stored as it
is, since it would not become smaller."""

Row = dict[str, str | int | bytes | NDArray[np.generic] | None]
"""One clip as values by column of :data:`SCHEMA`."""


def make_row(clip: RawClip, video: EncodedVideo | None, pixels: NDArray[np.float32] | None) -> Row:
    """Return a clip as a row, with the digest of its content.

    Args:
        clip: the clip as its reader returned it.
        video: the encoded video; None stores none.
        pixels: joints in pixels of the stored video, (T, M, V, 2).
    """
    frames, bodies = clip.xyz.shape[:2]
    height, width = video.size if video else (0, 0)
    row: Row = {
        "name": clip.name,
        "label": int(clip.label),
        "subject": int(clip.subject),
        "camera": int(clip.camera),
        "setup": int(clip.setup),
        "replication": int(clip.replication),
        "frames": frames,
        "bodies": bodies,
        "video_frames": len(video.packets) if video else 0,
        "video_height": height,
        "video_width": width,
    }
    arrays = {
        "xyz": np.ascontiguousarray(clip.xyz, dtype="<f4").ravel(),
        "pixels": None if pixels is None else np.ascontiguousarray(pixels, dtype="<f4").ravel(),
        "valid": np.ascontiguousarray(clip.valid, dtype=np.bool_).ravel(),
        "video": video.data if video else None,
        "packets": np.ascontiguousarray(video.packets, dtype="<i4") if video else None,
    }
    digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
    for name, array in arrays.items():
        content = b"" if array is None else np.frombuffer(array, np.uint8).data
        digest.update(f"\n{name} {'-' if array is None else len(content)}\n".encode())
        digest.update(content)
    return row | {"digest": digest.hexdigest()} | arrays


def fingerprint(names: Sequence[str], digests: Sequence[str]) -> str:
    """Return the SHA-256 of all (name, digest) pairs, sorted: it identifies the content, however it is sharded."""
    pairs = sorted(zip(names, digests, strict=True))
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in pairs).encode()).hexdigest()


FINGERPRINT = re.compile(r"[0-9a-f]{64}")
"""The form of what :func:`fingerprint` returns."""

_REMEMBERED = ("joints", "protocol")
"""Fields of what a reader brings; None where it uses what has a known name."""


@dataclass(frozen=True, kw_only=True)
class StoreMetadata:
    """The content of ``store.json``.

    Args:
        source: name of the data set's format: the reader's name.
        layout: name of the joint layout.
        persons: most persons that a clip can have.
        classes: class names by label.
        default_protocol: the protocol of a study that names none.
        has_video: True: every clip has a video; False: no clip has one.
        recipe: the settings that decided the content: resizing, video encoding and the reader's own.
        versions: versions of the packages that wrote the store.
        fingerprint: see :func:`fingerprint`; None until ``prepare`` has finished.
        joints: fields of the joint layout; None for one of :data:`~coablate_platform.data.joints.LAYOUTS`.
        protocol: fields of the default protocol where the reader brought it; None for one with a known name.
    """

    source: str
    layout: str
    persons: int
    classes: tuple[str, ...]
    default_protocol: str
    has_video: bool
    recipe: Recipe
    versions: dict[str, str]
    fingerprint: str | None = None
    joints: dict[str, Any] | None = None
    protocol: dict[str, Any] | None = None

    def to_json(self) -> str:
        """Return the content of ``store.json``."""
        fields = asdict(self)
        left_out = [name for name in _REMEMBERED if fields[name] is None]
        return json.dumps({"format": FORMAT} | {k: v for k, v in fields.items() if k not in left_out}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "StoreMetadata":
        """Parse ``store.json``; ``where`` names the store in error messages.

        Raises:
            InputError: it is damaged, or has another version of the format.
        """
        try:
            content = json.loads(text)
            found = content.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise InputError(f"{where}: {METADATA} is damaged; delete the store and prepare it again") from None
        if found != FORMAT:
            raise InputError(f"{where}: the store has format {found}, this version reads {FORMAT}; prepare it again")
        try:
            _check_types(content)
            metadata = cls(**content)
            _, _ = metadata.joint_layout, metadata.own_protocol
            return replace(metadata, classes=tuple(metadata.classes))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise InputError(f"{where}: {METADATA} is damaged: {error}") from None

    @cached_property
    def joint_layout(self) -> JointLayout:
        """The joints of the store's skeletons."""
        if self.joints is not None:
            return JointLayout.from_plain(self.joints)
        if self.layout not in LAYOUTS:
            raise ValueError(f"there is no joint layout {self.layout!r}{did_you_mean(self.layout, LAYOUTS)}")
        return LAYOUTS[self.layout]

    @cached_property
    def own_protocol(self) -> Protocol | None:
        """The protocol that came with the reader."""
        return None if self.protocol is None else Protocol.from_plain(self.protocol)

    def differences(self, requested: "StoreMetadata") -> Iterable[str]:
        """Yield, in words, each setting of this store that is different in ``requested``.

        Settings that this store did not record do not count, see :meth:`unrecorded`. Neither does a class list that is
        the beginning of the other one, see :meth:`with_longer_classes`.
        """
        here, there = len(self.classes), len(requested.classes)
        if any(mine != theirs for mine, theirs in zip(self.classes, requested.classes, strict=False)):
            yield f"{here} classes in the store, {there}{' others' if here == there else ''} requested"
        mine = self.with_longer_classes(requested)._compared()
        theirs = requested.with_longer_classes(self)._compared()
        for key in sorted(mine):
            if mine[key] != theirs.get(key):
                long = key in _REMEMBERED
                yield f"other {key}" if long else f"{key} {mine[key]!r} in the store, {theirs.get(key)!r} requested"

    def unrecorded(self, requested: "StoreMetadata") -> list[str]:
        """Return the recipe's settings that ``requested`` has and this store, made by an earlier version, lacks."""
        return sorted(requested.recipe.keys() - self.recipe.keys())

    def with_longer_classes(self, other: "StoreMetadata") -> "StoreMetadata":
        """Return a copy with classes and default protocol of the one of the two that has more classes.

        A data set may be prepared in parts. The first 60 classes of NTU RGB+D 120 are those of NTU RGB+D 60, so labels
        stay the same when the second part is added.
        """
        longer = other if len(other.classes) > len(self.classes) else self
        return replace(self, classes=longer.classes, default_protocol=longer.default_protocol, protocol=longer.protocol)

    def _compared(self) -> dict[str, object]:
        """Return the settings that must be equal for clips to go into one store."""
        names = ("source", "layout", "persons", "default_protocol", "has_video", *_REMEMBERED)
        return {name: getattr(self, name) for name in names} | self.recipe


def _check_types(content: dict[str, Any]) -> None:
    """Check the types of the fields of ``store.json``.

    Raises:
        ValueError: a field has another type than the one that is written.
    """
    key = content.get("fingerprint")
    classes, persons = content.get("classes"), content.get("persons")
    checks = {name: isinstance(content.get(name), str) for name in ("source", "layout", "default_protocol")} | {
        "persons": type(persons) is int and persons > 0,
        "classes": isinstance(classes, list) and bool(classes) and all(isinstance(name, str) for name in classes),
        "has_video": isinstance(content.get("has_video"), bool),
        "recipe": isinstance(content.get("recipe"), dict),
        "versions": isinstance(content.get("versions"), dict),
        # It names a folder of unpacked files: anything else could lead out of the place for them.
        "fingerprint": key is None or (isinstance(key, str) and FINGERPRINT.fullmatch(key) is not None),
    }
    for name, good in checks.items():
        if not good:
            raise ValueError(f"{name} is {str(content.get(name))[:60]!r}")
