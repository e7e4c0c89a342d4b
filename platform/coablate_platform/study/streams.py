"""Derives every random stream from what it is for, so that none depends on global state or on another's use."""

import hashlib
import json

import numpy as np


def _digest(keys: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(json.dumps(keys, separators=(",", ":")).encode()).digest()


def stream(*keys: str | int) -> np.random.Generator:
    """Return a generator of its own for these keys: PCG64 seeded with the first 128 bits of the keys' SHA-256.

    Args:
        keys: what the stream is for, as in ``stream(study_seed, run_seed, "order", epoch)``; ``1`` and ``"1"`` differ.
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(keys)[:16])))


def stream_seed(*keys: str | int) -> int:
    """Return a seed in [0, 2⁶³) for generators outside numpy (``torch.manual_seed``), derived like :func:`stream`."""
    return int.from_bytes(_digest(keys)[:8]) >> 1
