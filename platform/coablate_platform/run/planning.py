"""Resolves a study against a store: protocol, identities, and what each arm costs."""

import dataclasses
import os
import time
import traceback
from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from coablate_platform.data.clips import ClipData
from coablate_platform.data.protocols import for_source, get_protocol
from coablate_platform.data.store import Store
from coablate_platform.run.checks import check
from coablate_platform.run.loop import Task, new_network
from coablate_platform.run.provenance import code_of
from coablate_platform.study.config import ClipShape, Description, RunConfig, TrainingConfig
from coablate_platform.study.domains import Placement, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical, digest, run_id
from coablate_platform.study.plan import PlannedArm, PlannedRun, PlannedSearch, StudyPlan
from coablate_platform.study.search import SEARCH_SEED, Search
from coablate_platform.study.study import Arm, Study

TIMED_STEPS = 3
TIMED_PASSES = 10

Declared = TypeVar("Declared", bound=Study | Search)


def resolve(study: Declared, store: Store) -> Declared:
    """Return the study with its protocol filled in from the store.

    Raises:
        InputError: the protocol is unknown, divides another source, or leaves a split that is needed empty.
    """
    name = study.base.data.protocol or store.default_protocol
    protocol = get_protocol(name)
    if protocol.source != store.source:
        known = ", ".join(other.name for other in for_source(store.source))
        raise InputError(
            f"protocol {name} divides {protocol.source} data; {store.uri} holds {store.source} (its protocols: {known})"
        )
    resolved = dataclasses.replace(
        study, base=dataclasses.replace(study.base, data=dataclasses.replace(study.base.data, protocol=name))
    )
    sizes = clips_of(resolved.base, store, (study.seed, 0)).sizes
    needed = ("train", "test") if study.base.data.validation == "none" else ("train", "validation", "test")
    if empty := [split for split in needed if not sizes[split]]:
        raise InputError(f"protocol {name}: the store has no {empty[0]} clips ({sizes})")
    return resolved


def clips_of(config: RunConfig, store: Store, seed: tuple[int, int]) -> ClipData:
    """Return the clips that a run of ``config`` reads."""
    return ClipData(
        store,
        config=config.data,
        protocol=get_protocol(str(config.data.protocol)),
        seed=seed,
        modalities=config.model.modalities,
    )


def plan_of(study: Study, store: Store, command: dict[str, Any]) -> StudyPlan:
    """Return the plan of a resolved study.

    Args:
        study: a study that :func:`resolve` returned.
        store: what it runs on.
        command: what ``resume`` repeats.

    Raises:
        InputError: an arm cannot be built; it is named with the reason.
    """
    arms = tuple(_planned(study, arm, store) for arm in study.arms)
    declared = [[(arm.name, arm.config) for arm in arms], store.fingerprint, study.seed]
    return StudyPlan(
        **_common(study, store, command),
        key=f"{study.name}-{digest(declared)[:6]}",
        reference=study.reference,
        arms=arms,
        runs=tuple(
            PlannedRun(run_id=task.run_id, arm=arm.name, seed=task.seed[1]) for arm, task in tasks(study, store)
        ),
    )


def search_plan_of(search: Search, store: Store, command: dict[str, Any]) -> StudyPlan:
    """Return the plan of a resolved search. Its key stays the same where space, trials, sampler or stopping change.

    Not so with a population, which another size or another pace would make another one.

    Args:
        search: a search that :func:`resolve` returned.
        store: what it runs on.
        command: what ``resume`` repeats.

    Raises:
        InputError: the base or one of the points cannot be built; it is named with the reason.
    """
    for number, point in enumerate(search.given[: 1 + len(search.points)]):
        try:
            cost_of(search.config(search.space.draw_known(point)), store, search.seed)
        except InputError as error:
            raise InputError(f"{f'point {number}' if number else 'the base'}: {error}") from None
    declared = [canonical(search.base), list(search.costs), store.fingerprint, search.seed]
    if search.stopping.rule == "pbt":
        _check_shapes(search, store)
        declared += [search.trials, canonical(search.stopping)]
    return StudyPlan(
        **_common(search, store, command),
        key=f"{search.name}-{digest(declared)[:6]}",
        reference="",
        arms=(),
        runs=(),
        search=planned_search(search),
    )


