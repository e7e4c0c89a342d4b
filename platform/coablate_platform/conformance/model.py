"""Checks for model configurations. See :class:`~coablate_platform.study.model.ModelConfig`.

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
from coablate_platform.data.joints import KINECT_V1, KINECT_V2
from coablate_platform.data.sampling import MODALITIES
from coablate_platform.planning.costs import random_batch
from coablate_platform.study.identity import canonical
from coablate_platform.study.model import ClipShape, ModelConfig, PretrainingObjective, Pretrains
from coablate_platform.train.initial import build_network

SHAPE = ClipShape(
    classes=5, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=2, bones=KINECT_V1.bones
)
OTHER_SHAPE = ClipShape(
    classes=3, channels=3, frames=16, size=48, skeleton_frames=32, joints=25, persons=1, bones=KINECT_V2.bones
)
CLIPS = 4


@dataclass(frozen=True, kw_only=True)
class ModelSubject:
    """A model configuration, and the clips that it is tried on.

    Args:
        config: the configuration.
        shape: sizes of the clips.
        step: the optimiser step for which the loss is computed.
    """

    config: ModelConfig
    shape: ClipShape = SHAPE
    step: int = 0

    def network(self, seed: int = 0) -> nn.Module:
        """Return a new network with the initial values of a run."""
        return build_network(lambda: self.config.build(self.shape), (0, seed))

    def batch(self, clips: int = CLIPS, views: int = 0) -> dict[str, Tensor]:
        """Return the same random clips at each call. In every second clip the last of several persons is absent."""
        with _seeded(0):
            batch = random_batch(self.shape, clips, views)
        if self.shape.persons > 1:
            for name in ("skeleton", "frame_skeleton", "pixels"):
                batch[name][1::2, ..., -1] = 0
            batch["visible"][1::2, ..., -1] = False
        return batch

    def losses(self, network: nn.Module) -> list[dict[str, Tensor]]:
        """Return the losses of every phase that the configuration has, in training mode."""
        config = self.config
        phases: list[tuple[PretrainingObjective, int]] = [(config.objective(), 0)]
        if isinstance(config, Pretrains):
            phases.append((config.pretraining_objective(), config.pretraining_views))
        with _seeded(1):
            batches = [self.batch(views=views) for _, views in phases]
            outputs = [network.train()(batch) for batch in batches]
            return [
                objective.loss(output, batch, self.step)
                for (objective, _), output, batch in zip(phases, outputs, batches, strict=True)
            ]


def the_configuration_is_a_frozen_dataclass(subject: ModelSubject) -> None:
    """Check that the configuration is immutable, comparable and hashable."""
    config = subject.config
    expect(dataclasses.is_dataclass(config), f"{_kind(config)} is not a dataclass")
    parameters = type(config).__dataclass_params__  # type: ignore[attr-defined]
    expect(parameters.frozen, f"{_kind(config)} is mutable, expected @dataclass(frozen=True, kw_only=True)")
    hash(config)


def the_configuration_can_be_written_as_json(subject: ModelSubject) -> None:
    """Check that the configuration has a canonical form in JSON, which identifies its runs."""
    plain = canonical([subject.config])
    expect(json.loads(json.dumps(plain)) == plain, f"{_kind(subject.config)} is not read back from JSON as {plain}")


def modalities_are_known(subject: ModelSubject) -> None:
    """Check that ``modalities`` is a tuple of a store's modalities; only these are decoded."""
    found = subject.config.modalities
    valid = isinstance(found, tuple) and found and set(found) <= set(MODALITIES) and len(set(found)) == len(found)
    expect(bool(valid), f"modalities is {found!r}, expected a tuple of some of {', '.join(MODALITIES)}")


def build_returns_a_network(subject: ModelSubject) -> None:
    """Check that ``build`` returns a module with trainable parameters."""
    network = subject.config.build(subject.shape)
    expect(isinstance(network, nn.Module), f"build returned a {type(network).__name__}, expected a torch.nn.Module")
    expect(any(p.requires_grad for p in network.parameters()), "the network has no trainable parameter")


def every_parameter_has_an_initial_value(subject: ModelSubject) -> None:
    """Check that all parameters can be initialised from a seed."""
    try:
        subject.network()
    except ValueError as error:
        expect(False, str(error))


def the_loss_is_a_scalar(subject: ModelSubject) -> None:
    """Check that the objective computes scalar losses, ``loss`` among them, from the network's outputs."""
    for losses in subject.losses(subject.network()):
        expect("loss" in losses, f"the objective's loss returned {sorted(losses)}, expected 'loss' among them")
        shapes = {name: tuple(value.shape) for name, value in losses.items() if value.numel() != 1 or value.dim()}
        expect(not shapes, f"expected scalar losses from the objective, found shapes {shapes}")


def every_parameter_gets_a_finite_gradient(subject: ModelSubject) -> None:
    """Check that the loss of every phase is finite, and that every trainable parameter has a finite gradient in one."""
    network = subject.network()
    for losses in subject.losses(network):
        loss = losses["loss"]
        expect(bool(loss.isfinite()), f"the loss is {loss.item()}, expected a finite number")
        loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    expect(not missing, f"no gradient for {_some(missing)}, expected one for every trainable parameter")
    broken = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    expect(not broken, f"the gradient of {_some(broken)} is not finite")


