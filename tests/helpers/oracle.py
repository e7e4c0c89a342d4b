"""Stored outputs of public ancestors, with the weights and inputs that a recipe draws for them.

``draw`` and ``Oracle.inputs`` are that recipe. An output file's metadata lists the ancestor's state-dict keys, from
which the weights are drawn.
"""

import json
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

ORACLES = Path(__file__).parents[1] / "model" / "oracles"


class Oracle:
    """One file of stored outputs, with the weights and inputs that they belong to.

    Args:
        name: of the file.
        layer_norms: how the names of layer norms end, whose weights are drawn like those of batch norms.
    """

    def __init__(self, name: str, layer_norms: tuple[str, ...] = ()) -> None:
        with safe_open(ORACLES / f"{name}.safetensors", "pt") as file:
            self.meta = file.metadata()
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
        shapes = json.loads(self.meta.get("keys", "{}"))
        self.weights = {
            key: draw(
                key, tuple(shape), norm=is_batch_norm(key, shapes) or key.rpartition(".")[0].endswith(layer_norms)
            )
            for key, shape in shapes.items()
        }

    def inputs(self) -> list[Tensor]:
        shapes = json.loads(self.meta["inputs"])
        return [
            torch.from_numpy(np.random.default_rng(1000 + i).standard_normal(shape).astype(np.float32))
            for i, shape in enumerate(shapes)
        ]

    def outputs(self) -> list[Tensor]:
        return [self.tensors[f"output/{i}"] for i in range(len(self.tensors))]


def is_batch_norm(key: str, keys: Collection[str]) -> bool:
    return module_of(key) + ".running_mean" in keys


def draw(key: str, shape: tuple[int, ...], *, norm: bool) -> Tensor:
    """Draw a weight from its state-dict key; the values keep activations at a moderate scale."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    kind = key.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    if norm and kind in ("weight", "running_var"):
        values = generator.uniform(0.5, 1.5, shape)
    elif kind in ("bias", "running_mean") or len(shape) == 1:
        values = 0.1 * generator.standard_normal(shape)
    else:
        values = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def load(module: nn.Module, weights: dict[str, Tensor], rename: Callable[[str], str]) -> None:
    """Load an ancestor's weights under our state-dict keys and switch to eval mode."""
    module.load_state_dict({rename(key): value for key, value in weights.items()}, strict=True)
    module.eval()


def assert_close(found: Tensor, expected: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def leaf(key: str) -> str:
    """Return the last part of a state-dict key: ``weight``, ``bias`` …"""
    return key.rpartition(".")[2]


def module_of(key: str) -> str:
    """Return the name of the module that a state-dict key belongs to."""
    return key.rpartition(".")[0]
