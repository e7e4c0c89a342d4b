"""Puts every random stream of a run where (study seed, run seed, stream name, rank) says, whatever ran before."""

from typing import Any

import torch
from torch import nn

from coablate_platform.study.streams import stream_seed


def initialise(model: nn.Module, seed: tuple[int, int]) -> None:
    """Draw every parameter's initial value from its module's name, so that arms share what they have in common.

    Raises:
        ValueError: a module owns parameters and cannot draw them (it has no ``reset_parameters``).
    """
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            torch.manual_seed(stream_seed(*seed, "init", name))
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(f"{type(module).__name__} {name!r} owns parameters but has no reset_parameters()")


def start_streams(seed: tuple[int, int], rank: int) -> None:
    """Set the global generators (dropout draws from them) and the flags that decide which kernels run."""
    torch.manual_seed(stream_seed(*seed, "training", rank))
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def generator_states() -> dict[str, Any]:
    """Return the states of the global generators, for a checkpoint."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Put the global generators where :func:`generator_states` found them."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
