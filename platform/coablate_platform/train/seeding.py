"""Seeds the initial parameters and the global generators of a run.

The seeds derive from the study seed, the run seed and the purpose alone, not from what ran before in the process.
"""

import torch
from torch import Tensor, nn

from coablate_platform.study.streams import stream_seed


def initialise(model: nn.Module, seed: tuple[int, int]) -> None:
    """Initialise all parameters, each module from a seed of its own that derives from the module's name.

    Arms therefore have the same initial values in all modules that they have in common.

    Args:
        model: the network.
        seed: (study seed, run seed).

    Raises:
        ValueError: a module owns parameters and has no ``reset_parameters()``.
    """
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            torch.manual_seed(stream_seed(*seed, "init", name))
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(f"{type(module).__name__} {name!r} owns parameters but has no reset_parameters()")


def seed_generators(seed: tuple[int, int], rank: int) -> None:
    """Seed torch's global generators, which dropout uses, and make cuDNN choose deterministic algorithms.

    Args:
        seed: (study seed, run seed).
        rank: rank of this worker.
    """
    torch.manual_seed(stream_seed(*seed, "training", rank))
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


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
