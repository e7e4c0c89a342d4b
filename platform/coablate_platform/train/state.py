"""The state of training: network, optimisers, loss scaling, generators; before the first step and in a checkpoint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from coablate_platform.study.config import Optimisation, Phase, RunConfig
from coablate_platform.study.model import ClipShape, TakesTurns
from coablate_platform.train import distributed
from coablate_platform.train.initial import build_network
from coablate_platform.train.seeding import ModuleGenerators, generator_states, restore_generators


@dataclass(kw_only=True)
class TrainingState:
    """The state of training between two epochs, which a checkpoint holds.

    Args:
        phase: name of the phase.
        model: the network, without a wrapper for data-parallel training.
        optimisers: one for each optimiser step on a batch, in their order.
        generators: seeds the modules that draw random numbers.
        scaler: loss scaling; switched off unless the precision is fp16.
        trainable: names of the parameters that the model itself does not freeze.
        weight_decay: of the phase.
        epoch: number of epochs trained, over all phases.
        best: best value of the metric on the validation split among selected epochs.
        selected: the epoch whose weights are selected, from 1; 0 where there is none.
        selected_weights: its weights, on the CPU; empty where there is none, and where the last epoch is tested. They
            are part of every checkpoint: the one before a damaged checkpoint holds the selection of its own epoch.
    """

    phase: str
    model: nn.Module
    optimisers: list[torch.optim.Optimizer]
    generators: ModuleGenerators
    scaler: torch.amp.GradScaler
    trainable: frozenset[str]
    weight_decay: float
    epoch: int = 0
    best: float = float("-inf")
    selected: int = 0
    selected_weights: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, phase: Phase) -> None:
        """Begin a phase: new optimisers, for the parameters that the phase changes; others have no gradient."""
        training, turns = phase.training, turns_of(phase.objective, self.model)
        changed = {id(parameter) for turn in turns for parameter in turn}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.trainable and id(parameter) in changed)
        self.phase, self.weight_decay = phase.name, training.weight_decay
        self.optimisers = [_optimiser(parameters, training) for parameters in turns]
        device = next(self.model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(device, enabled=training.precision == "fp16")
        self.best, self.selected, self.selected_weights = float("-inf"), 0, {}

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """Yield the parameter groups of all optimisers."""
        for optimiser in self.optimisers:
            yield from optimiser.param_groups

    def select(self) -> None:
        """Keep the weights of this epoch for the test."""
        self.selected = self.epoch
        self.selected_weights = {name: tensor.to("cpu", copy=True) for name, tensor in self.model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds. A collective operation: every worker must call it."""
        return {
            "phase": self.phase,
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "scaler": self.scaler.state_dict(),
            "generators": distributed.all_gather(generator_states()),
            "passes": self.generators.passes,
            "epoch": self.epoch,
            "best": self.best,
            "selected": self.selected,
            "selected_weights": self.selected_weights,
        }

    def load_state_dict(self, packed: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, with the generators of this worker's rank."""
        self.model.load_state_dict(packed["model"])
        for optimiser, saved in zip(self.optimisers, packed["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.scaler.load_state_dict(packed["scaler"])
        restore_generators(packed["generators"][distributed.rank()])
        self.generators.passes = packed["passes"]
        self.epoch, self.best, self.selected = packed["epoch"], packed["best"], packed["selected"]
        self.selected_weights = packed["selected_weights"]


def initial_state(config: RunConfig, shape: ClipShape, seed: tuple[int, int], device: torch.device) -> TrainingState:
    """Return the state before the first step.

    Args:
        config: the run's configuration.
        shape: the sizes of its clips.
        seed: (study seed, run seed).
        device: where to train.

    Raises:
        ValueError: a parameter cannot be initialised.
    """
    model = new_network(config, shape, seed).to(device)
    state = TrainingState(
        phase="",
        model=model,
        optimisers=[],
        generators=ModuleGenerators(model, seed, distributed.rank()),
        scaler=torch.amp.GradScaler(device.type, enabled=False),
        trainable=frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad),
        weight_decay=0.0,
    )
    state.begin(config.phases[0])
    return state


def new_network(config: RunConfig, shape: ClipShape, seed: tuple[int, int]) -> nn.Module:
    """Build a run's network with its initial parameters.

    Raises:
        ValueError: a parameter cannot be initialised.
    """
    return use_channels_last(build_network(lambda: config.model.build(shape), seed))


def use_channels_last(model: nn.Module) -> nn.Module:
    """Convert 3-D convolutions to the channels-last memory format and return the model.

    Training steps are faster, and the results are the same as in the contiguous format.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model


def turns_of(objective: object, model: nn.Module) -> Sequence[Sequence[nn.Parameter]]:
    """Return the parameters that each optimiser step on a batch changes."""
    return objective.turns(model) if isinstance(objective, TakesTurns) else [list(model.parameters())]


def _optimiser(parameters: Sequence[nn.Parameter], config: Optimisation) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, rate, weight_decay=decay)
