"""Derives every random stream from keys that name its purpose.

A stream therefore depends neither on global state nor on how much of another stream was used.
"""

import hashlib
import json

import numpy as np


def _digest(keys: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(json.dumps(keys, separators=(",", ":")).encode()).digest()


def stream(*keys: str | int) -> np.random.Generator:
    """Return a new generator for these keys: PCG64, seeded with the first 128 bits of the keys' SHA-256.

    Args:
        keys: the purpose of the stream, as in ``stream(study_seed, run_seed, "order", epoch)``; ``1`` and ``"1"`` are
            different keys.
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(keys)[:16])))


def stream_seed(*keys: str | int) -> int:
    """Return a seed in [0, 2⁶³) for other generators (``torch.manual_seed``), derived from the keys as in
    :func:`stream`."""
    return int.from_bytes(_digest(keys)[:8]) >> 1
