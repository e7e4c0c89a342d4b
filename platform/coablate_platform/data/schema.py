"""How a clip lies in the store: a row of one Parquet file, and what the store says of itself in ``store.json``."""

import hashlib
import json
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
from coablate_platform.study.errors import InputError

# T skeleton frames · M bodies · V joints · F video frames

FORMAT = 1
METADATA = "store.json"
SHARDS = "clips"  # folder of the Parquet files

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
        pa.field("packets", pa.list_(pa.field("element", pa.int32(), nullable=False))),  # bytes of each video frame
    ]
)
INDEX = SCHEMA.names[: SCHEMA.get_field_index("digest") + 1]
"""The light columns, held in memory by an open store."""

PARQUET: dict[str, Any] = {
    "use_dictionary": False,
    "column_encoding": {"xyz.list.element": "BYTE_STREAM_SPLIT", "pixels.list.element": "BYTE_STREAM_SPLIT"},
    "compression": {name: "NONE" if name == "video" else "ZSTD" for name in SCHEMA.names}
    | {f"{name}.list.element": "ZSTD" for name in ("xyz", "pixels", "valid", "packets")},
    "write_page_checksum": True,
    "store_schema": True,
}
"""How a shard is written: floats by byte planes, which zstd shrinks; video as it is, it does not shrink."""


def make_row(clip: RawClip, video: EncodedVideo | None, pixels: NDArray[np.float32] | None) -> dict[str, Any]:
    """Return the clip as a row of :data:`SCHEMA`, with the digest of its content.

    Args:
        clip: as read.
        video: its frames as stored.
        pixels: its joints in stored pixels, (T, M, V, 2).
    """
    frames, bodies = clip.xyz.shape[:2]
    height, width = video.size if video else (0, 0)
    row: dict[str, Any] = {
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
    """Return the SHA-256 of all (name, digest) in the order of names: the content, however it is sharded."""
    pairs = sorted(zip(names, digests, strict=True))
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in pairs).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class StoreMetadata:
    """What ``store.json`` holds.

    Args:
        source: name of the format that the clips came in.
        layout: name of the skeleton's joint layout.
        persons: persons a clip has at most.
        classes: names by label.
        default_protocol: the protocol of a study that names none.
        has_video: whether every clip has a video, or none has.
        recipe: what decided the content: resizing, codec, and how the source reads.
        versions: of the packages that wrote it.
        fingerprint: see :func:`fingerprint`; None while ``prepare`` is under way.
        joints: the joint layout's fields; None for one of :data:`~coablate_platform.data.joints.LAYOUTS`.
        protocol: fields of a protocol that came with the reader, the default one; None for one that has a known name.
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
        fields = asdict(self)
        left_out = [name for name in ("joints", "protocol") if fields[name] is None]
        return json.dumps({"format": FORMAT} | {k: v for k, v in fields.items() if k not in left_out}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "StoreMetadata":
        """Read ``store.json``.

        Raises:
            InputError: it is damaged, or of another version of the format.
        """
        try:
            content = json.loads(text)
            found = content.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise InputError(f"{where}: {METADATA} is damaged; delete the store and prepare it anew") from None
        if found != FORMAT:
            raise InputError(f"{where}: the store has format {found}, this version reads {FORMAT}; prepare it anew")
        try:
            metadata = cls(**content)
            _, _ = metadata.joint_layout, metadata.own_protocol
            return replace(metadata, classes=tuple(metadata.classes))
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{where}: {METADATA} is damaged: {error}") from None

    @cached_property
    def joint_layout(self) -> JointLayout:
        """The joints of the store's skeletons."""
        return LAYOUTS[self.layout] if self.joints is None else JointLayout.from_plain(self.joints)

    @cached_property
    def own_protocol(self) -> Protocol | None:
        """The protocol that came with the reader."""
        return None if self.protocol is None else Protocol.from_plain(self.protocol)

    def differences(self, other: "StoreMetadata") -> Iterable[str]:
        """Yield in words what of the source or the recipe is not the same in ``other``.

        What the recipe here does not say is none, see :meth:`unsaid`; nor are more classes, see :meth:`widened`.
        """
        here, there = len(self.classes), len(other.classes)
        if any(mine != theirs for mine, theirs in zip(self.classes, other.classes, strict=False)):
            yield f"{here} classes in the store, {there}{' others' if here == there else ''} asked for"
        mine, others = self.widened(other)._decisive(), other.widened(self)._decisive()
        for key in sorted(mine):
            if mine[key] != others.get(key):
                yield f"{key} {mine[key]!r} in the store, {others.get(key)!r} asked for"

    def unsaid(self, other: "StoreMetadata") -> list[str]:
        """Return what ``other``'s recipe names and this one does not: an earlier version wrote it."""
        return sorted(other.recipe.keys() - self.recipe.keys())

    def widened(self, other: "StoreMetadata") -> "StoreMetadata":
        """Return this with the classes and the default protocol of whichever has more classes.

        A set may come in parts: the first classes of NTU RGB+D 120 are those of NTU RGB+D 60, so that labels stay.
        """
        wider = other if len(other.classes) > len(self.classes) else self
        return replace(self, classes=wider.classes, default_protocol=wider.default_protocol, protocol=wider.protocol)

    def _decisive(self) -> dict[str, Any]:
        kept = ("source", "layout", "persons", "default_protocol", "has_video", "joints", "protocol")
        return {name: getattr(self, name) for name in kept} | self.recipe
