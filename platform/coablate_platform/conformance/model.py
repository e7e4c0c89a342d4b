"""What every model must do to run in a study. See :class:`~coablate_platform.study.config.ModelConfig`.

Shapes: N clips, K classes.
"""

import dataclasses
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coablate_platform.conformance.suite import Suite, expect
from coablate_platform.data.sampling import MODALITIES
from coablate_platform.planning.costs import random_batch
from coablate_platform.study.config import ClipShape, ModelConfig
from coablate_platform.study.identity import canonical
from coablate_platform.train.seeding import initialise

SHAPE = ClipShape(classes=5, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2)
OTHER_SHAPE = ClipShape(classes=3, channels=3, frames=16, size=48, skeleton_frames=32, joints=25, persons=1)
CLIPS = 4


@dataclass(frozen=True, kw_only=True)
class ModelSubject:
    """A model's configuration, and the clips that it is tried on.

    Args:
        config: the configuration.
        shape: of the clips.
        step: the optimiser step whose loss is taken.
    """

    config: ModelConfig
    shape: ClipShape = SHAPE
    step: int = 0

    def network(self, seed: int = 0) -> nn.Module:
        """Return the network as a run begins with it."""
        network = self.config.build(self.shape)
        initialise(network, (0, seed))
        return network

    def batch(self, clips: int = CLIPS) -> dict[str, Tensor]:
        """Return clips of noise, always the same. In every second one the last of several persons is absent."""
        with _generator(0):
            batch = random_batch(self.shape, clips)
        if self.shape.persons > 1:
            batch["skeleton"][1::2, ..., -1] = 0
        return batch


def is_a_frozen_dataclass(subject: ModelSubject) -> None:
    """Check that the configuration can be compared and hashed, and cannot change."""
    config = subject.config
    expect(dataclasses.is_dataclass(config), f"{_kind(config)} is no dataclass")
    parameters = type(config).__dataclass_params__  # type: ignore[attr-defined]
    expect(parameters.frozen, f"{_kind(config)} can be changed; expected @dataclass(frozen=True, kw_only=True)")
    hash(config)


def has_plain_fields(subject: ModelSubject) -> None:
    """Check that the configuration can be written as JSON, which identifies its runs."""
    plain = canonical([subject.config])
    expect(json.loads(json.dumps(plain)) == plain, f"{_kind(subject.config)} does not come back from JSON: {plain}")


def names_the_modalities_it_reads(subject: ModelSubject) -> None:
    """Check that ``modalities`` names some of a store's; only these are decoded."""
    named = subject.config.modalities
    right = isinstance(named, tuple) and named and set(named) <= set(MODALITIES) and len(set(named)) == len(named)
    expect(bool(right), f"modalities is {named!r}, expected a tuple of some of {', '.join(MODALITIES)}")


def builds_a_network(subject: ModelSubject) -> None:
    """Check that ``build`` returns a module with something to train."""
    network = subject.config.build(subject.shape)
    expect(isinstance(network, nn.Module), f"build returned a {type(network).__name__}, expected a torch.nn.Module")
    expect(any(p.requires_grad for p in network.parameters()), "the network has nothing to train")


def takes_a_batch_as_the_objective_expects(subject: ModelSubject) -> None:
    """Check that the objective makes scalar losses of what the network returns."""
    batch, objective = subject.batch(), subject.config.objective()
    with _generator(1):
        losses = objective.loss(subject.network().train()(batch), batch, subject.step)
    expect("loss" in losses, f"the objective's loss returned {sorted(losses)}, expected 'loss' among them")
    shapes = {name: tuple(value.shape) for name, value in losses.items() if value.numel() != 1 or value.dim()}
    expect(not shapes, f"the objective's losses are to be scalars, found {shapes}")


def trains_every_parameter(subject: ModelSubject) -> None:
    """Check that the loss is finite, and that its gradient reaches every parameter that is to be trained."""
    batch, objective, network = subject.batch(), subject.config.objective(), subject.network().train()
    with _generator(1):
        loss = objective.loss(network(batch), batch, subject.step)["loss"]
        expect(bool(loss.isfinite()), f"the loss is {loss.item()}, expected a finite number")
        loss.backward()  # type: ignore[no-untyped-call]
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    left_out = [name for name, gradient in trained.items() if gradient is None]
    expect(not left_out, f"no gradient reaches {_some(left_out)}; expected one for every parameter")
    broken = [name for name, gradient in trained.items() if gradient is not None and not gradient.isfinite().all()]
    expect(not broken, f"the gradient of {_some(broken)} is not finite")


def gives_every_clip_a_score_a_class(subject: ModelSubject) -> None:
    """Check that ``predict`` returns finite scores (N, K)."""
    scores = _scores(subject, subject.network())
    expected = (CLIPS, subject.shape.classes)
    expect(tuple(scores.shape) == expected, f"predict returned shape {tuple(scores.shape)}, expected {expected} (N, K)")
    expect(bool(scores.isfinite().all()), "predict returned scores that are not finite")


