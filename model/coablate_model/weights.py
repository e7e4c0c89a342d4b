"""Load published Kinetics weights into the video stream.

Source: the published PyTorch port of I3D (`rgb_imagenet.pt`, `rgb_charades.pt`). :mod:`coablate_model.i3d` has the same
state-dict keys. A file is only loaded in a way that cannot run code from it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from coablate_model.i3d import I3D

CLASS_LAYER = "logits."
"""Key prefix of the class layer. The published one is for Kinetics' classes and is not loaded."""

BATCH_COUNTER = "num_batches_tracked"
"""Batch norm's counter. Files from before torch 0.4.1 lack it, and the model's output does not depend on it."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Which state-dict keys were loaded from a file.

    Args:
        loaded: keys whose values the model now has from the file.
        left_out: keys of the file that were not loaded (its class layer).
        kept: keys of the model whose values did not change (its class layer; batch norm counters that the file lacks).
    """

    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    kept: tuple[str, ...]


def load_kinetics(i3d: I3D, path: str | Path) -> LoadReport:
    """Load published weights into every layer of I3D except the class layer.

    Args:
        i3d: the network whose weights are replaced.
        path: ``.safetensors``, or ``.pt``/``.pth`` with a plain state dict.

    Raises:
        ValueError: the file does not exist, is not a state dict, or has other keys or shapes than the network.
    """
    from_file = _read(Path(path))
    own = i3d.state_dict()
    expected = {key for key in own if not key.startswith(CLASS_LAYER)}
    unknown = sorted(key for key in from_file if key not in expected and not key.startswith(CLASS_LAYER))
    missing = sorted(key for key in expected - from_file.keys() if not key.endswith(BATCH_COUNTER))
    if unknown or missing:
        differences = _describe_differences(unknown, missing)
        raise ValueError(f"weights {path}: expected the keys of the published I3D, found {differences}")
    loaded = {key: value for key, value in from_file.items() if key in expected}
    for key, value in loaded.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"weights {path}: {key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)} "
                "(published weights need width 1 and 3 video channels)"
            )
    i3d.load_state_dict(loaded, strict=False)
    return LoadReport(
        loaded=tuple(loaded),
        left_out=tuple(key for key in from_file if key not in loaded),
        kept=tuple(key for key in own if key not in loaded),
    )


class Pretrained(nn.Module):
    """Loads pretrained weights when it is built, and again on every ``reset_parameters()``.

    It owns no parameters. It must be registered after the network that it fills: when ``reset_parameters()`` of all
    modules is called in order, this one comes last and replaces the random initial values by the file's.
    """

    def __init__(self, i3d: I3D, path: str) -> None:
        super().__init__()
        self._target = (i3d,)  # in a tuple, so that torch does not register it a second time as a submodule
        self._path = path
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Return the file and the number of tensors loaded, shown when the network is printed."""
        kept = sum(not key.endswith(BATCH_COUNTER) for key in self.report.kept)
        return f"{self._path}: {len(self.report.loaded)} tensors loaded, {kept} not loaded (class layer)"

    def reset_parameters(self) -> None:
        """Load the file again."""
        self.report = load_kinetics(self._target[0], self._path)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"weights {path}: no such file")
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"weights {path}: unknown format {path.suffix!r}, expected .safetensors, .pt or .pth")
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"weights {path}: cannot be read ({_first_line(error)})") from error
    except Exception as error:  # weights_only refuses other objects with pickle.UnpicklingError
        raise ValueError(f"weights {path}: contains more than tensors ({_first_line(error)})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"weights {path}: expected a state dict of tensors, found {type(content).__name__}")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _describe_differences(unknown: list[str], missing: list[str]) -> str:
    kinds = {"unknown": unknown, "missing": missing}
    return ", ".join(f"{len(keys)} {kind} (first: {keys[0]})" for kind, keys in kinds.items() if keys)