def predict_returns_a_score_per_class(subject: ModelSubject) -> None:
    """Check that ``predict`` returns finite scores of shape (N, K)."""
    scores = _scores(subject, subject.network())
    expected = (CLIPS, subject.shape.classes)
    expect(tuple(scores.shape) == expected, f"predict returned shape {tuple(scores.shape)}, expected {expected} (N, K)")
    expect(bool(scores.isfinite().all()), "predict returned scores that are not finite")


def metrics_are_floats(subject: ModelSubject) -> None:
    """Check that ``metrics`` returns at least one metric, and that all are floats."""
    labels = torch.arange(CLIPS) % subject.shape.classes
    found = subject.config.objective().metrics(_scores(subject, subject.network()), labels)
    expect(bool(found), "metrics returned nothing, expected at least one metric")
    wrong = {name: value for name, value in found.items() if type(value) is not float}
    expect(not wrong, f"metrics returned {wrong}, expected floats")


def the_seed_determines_the_initial_state(subject: ModelSubject) -> None:
    """Check that the initial parameters and buffers depend on the seed alone."""
    states = []
    for number in (1, 2):
        with _seeded(number):
            states.append(subject.network().state_dict())
    differing = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    expect(not differing, f"with the same seed, the initial values of {_some(differing)} differ")


def the_state_dict_determines_the_scores(subject: ModelSubject) -> None:
    """Check that the scores depend on the state dict alone, since a checkpoint holds nothing else of the network."""
    network, other = subject.network(), subject.network(seed=1)
    with _seeded(1):
        network.train()(subject.batch())  # changes running statistics
    other.load_state_dict(network.state_dict())
    same = torch.equal(_scores(subject, network), _scores(subject, other))
    expect(same, "a network that loads another's state_dict gives other scores")


def only_declared_modalities_are_read(subject: ModelSubject) -> None:
    """Check that the network runs on a batch without the modalities that it does not declare."""
    batch = subject.batch()
    given = {name: value for name, value in batch.items() if name in (*subject.config.modalities, "label", "index")}
    try:
        subject.network().eval()(given)
    except KeyError as error:
        declared = ", ".join(subject.config.modalities)
        expect(False, f"the network reads {error}, but its modalities are ({declared})")


def describe_agrees_with_the_network(subject: ModelSubject) -> None:
    """Check the number of parameters, and that the other costs are positive integers."""
    cost = subject.config.describe(subject.shape)
    count = sum(p.numel() for p in subject.config.build(subject.shape).parameters() if p.requires_grad)
    expect(cost.parameters == count, f"describe returns parameters={cost.parameters}, but {count} are trainable")
    for name in ("flops", "activation_bytes"):
        value = getattr(cost, name)
        expect(type(value) is int and value > 0, f"describe returns {name}={value!r}, expected an integer above 0")


def the_configuration_can_be_pickled(subject: ModelSubject) -> None:
    """Check that workers can unpickle the configuration, which needs an importable class."""
    back = pickle.loads(pickle.dumps(subject.config))
    expect(type(back) is type(subject.config) and back == subject.config, "unpickled, it is not equal to itself")


def a_single_clip_can_be_evaluated(subject: ModelSubject) -> None:
    """Check that evaluation works on one clip, since the last batch may hold no more."""
    shape = tuple(_scores(subject, subject.network(), clips=1).shape)
    expected = (1, subject.shape.classes)
    expect(shape == expected, f"for one clip, predict returned shape {shape}, expected {expected}")


def evaluation_is_deterministic(subject: ModelSubject) -> None:
    """Check that evaluation gives the same scores whatever the state of torch's generator."""
    network = subject.network()
    scores = []
    for number in (1, 2):
        with _seeded(number):
            scores.append(_scores(subject, network))
    expect(torch.equal(*scores), "a second evaluation of the same clips gives other scores")


def other_clip_shapes_work_or_are_refused(subject: ModelSubject) -> None:
    """Check that the network fits another clip shape, or that ``build`` refuses the shape with a ValueError."""
    other = dataclasses.replace(subject, shape=OTHER_SHAPE)
    try:
        network = other.network()
    except ValueError:
        return
    shape = tuple(_scores(other, network).shape)
    expected = (CLIPS, OTHER_SHAPE.classes)
    expect(shape == expected, f"for {OTHER_SHAPE}, predict returned shape {shape}, expected {expected}")


MODEL: Suite[ModelSubject] = Suite(
    prerequisites=(
        the_configuration_is_a_frozen_dataclass,
        the_configuration_can_be_written_as_json,
        modalities_are_known,
        build_returns_a_network,
        every_parameter_has_an_initial_value,
        the_loss_is_a_scalar,
    ),
    independent=(
        every_parameter_gets_a_finite_gradient,
        predict_returns_a_score_per_class,
        metrics_are_floats,
        the_seed_determines_the_initial_state,
        the_state_dict_determines_the_scores,
        only_declared_modalities_are_read,
        describe_agrees_with_the_network,
        the_configuration_can_be_pickled,
        a_single_clip_can_be_evaluated,
        evaluation_is_deterministic,
        other_clip_shapes_work_or_are_refused,
    ),
)
"""Checks of a model configuration."""


@torch.no_grad()
def _scores(subject: ModelSubject, network: nn.Module, clips: int = CLIPS) -> Tensor:
    return subject.config.objective().predict(network.eval()(subject.batch(clips)))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator within the block, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _some(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