def judges_scores_by_numbers(subject: ModelSubject) -> None:
    """Check that the metrics are floats by name."""
    labels = torch.arange(CLIPS) % subject.shape.classes
    found = subject.config.objective().metrics(_scores(subject, subject.network()), labels)
    expect(bool(found), "the objective has no metrics")
    wrong = {name: value for name, value in found.items() if type(value) is not float}
    expect(not wrong, f"metrics are to be floats, found {wrong}")


def draws_every_parameter_in_its_module(subject: ModelSubject) -> None:
    """Check that each module draws its parameters in ``reset_parameters()``, by which arms share initial values."""
    network = subject.config.build(subject.shape)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    initialise(network, (0, 0))
    left = [name for name, parameter in network.named_parameters() if parameter.isnan().any()]
    expect(not left, f"reset_parameters() of its module does not draw {_some(left)}")


def begins_alike_from_one_seed(subject: ModelSubject) -> None:
    """Check that the initial state follows from the seed alone."""
    states = []
    for number in (1, 2):
        with _generator(number):
            states.append(subject.network().state_dict())
    differing = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    expect(not differing, f"{_some(differing)} begins otherwise from the same seed")


def comes_back_from_its_state(subject: ModelSubject) -> None:
    """Check that the state dict, which a checkpoint holds, decides the scores."""
    network, other = subject.network(), subject.network(seed=1)
    with _generator(1):
        network.train()(subject.batch())  # moves running statistics
    other.load_state_dict(network.state_dict())
    same = torch.equal(_scores(subject, network), _scores(subject, other))
    expect(same, "a network that takes over another's state_dict gives other scores")


def reads_only_what_it_names(subject: ModelSubject) -> None:
    """Check that the network does without the modalities that it does not name."""
    batch = subject.batch()
    given = {name: value for name, value in batch.items() if name in (*subject.config.modalities, "label", "index")}
    try:
        subject.network().eval()(given)
    except KeyError as error:
        named = ", ".join(subject.config.modalities)
        expect(False, f"the network reads {error} though its modalities are ({named})")


def tells_its_costs(subject: ModelSubject) -> None:
    """Check that ``describe`` agrees with the network."""
    cost = subject.config.describe(subject.shape)
    count = sum(p.numel() for p in subject.config.build(subject.shape).parameters() if p.requires_grad)
    expect(cost.parameters == count, f"describe tells {cost.parameters} parameters, the network has {count} to train")
    for name in ("flops", "activation_bytes"):
        value = getattr(cost, name)
        expect(type(value) is int and value > 0, f"describe tells {name}={value!r}, expected a whole number above 0")


def travels_by_reference(subject: ModelSubject) -> None:
    """Check that another process can unpickle the configuration by its class's name."""
    back = pickle.loads(pickle.dumps(subject.config))
    expect(type(back) is type(subject.config) and back == subject.config, "it does not come back from pickle as it was")


def takes_a_single_clip(subject: ModelSubject) -> None:
    """Check that evaluation works on a batch of one, which the last one may be."""
    scores = _scores(subject, subject.network(), clips=1)
    expect(tuple(scores.shape) == (1, subject.shape.classes), f"of one clip, predict returned {tuple(scores.shape)}")


def evaluates_alike_every_time(subject: ModelSubject) -> None:
    """Check that evaluation draws no random numbers."""
    network = subject.network()
    scores = []
    for number in (1, 2):
        with _generator(number):
            scores.append(_scores(subject, network))
    expect(torch.equal(*scores), "in evaluation it gives other scores the second time")


def fits_the_clips_of_another_set(subject: ModelSubject) -> None:
    """Check that classes, joints, persons and sizes come from the data, or are refused by ValueError."""
    other = dataclasses.replace(subject, shape=OTHER_SHAPE)
    try:
        network = other.network()
    except ValueError:
        return
    scores = _scores(other, network)
    expected = (CLIPS, OTHER_SHAPE.classes)
    expect(tuple(scores.shape) == expected, f"for {OTHER_SHAPE} it scores {tuple(scores.shape)}, expected {expected}")


MODEL: Suite[ModelSubject] = Suite(
    first=(
        is_a_frozen_dataclass,
        has_plain_fields,
        names_the_modalities_it_reads,
        builds_a_network,
        takes_a_batch_as_the_objective_expects,
    ),
    then=(
        trains_every_parameter,
        gives_every_clip_a_score_a_class,
        judges_scores_by_numbers,
        draws_every_parameter_in_its_module,
        begins_alike_from_one_seed,
        comes_back_from_its_state,
        reads_only_what_it_names,
        tells_its_costs,
        travels_by_reference,
        takes_a_single_clip,
        evaluates_alike_every_time,
        fits_the_clips_of_another_set,
    ),
)
"""The checks of a model."""


@torch.no_grad()
def _scores(subject: ModelSubject, network: nn.Module, clips: int = CLIPS) -> Tensor:
    return subject.config.objective().predict(network.eval()(subject.batch(clips)))


@contextmanager
def _generator(seed: int) -> Iterator[None]:
    """Let torch draw from a seed, and go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _some(names: list[str]) -> str:
    """Name a few of several parameters."""
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