def _check_shapes(search: Search, store: Store) -> None:
    """Refuse factors that change what weights there are: a population hands them on."""

    def weights(config: RunConfig) -> dict[str, torch.Size]:
        model = config.model.build(clips_of(config, store, (search.seed, 0)).shape)
        return {name: tensor.shape for name, tensor in model.state_dict().items()}

    base = weights(search.base)
    for name, domain in search.space.factors.items():
        for value in (*domain.examples, ()) if isinstance(domain, Subset) else domain.examples:
            try:
                same = not isinstance(domain, Placement) and weights(search.config({name: value})) == base
            except Exception:
                continue  # not with the base's other values; a trial will say so
            if not same:
                raise InputError(
                    f"search {search.name}: a population hands weights on, and factor {name} changes the network's"
                )


def planned_search(search: Search) -> PlannedSearch:
    """Return what a plan says of a search."""
    return PlannedSearch(
        trials=search.size,
        sampler=search.sampler,
        stopping=canonical(search.stopping),
        costs=tuple(search.costs),
        factors={name: str(domain) for name, domain in search.space.factors.items()},
        placements={
            name: {stream: list(stages) for stream, stages in domain.streams.items()}
            for name, domain in search.space.factors.items()
            if isinstance(domain, Placement)
        },
        epochs=search.base.training.epochs,
    )


def trial_run_id(search: Search, config: RunConfig, store: Store, lineage: Sequence[str | int]) -> str:
    """Return the identity of the run that is a trial's training."""
    return run_id(config, store.fingerprint, (search.seed, SEARCH_SEED), lineage)


def trial_task(search: Search, config: RunConfig, identity: str) -> Task:
    """Return the run that is a trial's training."""
    return Task(run_id=identity, config=config, seed=(search.seed, SEARCH_SEED), model_code=code_of(config.model))


def _common(study: Study | Search, store: Store, command: dict[str, Any]) -> dict[str, Any]:
    """Return what the plans of studies and searches have in common."""
    training, clips = study.base.training, clips_of(study.base, store, (study.seed, 0))
    return {
        "name": study.name,
        "title": study.title,
        "metric": training.metric,
        "selection": training.selection if isinstance(training.selection, str) else f"epoch {training.selection}",
        "protocol": str(study.base.data.protocol),
        "data": {"uri": store.uri, "fingerprint": store.fingerprint, "source": store.source, **clips.sizes},
        "command": command,
    }


def tasks(study: Study, store: Store) -> list[tuple[Arm, Task]]:
    """Return every run in the order of work: seed block by seed block, so that a partial table is balanced."""
    configs = {arm.name: study.config(arm) for arm in study.arms}
    return [
        (arm, task_of(configs[arm.name], store.fingerprint, (study.seed, seed)))
        for seed in range(study.first_seed, study.first_seed + study.seeds)
        for arm in study.arms
    ]


def task_of(config: RunConfig, fingerprint: str, seed: tuple[int, int]) -> Task:
    """Return the run of a configuration with (study seed, run seed) on the store with this fingerprint."""
    identity = run_id(config, fingerprint, seed)
    return Task(run_id=identity, config=config, seed=seed, model_code=code_of(config.model))


def seconds_a_run(config: RunConfig, clips: ClipData) -> float:
    """Estimate a run's training time on this machine from a few timed steps on random clips; loading not included.

    Raises:
        InputError: the network cannot make a step, with the reason, and the place in the model's code.
    """
    try:
        return _timed(config, clips)
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error} ({_place(error)})") from None


