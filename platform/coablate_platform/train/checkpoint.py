"""Complete, atomic, verified checkpoints below one folder or object-storage prefix. No Ray here.

``last.pt`` is the newest state, ``previous.pt`` the one before it, ``selected.pt`` the weights that will be tested.
Each file is 64 hex digits of SHA-256, a newline, and ``torch.save`` bytes; it is written aside and renamed.
"""

import hashlib
import io
import logging
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from coablate_platform.files import exists, filesystem_of, write_atomically

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        uri: the run's own folder, a local path or any URI that ``pyarrow.fs`` knows.
    """

    def __init__(self, uri: str) -> None:
        self._fs, self._folder = filesystem_of(uri)
        self._fs.create_dir(self._folder, recursive=True)

    def save(self, state: dict[str, Any]) -> None:
        """Make ``state`` the newest checkpoint and keep the one before it.

        Raises:
            OSError: it could not be written; what was there before is untouched.
        """
        self._write("next.pt", _sealed(state))
        if self._has("last.pt"):
            self._fs.move(self._path("last.pt"), self._path("previous.pt"))
        self._fs.move(self._path("next.pt"), self._path("last.pt"))

    def copy(self, other: "Checkpoints") -> None:
        """Begin where another run stands: with its newest checkpoint that is whole.

        Raises:
            OSError: it has none, or it could not be copied.
        """
        if (state := other.load()) is None:
            raise FileNotFoundError(f"{other._folder}: no checkpoint to go on from")
        self.save(state)

    @property
    def epoch(self) -> int:
        """The epoch that the newest whole checkpoint stands at; 0 without one."""
        state = self.load()
        return 0 if state is None else int(state["epoch"])

    def load(self) -> dict[str, Any] | None:
        """Return the newest checkpoint that is whole, or None where there is none."""
        for name in ("last.pt", "previous.pt"):
            state: dict[str, Any] | None = self._read(name)
            if state is not None:
                return state
        return None

    def save_selected(self, weights: dict[str, Tensor]) -> None:
        """Keep the weights that the selection rule prefers so far."""
        self._write("selected.pt", _sealed(weights))

    def load_selected(self) -> dict[str, Tensor] | None:
        """Return the weights that :meth:`save_selected` kept, or None where there are none."""
        weights: dict[str, Tensor] | None = self._read("selected.pt")
        return weights

    def save_weights(self, weights: dict[str, Tensor]) -> None:
        """Write ``weights.safetensors``, for people: those that are tested."""
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        self._write("weights.safetensors", to_safetensors(contiguous))

    def clear(self) -> None:
        """Leave nothing that only a resumption would need."""
        for name in ("last.pt", "previous.pt", "selected.pt"):
            if self._has(name):
                self._fs.delete_file(self._path(name))

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self._fs, self._path(name), content)

    def _read(self, name: str) -> Any:
        if not self._has(name):
            return None
        with self._fs.open_input_stream(self._path(name)) as stream:
            digest, _, payload = stream.read().partition(b"\n")
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            log.warning("checkpoint %s is damaged; going on from the one before it", self._path(name))
            return None
        return torch.load(io.BytesIO(payload), weights_only=True)

    def _has(self, name: str) -> bool:
        return exists(self._fs, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _sealed(value: Any) -> bytes:
    """Return ``torch.save`` bytes behind their SHA-256."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    payload = buffer.getvalue()
    return hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
