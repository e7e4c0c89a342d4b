"""Builds networks with initial values that follow from the seed and the names of their modules and parameters alone.

Arms therefore have the same initial values in all modules that they have in common.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from coablate_platform.study.streams import stream_seed


def build_network(build: Callable[[], nn.Module], seed: tuple[int, int]) -> nn.Module:
    """Build a network and initialise it, each module and each parameter from a seed of its own.

    A module that has ``reset_parameters()`` or ``_reset_parameters()`` draws its own values. Parameters that no module
    writes there keep what the constructors give them. torch's generators are left as they were.

    Args:
        build: builds the network. It may draw random numbers from torch only.
        seed: (study seed, run seed).

    Raises:
        ValueError: a parameter has no size yet, or its initial value differs between two equal constructions.
    """
    with torch.random.fork_rng():
        network = _construct(build, seed, "build")
        parameters = dict(network.named_parameters())
        if lazy := [name for name, parameter in parameters.items() if is_lazy(parameter)]:
            raise ValueError(f"parameter {lazy[0]} has no size before the first batch; build a module with known sizes")
        for name in _left_out(network, seed):
            parameters[name].data.copy_(_drawn_by_constructor(build, seed, name))
        return network


def _left_out(network: nn.Module, seed: tuple[int, int]) -> list[str]:
    """Let the modules initialise their parameters, and return the names of the parameters that none of them wrote."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point():
                parameter.fill_(float("nan"))
    for name, module in _inner_first(network, "", set()):
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None:
            torch.manual_seed(stream_seed(*seed, "init", name))
            reset()
    return [name for name, parameter in network.named_parameters() if parameter.isnan().any()]


def _inner_first(module: nn.Module, name: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield all modules with their names, each after its children: its own initial values may replace theirs."""
    for child_name, child in module.named_children():
        if child not in seen:
            seen.add(child)
            yield from _inner_first(child, f"{name}.{child_name}" if name else child_name, seen)
    yield name, module


def _drawn_by_constructor(build: Callable[[], nn.Module], seed: tuple[int, int], name: str) -> Tensor:
    """Return a parameter's initial value as the constructors give it, drawn from a seed of the parameter's own.

    Raises:
        ValueError: two constructions with the same seed give different values, or none.
    """
    own, again = (_construct(build, seed, name).get_parameter(name).detach() for _ in range(2))
    if own.isnan().any():
        raise ValueError(f"parameter {name} has no initial value; draw it in its module's reset_parameters()")
    if not torch.equal(own, again):
        raise ValueError(
            f"parameter {name} has another initial value in each construction; draw it from torch's generator, "
            "best in its module's reset_parameters()"
        )
    return own


def _construct(build: Callable[[], nn.Module], seed: tuple[int, int], purpose: str) -> nn.Module:
    with _Construction(stream_seed(*seed, "construct", purpose)):
        return build()


class _Construction(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class is not typed
    """Makes the values of a construction follow from a seed.

    Each operation that draws begins with the seed, so that a value does not depend on what was drawn before it. Memory
    that an operation leaves as it finds it becomes NaN.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            torch.manual_seed(self._seed)
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.empty.memory_format and result.is_floating_point():
            result.fill_(float("nan"))
        return result
