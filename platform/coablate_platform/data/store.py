"""The prepared store: gives both modalities of a clip by row number, from memory that the processes of a node share."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from coablate_platform.data.joints import JointLayout
from coablate_platform.data.mapping import index_of, list_shards, map_shards
from coablate_platform.data.protocols import Protocol
from coablate_platform.data.schema import METADATA, StoreMetadata
from coablate_platform.data.video import Buffer, VideoError, decode
from coablate_platform.files import filesystem_of
from coablate_platform.study.errors import InputError, first_line

# T skeleton frames · M bodies · V joints · F video frames


@dataclass(frozen=True, kw_only=True)
class StoredVideo:
    """The encoded video of a stored clip.

    Args:
        name: name of the clip.
        data: MPEG-4 part 2 elementary stream.
        packets: size of each frame's packet in bytes, (F,) int32.
        size: height and width of a frame in pixels.
    """

    name: str
    data: Buffer
    packets: NDArray[np.int32]
    size: tuple[int, int]

    def decode(self, wanted: list[int]) -> list[NDArray[np.uint8]]:
        """Return frames (H, W, 3) by their numbers, which are ascending.

        Raises:
            VideoError: the stream is damaged; the message names the clip.
        """
        try:
            return decode(self.data, self.packets, wanted)
        except VideoError as error:
            raise VideoError(f"clip {self.name!r}: its stored video {error}") from error


@dataclass(frozen=True, kw_only=True)
class StoredClip:
    """A clip of the store; its arrays are read-only views of memory-mapped files.

    Args:
        name: unique in the store.
        label: class, counted from 0.
        xyz: joints (T, M, V, 3) in metres; zeros where a body is absent.
        pixels: joints in pixels of the stored video (T, M, V, 2), x then y; zeros where a body is absent, NaN where
            the position is unknown. None without a video.
        valid: (T, M), whether the body was tracked in the frame.
        video: the encoded video; None in a store without video.
    """

    name: str
    label: int
    xyz: NDArray[np.float32]
    pixels: NDArray[np.float32] | None
    valid: NDArray[np.bool_]
    video: StoredVideo | None


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open store, returned by :meth:`open`.

    Args:
        uri: its path or URI.
        metadata: the content of ``store.json``.
        index: one row per clip, sorted by name, so that row numbers do not depend on the sharding. Columns: ``name``,
            ``label``, ``subject``, ``camera``, ``setup``, ``replication``, ``frames``, ``bodies``, ``video_*``,
            ``digest``, and ``batch`` and ``row``, the clip's place in ``batches``.
        batches: the memory-mapped rows of all shards.
    """

    uri: str
    metadata: StoreMetadata
    index: pa.Table
    batches: list[pa.RecordBatch]

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Open a store; the first process that opens it on a node unpacks it.

        Args:
            uri: a local folder, or a URI that ``pyarrow.fs`` opens.

        Raises:
            InputError: there is no store, or it is unfinished, damaged or in another version of the format.
        """
        filesystem, root = filesystem_of(uri)
        metadata = read_metadata(filesystem, root, uri)
        if metadata is None:
            raise InputError(f"{uri}: not a prepared store (no {METADATA}); make one with `coablate data prepare`")
        if metadata.fingerprint is None:
            raise InputError(f"{uri}: its preparation did not finish; run the same `coablate data prepare` again")
        batches = map_shards(filesystem, root, uri, metadata)
        return cls(uri=uri, metadata=metadata, index=index_of(batches), batches=batches)

    def __len__(self) -> int:
        return int(self.index.num_rows)

    @property
    def fingerprint(self) -> str:
        return str(self.metadata.fingerprint)

    @property
    def source(self) -> str:
        return self.metadata.source

    @property
    def classes(self) -> tuple[str, ...]:
        return self.metadata.classes

    @property
    def layout(self) -> JointLayout:
        return self.metadata.joint_layout

    @property
    def persons(self) -> int:
        return self.metadata.persons

    @property
    def has_video(self) -> bool:
        return self.metadata.has_video

    @property
    def default_protocol(self) -> str:
        return self.metadata.default_protocol

    @property
    def own_protocol(self) -> Protocol | None:
        """The protocol that came with the reader, where that brought one."""
        return self.metadata.own_protocol

    @cached_property
    def names(self) -> list[str]:
        """Names of the clips by row."""
        return [str(name) for name in self.index["name"].to_pylist()]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the clips by row."""
        return np.asarray(self.index["label"])

    @cached_property
    def _places(self) -> NDArray[np.int32]:
        """Number of the batch, and row in it, of each clip: (N, 2)."""
        return np.stack([np.asarray(self.index["batch"]), np.asarray(self.index["row"])], axis=1)

    def clip(self, row: int) -> StoredClip:
        """Return the clip in a row of :attr:`index`."""
        number, position = self._places[row].tolist()
        batch = self.batches[number]
        frames, bodies = batch["frames"][position].as_py(), batch["bodies"][position].as_py()
        joints = len(self.layout.joints)
        pixels, packets = batch["pixels"][position].values, batch["packets"][position].values
        name = self.names[row]
        return StoredClip(
            name=name,
            label=int(self.labels[row]),
            xyz=batch["xyz"][position].values.to_numpy().reshape(frames, bodies, joints, 3),
            pixels=None if pixels is None else pixels.to_numpy().reshape(frames, bodies, joints, 2),
            valid=batch["valid"][position].values.to_numpy(zero_copy_only=False).reshape(frames, bodies),
            video=None if packets is None else self._video(name, batch, position, packets.to_numpy()),
        )

    def _video(self, name: str, batch: pa.RecordBatch, position: int, packets: NDArray[np.int32]) -> StoredVideo:
        size = (batch["video_height"][position].as_py(), batch["video_width"][position].as_py())
        return StoredVideo(name=name, data=batch["video"][position].as_buffer(), packets=packets, size=size)


def read_metadata(filesystem: fs.FileSystem, root: str, uri: str) -> StoreMetadata | None:
    """Read ``store.json``; return None where the folder has neither this file nor shards.

    Raises:
        InputError: the folder is missing or cannot be read; or the file is damaged, in another version of the format,
            or missing though there are shards.
    """
    path = f"{root}/{METADATA}"
    try:
        if filesystem.get_file_info(root).type is not fs.FileType.Directory:
            raise InputError(f"{uri}: there is no store here (no such folder)")
        if filesystem.get_file_info(path).type is fs.FileType.NotFound:
            if list_shards(filesystem, root):
                raise InputError(f"{uri}: {METADATA} is missing though there are shards; prepare into another folder")
            return None
        with filesystem.open_input_stream(path) as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"{uri}: the store cannot be read ({first_line(error)})") from None
    return StoreMetadata.from_json(content.decode(errors="replace"), uri)
