"""Load weights of earlier trainings into a stream: published ones, or those that a run of Coablate leaves.

Sources: the published PyTorch port of I3D (`rgb_imagenet.pt`, `rgb_charades.pt`), whose state-dict keys
:mod:`coablate_model.i3d` has; the public PyTorch code of HCN, whose keys are renamed; and `weights.safetensors` of a
run, in which a stream's keys begin with its name. A file is only loaded in a way that cannot run code from it.
"""

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from coablate_model.hcn import HCN
from coablate_model.i3d import I3D

CLASS_LAYERS = {I3D: "logits.", HCN: "fc8."}
"""Key prefix of each stream's class layer, which is never loaded: the file's classes are others."""

STREAM_PREFIXES = {I3D: "i3d.", HCN: "hcn."}
"""What begins the keys of a stream in the weights of a whole network."""

OPTIONAL = ("num_batches_tracked", "tiam.")
"""Parts of keys that a file may lack or have to spare.

Files from before torch 0.4.1 lack batch norm's counter, on which no output depends. TIAM may be new in a network: it
begins as the identity.
"""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training code often keeps a state dict in a checkpoint."""

_PUBLIC_HCN_KEY = re.compile(r"(conv[1-6]|fc[78])(m?)(\.0)?\.(weight|bias)")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Which state-dict keys were loaded from a file.

    Args:
        loaded: keys whose values the stream now has from the file.
        left_out: keys of the file that were not loaded (its class layer; a TIAM that the stream does not have).
        kept: keys of the stream whose values did not change (its class layer; what the file may lack).
    """

    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    kept: tuple[str, ...]


def load_weights(stream: I3D | HCN, path: str | Path) -> LoadReport:
    """Load weights into every layer of a stream except the class layer.

    Args:
        stream: the network whose weights are replaced.
        path: ``.safetensors``, or ``.pt``/``.pth`` with a state dict, also one inside a checkpoint.

    Raises:
        ValueError: the file does not exist, is not a state dict, has other keys or shapes than the stream, or holds
            values that are not finite.
    """
    kind, own = type(stream), stream.state_dict()
    from_file = _keys_of_stream(read_state_dict(Path(path)), kind)
    needed = {key for key in own if not key.startswith(CLASS_LAYERS[kind])}
    loaded = {key: value for key, value in from_file.items() if key in needed}
    spare = [key for key in from_file if key not in loaded]
    unknown = sorted(key for key in spare if not key.startswith(CLASS_LAYERS[kind]) and not _is_optional(key))
    missing = sorted(key for key in needed - loaded.keys() if not _is_optional(key))
    if unknown or missing:
        differences = describe_differences(unknown, missing)
        raise ValueError(f"weights {path}: expected the keys of {kind.__name__}, found {differences}")
    for key, value in loaded.items():
        check_tensor(key, value, own[key], path)
    stream.load_state_dict(loaded, strict=False)
    return LoadReport(loaded=tuple(loaded), left_out=tuple(spare), kept=tuple(key for key in own if key not in loaded))


class Pretrained(nn.Module):
    """Loads pretrained weights when it is built, and again on every ``reset_parameters()``.

    It owns no parameters. It must be registered after the network that it fills: when ``reset_parameters()`` of all
    modules is called in order, this one comes last and replaces the random initial values by the file's.

    Args:
        stream: the network that it fills.
        path: the file.
        load: loads a file into such a network.
    """

    def __init__(
        self, stream: nn.Module, path: str, load: Callable[[Any, str | Path], LoadReport] = load_weights
    ) -> None:
        super().__init__()
        self._target = (stream,)  # in a tuple, so that torch does not register it a second time as a submodule
        self._path = path
        self._load = load
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Return the file, the number of tensors loaded and what was not, shown when the network is printed."""
        kept = [key for key in self.report.kept if not _is_optional(key)]
        where = f" ({', '.join(sorted({key.partition('.')[0] for key in kept}))})" if kept else ""
        return f"{self._path}: {len(self.report.loaded)} tensors loaded, {len(kept)} not loaded{where}"

    def reset_parameters(self) -> None:
        """Load the file again."""
        self.report = self._load(self._target[0], self._path)


def _is_optional(key: str) -> bool:
    return any(part in key for part in OPTIONAL)


def check_tensor(key: str, value: Tensor, own: Tensor, path: str | Path) -> None:
    """Check the shape and the values of a tensor.

    Raises:
        ValueError: the shape is not that of the network, or a value is not finite.
    """
    if value.shape != own.shape:
        raise ValueError(
            f"weights {path}: {key} has shape {tuple(value.shape)}, expected {tuple(own.shape)} "
            "(weights fit networks of the same width, channels, joints, frames and features only)"
        )
    if not value.isfinite().all():
        raise ValueError(f"weights {path}: {key} holds values that are not finite (NaN or infinite)")


def _keys_of_stream(content: dict[str, Tensor], kind: type[I3D] | type[HCN]) -> dict[str, Tensor]:
    """Return a stream's tensors under its own keys, from the keys of a whole network or of the public HCN."""
    content = {key.removeprefix("module."): value for key, value in content.items()}  # torch.nn.DataParallel adds it
    prefix = STREAM_PREFIXES[kind]
    if any(key.startswith(prefix) for key in content):
        return {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
    if kind is HCN and all(_PUBLIC_HCN_KEY.fullmatch(key) for key in content):
        return {_own_hcn_key(key): value for key, value in content.items()}
    return content


def _own_hcn_key(key: str) -> str:
    """Rename a key of the public HCN, which ends the names of the motion branch's layers in ``m``."""
    match = _PUBLIC_HCN_KEY.fullmatch(key)
    assert match is not None
    layer, motion, _, leaf = match.groups()
    branch = ("motion." if motion else "position.") if layer in ("conv1", "conv2", "conv3", "conv4") else ""
    return f"{branch}{layer}.{leaf}"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"weights {path}: no such file")
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"weights {path}: unknown format {path.suffix!r}, expected .safetensors, .pt or .pth")
    with path.open("rb") as file:
        if file.read(100).startswith(b"version https://git-lfs"):
            raise ValueError(f"weights {path}: is a git-LFS pointer, not the file itself; fetch it with `git lfs pull`")
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:  # torch's message advises to load in a way that runs code from the file
        raise ValueError(
            f"weights {path}: holds more than tensors, such as a whole module; save its state_dict() instead"
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"weights {path}: cannot be read ({_first_line(error)})") from error
    return _state_dict_in(content, path)


def _state_dict_in(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict that a file's content is, or has under one of the usual names.

    Raises:
        ValueError: it is none and has none.
    """
    if isinstance(content, dict):
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), content)
    if not isinstance(content, dict):
        raise ValueError(f"weights {path}: expected a state dict of tensors, found a {type(content).__name__}")
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        found = ", ".join(map(str, list(content)[:3])) or "nothing"
        raise ValueError(f"weights {path}: expected a state dict of tensors, found a dict of other things ({found})")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def describe_differences(unknown: list[str], missing: list[str]) -> str:
    """Return in words which keys a file has to spare and which it lacks."""
    kinds = {"unknown": unknown, "missing": missing}
    return ", ".join(f"{len(keys)} {kind} (first: {keys[0]})" for kind, keys in kinds.items() if keys)
