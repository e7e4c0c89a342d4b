"""Seeds the modules that draw random numbers, and the global generators of a run.

The seeds derive from the study seed, the run seed and the purpose alone, not from what ran before in the process.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from coablate_platform.study.streams import stream_seed

DRAWING = (_DropoutNd, nn.MultiheadAttention, nn.RNNBase, nn.RReLU)
"""torch's modules that draw random numbers in a training-mode forward pass."""


class ModuleGenerators:
    """Seeds each module that draws random numbers anew in every forward pass, by the module's name.

    Arms therefore have the same dropout masks in all modules that they have in common. The seeds need no state but the
    number of passes. Random numbers that a module of another kind draws come from the global generator.

    Args:
        network: the network, on the device on which it is trained; hooks are registered.
        seed: (study seed, run seed).
        rank: rank of this worker.
    """

    def __init__(self, network: nn.Module, seed: tuple[int, int], rank: int) -> None:
        self.passes = 0
        """Number of training-mode forward passes so far."""
        self._key = (*seed, "forward", rank)
        self._generator = _generator_of(next(network.parameters()).device)
        self._calls: Counter[str] = Counter()
        self._outer: list[Tensor] = []
        network.register_forward_pre_hook(self._begin_pass)
        for name, module in network.named_modules():
            if isinstance(module, DRAWING):
                module.register_forward_pre_hook(lambda module, _, name=name: self._enter(name, module))
                module.register_forward_hook(self._leave, always_call=True)

    def _begin_pass(self, network: nn.Module, arguments: Any) -> None:
        if network.training:
            self.passes += 1
            self._calls.clear()

    def _enter(self, name: str, module: nn.Module) -> None:
        """Seed the generator for one call of a module. A call that activation checkpointing repeats draws the same."""
        if not module.training:
            return
        if torch._C._current_graph_task_id() == -1:
            self._calls[name] += 1
        elif self._calls[name] > 1:
            raise RuntimeError(
                f"{type(module).__name__} {name!r} is called {self._calls[name]} times in a forward pass that "
                "activation checkpointing repeats; use a module of its own at each place"
            )
        self._outer.append(self._generator.get_state())
        self._generator.manual_seed(stream_seed(*self._key, name, self.passes, self._calls[name]))

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if module.training and self._outer:
            self._generator.set_state(self._outer.pop())


def _generator_of(device: torch.device) -> torch.Generator:
    """Return the generator from which modules on this device draw."""
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    return torch.default_generator


def seed_generators(seed: tuple[int, int], rank: int) -> None:
    """Seed torch's global generators.

    Args:
        seed: (study seed, run seed).
        rank: rank of this worker.
    """
    torch.manual_seed(stream_seed(*seed, "training", rank))


def generator_states() -> dict[str, Tensor]:
    """Return the states of torch's global generators, for a checkpoint."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, Tensor]) -> None:
    """Set torch's global generators to states that :func:`generator_states` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
