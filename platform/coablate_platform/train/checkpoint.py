"""Reads and writes checkpoints in a local folder or below an object-storage prefix. No Ray here.

``last.pt`` is the newest checkpoint and ``previous.pt`` the one before it. Each file holds a SHA-256 (64 hex digits), a
newline, and the bytes of ``torch.save``. On a disk it is written under another name, flushed and then renamed, so a
reader never sees half a file, also after a power cut. In object storage a put is atomic.
"""

import hashlib
import io
import logging
import pickle
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from coablate_platform.files import exists, filesystem_of, flush_folder, is_object_storage, write_atomically
from coablate_platform.study.errors import InputError

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        uri: the run's own folder, a local path or a URI that ``pyarrow.fs`` supports; it need not exist.
    """

    def __init__(self, uri: str) -> None:
        self._fs, self._folder = filesystem_of(uri)

    def save(self, state: dict[str, Any]) -> None:
        """Write ``state`` as the newest checkpoint, and keep the one before it.

        Raises:
            OSError: it could not be written; earlier checkpoints are unchanged.
        """
        if is_object_storage(self._fs):
            self._keep_last()
            self._write("last.pt", _with_digest(state))
            return
        self._write("next.pt", _with_digest(state))
        if self._has("last.pt"):
            self._fs.move(self._path("last.pt"), self._path("previous.pt"))
        self._fs.move(self._path("next.pt"), self._path("last.pt"))
        flush_folder(self._fs, self._folder)

    def copy_from(self, other: "Checkpoints") -> None:
        """Copy another run's newest undamaged checkpoint, from which this run then continues.

        Raises:
            OSError: there is none, or it could not be copied.
        """
        if (state := other.load()) is None:
            raise FileNotFoundError(f"{other._folder}: no checkpoint to continue from")
        self.save(state)

    @property
    def epoch(self) -> int:
        """The epoch of the newest undamaged checkpoint; 0 where there is none."""
        state = self.load()
        return 0 if state is None else int(state["epoch"])

    def load(self) -> dict[str, Any] | None:
        """Return the newest undamaged checkpoint, or None where there is none.

        Raises:
            InputError: it holds code.
        """
        for name in ("last.pt", "previous.pt"):
            state: dict[str, Any] | None = self._read(name)
            if state is not None:
                return state
        return None

    def save_weights(self, weights: dict[str, Tensor]) -> None:
        """Write the tested weights to ``weights.safetensors``, for use outside Coablate."""
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        self._write("weights.safetensors", to_safetensors(contiguous))

    def clear(self) -> None:
        """Delete the checkpoints, which only a resumed run needs; ``weights.safetensors`` stays."""
        for name in ("last.pt", "previous.pt"):
            if self._has(name):
                self._fs.delete_file(self._path(name))

    def _keep_last(self) -> None:
        """Copy the newest checkpoint, if there is one, to the place of the one before it: one request."""
        try:
            self._fs.copy_file(self._path("last.pt"), self._path("previous.pt"))
        except OSError:
            if self._has("last.pt"):
                raise

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self._fs, self._path(name), content)

    def _read(self, name: str) -> Any:
        if not self._has(name):
            return None
        with self._fs.open_input_stream(self._path(name)) as stream:
            content = stream.read()
        if not is_intact(content):
            log.warning("checkpoint %s is damaged; resuming from the one before it", self._path(name))
            return None
        try:
            return torch.load(io.BytesIO(content.partition(b"\n")[2]), weights_only=True)
        except pickle.UnpicklingError:  # torch's message advises to load in a way that runs code from the file
            raise InputError(
                f"checkpoint {self._path(name)}: holds more than tensors and plain values, so Coablate did not write "
                "it; delete its folder to train the run from the start"
            ) from None

    def _has(self, name: str) -> bool:
        return exists(self._fs, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def is_intact(content: bytes) -> bool:
    """Return whether the content of a checkpoint file fits the SHA-256 in front of it."""
    digest, _, payload = content.partition(b"\n")
    return hashlib.sha256(payload).hexdigest().encode() == digest


def _with_digest(value: object) -> bytes:
    """Return the bytes of ``torch.save``, with their SHA-256 and a newline in front."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    payload = buffer.getvalue()
    return hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