def _timed(config: RunConfig, clips: ClipData) -> float:
    batch_size = min(config.training.batch_size, clips.sizes["train"])
    model = new_network(config, clips.shape, (0, 0))
    batch = random_batch(clips.shape, batch_size)
    objective = config.model.objective()
    for step in range(1 + TIMED_STEPS):
        if step == 1:  # the first one warms up
            started = time.perf_counter()
        objective.loss(model(batch), batch, step)["loss"].backward()  # type: ignore[no-untyped-call]
    a_clip = (time.perf_counter() - started) / TIMED_STEPS / batch_size
    evaluated = clips.sizes["validation"] / 3  # a forward pass is about a third of a step
    return a_clip * (config.training.epochs * (clips.sizes["train"] + evaluated) + clips.sizes["test"] / 3)


@torch.inference_mode()
def latency_of(config: RunConfig, shape: ClipShape) -> int:
    """Measure a forward pass of one clip on this machine: on its GPU where it has one, else on one thread.

    On one, since threads that wait for each other on cores that lanes keep busy measure the lanes.

    Args:
        config: any model's.
        shape: of its clips.

    Returns:
        The fastest of some passes in µs: what else the machine does can only slow one down.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_network(config, shape, (0, 0)).to(device).eval()
    batch = {name: tensor.to(device) for name, tensor in random_batch(shape, 1).items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return round(1e6 * min(_seconds_a_pass(model, batch, device) for _ in range(TIMED_PASSES)))
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the lanes' to use


def _seconds_a_pass(model: torch.nn.Module, batch: dict[str, torch.Tensor], device: torch.device) -> float:
    started = time.perf_counter()
    model(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _planned(study: Study, arm: Arm, store: Store) -> PlannedArm:
    config = study.config(arm)
    try:
        cost = cost_of(config, store, study.seed)
    except InputError as error:
        raise InputError(f"arm {arm.name!r}: {error}") from None
    return PlannedArm(
        name=arm.name,
        difference=canonical(study.difference(arm)),
        config=canonical(config),
        parameters=cost.parameters,
        flops=cost.flops,
        published=dict(arm.published),
    )


def cost_of(config: RunConfig, store: Store, seed: int) -> Description:
    """Check a configuration and return what it costs.

    Args:
        config: any model's.
        store: what it would run on.
        seed: the study's.

    Raises:
        InputError: it cannot be built on this store, with the reason, and the place in the model's code.
    """
    try:
        if "video" in config.model.modalities and not store.has_video:
            raise InputError(f"the model reads video and {store.uri} has none")
        clips = clips_of(config, store, (seed, 0))
        check(config, clips.shape)
        cost = config.model.describe(clips.shape)
        model = config.model.build(clips.shape)  # reads pretrained weights, which describing leaves out
        _check_parts(config.training, clips, model)
    except (InputError, ValueError) as error:
        raise InputError(str(error)) from None
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error} ({_place(error)})") from None
    return cost


def _check_parts(training: TrainingConfig, clips: ClipData, model: torch.nn.Module) -> None:
    """Refuse to cut batches into single clips where the network has batch statistics that one clip does not give.

    Raises:
        InputError: it cannot train on one clip.
    """
    batch = min(training.batch_size, clips.sizes["train"]) // training.workers
    part = -(-batch // training.accumulate)
    if 1 not in (part, batch % part):
        return
    try:
        model.train()(random_batch(clips.shape, 1))
    except ValueError as error:
        sizes = f"training.batch_size={training.batch_size}, training.accumulate={training.accumulate}"
        raise InputError(f"{sizes}: makes a part of one clip, on which this network cannot train ({error})") from None


def _place(error: Exception) -> str:
    """Return the file and line in a model's code from which ``error`` came, torch's own left out."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if not frame.filename.startswith(f"{torch.__path__[0]}{os.sep}")][-1]
    return f"{last.filename}:{last.lineno}"


def random_batch(shape: ClipShape, clips: int) -> dict[str, torch.Tensor]:
    """Return a batch of so many clips of noise."""
    return {
        "video": torch.randn(clips, shape.channels, shape.frames, shape.size, shape.size),
        "skeleton": torch.randn(clips, 3, shape.skeleton_frames, shape.joints, shape.persons),
        "label": torch.arange(clips) % shape.classes,
        "index": torch.arange(clips),
    }
