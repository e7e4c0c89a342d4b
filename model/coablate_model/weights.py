"""Reading published Kinetics weights into the video stream.

Source: the published PyTorch port of I3D (`rgb_imagenet.pt`, `rgb_charades.pt`), whose state-dict keys :mod:`i3d`
keeps. Only formats that cannot run code are read.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from coablate_model.i3d import I3D

CLASS_LAYER = "logits."
"""The published class layer knows other classes; the model keeps its own."""

BATCH_COUNTER = "num_batches_tracked"
"""Files older than torch 0.4.1 have none, and nothing here depends on it."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What came from a file.

    Args:
        loaded: keys whose values were taken over.
        left_out: keys of the file that were not used (its class layer).
        kept: keys of the model that kept their values (its class layer, batch counters the file lacks).
    """

    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    kept: tuple[str, ...]


def load_kinetics(i3d: I3D, path: str | Path) -> LoadReport:
    """Load published weights into everything but the class layer.

    Args:
        path: ``.safetensors``, or ``.pt``/``.pth`` holding a plain state dict.

    Raises:
        ValueError: no such file, not a state dict, or keys or shapes that are not this network's.
    """
    found = _read(Path(path))
    own = i3d.state_dict()
    wanted = {key for key in own if not key.startswith(CLASS_LAYER)}
    unknown = sorted(key for key in found if key not in wanted and not key.startswith(CLASS_LAYER))
    missing = sorted(key for key in wanted - found.keys() if not key.endswith(BATCH_COUNTER))
    if unknown or missing:
        raise ValueError(f"weights {path}: not an I3D of the published layout; {_differences(unknown, missing)}")
    loaded = {key: value for key, value in found.items() if key in wanted}
    for key, value in loaded.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"weights {path}: {key} has shape {tuple(value.shape)}, the model's is {tuple(own[key].shape)} "
                "(published weights need width 1 and 3 video channels)"
            )
    i3d.load_state_dict(loaded, strict=False)
    return LoadReport(
        loaded=tuple(loaded),
        left_out=tuple(key for key in found if key not in loaded),
        kept=tuple(key for key in own if key not in loaded),
    )


class Pretrained(nn.Module):
    """Loads a file when it is made, and again whenever parameters are drawn anew.

    It owns no parameters. Registered behind the network that it fills, it comes last when every module's
    ``reset_parameters`` is called in turn, so that a new draw does not undo the file.
    """

    def __init__(self, i3d: I3D, path: str) -> None:
        super().__init__()
        self._target = (i3d,)  # in a tuple, so that torch does not count it as a second submodule
        self._path = path
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Say what came from where when the network is printed."""
        own = sum(not key.endswith(BATCH_COUNTER) for key in self.report.kept)
        return f"{self._path}: {len(self.report.loaded)} tensors loaded, {own} of its own (class layer)"

    def reset_parameters(self) -> None:
        """Load the file."""
        self.report = load_kinetics(self._target[0], self._path)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"weights {path}: no such file")
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"weights {path}: unknown format {path.suffix!r}, expected .safetensors, .pt or .pth")
    try:
        found = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"weights {path}: cannot be read ({_first_line(error)})") from error
    except Exception as error:  # torch raises pickle.UnpicklingError for what weights_only refuses
        raise ValueError(f"weights {path}: holds more than tensors ({_first_line(error)})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"weights {path}: expected a state dict of tensors, found {type(found).__name__}")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _differences(unknown: list[str], missing: list[str]) -> str:
    parts = [
        f"{len(keys)} {kind} (first: {keys[0]})" for kind, keys in [("unknown", unknown), ("missing", missing)] if keys
    ]
    return ", ".join(parts)
