"""Resolves a study against a store: protocol, identities, and the plan of its runs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from coablate_platform.data.clips import clips_of
from coablate_platform.data.protocols import PROTOCOLS, find_protocol, for_source, get_protocol
from coablate_platform.data.store import Store
from coablate_platform.planning.costs import cost_of
from coablate_platform.study.config import DataConfig, RunConfig
from coablate_platform.study.domains import Placement, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical, digest, run_id
from coablate_platform.study.overrides import apply
from coablate_platform.study.plan import PlannedArm, PlannedRun, PlannedSearch, StudyPlan
from coablate_platform.study.search import SEARCH_SEED, Search
from coablate_platform.study.study import Arm, Study
from coablate_platform.train.loop import Task
from coablate_platform.train.provenance import origin_of

Declared = TypeVar("Declared", bound=Study | Search)


def resolve(study: Declared, store: Store) -> Declared:
    """Return the study with its protocol filled in from the store.

    Raises:
        InputError: the protocol is unknown, divides another source, or leaves a split that is needed empty.
    """
    asked = study.base.data.protocol
    found = find_protocol(asked or store.default_protocol, store.own_protocol)
    protocol, name = found.value, found.reference
    if protocol.source != store.source:
        known = ", ".join(other.name for other in for_source(store.source, store.own_protocol))
        raise InputError(
            f"protocol {protocol.name} divides {protocol.source} data; {store.uri} holds {store.source} (its "
            f"protocols: {known})"
        )
    changes: dict[str, Any] = {"base": apply(study.base, {"data.protocol": name})}
    if isinstance(study, Study):
        changes["arms"] = tuple(
            dataclasses.replace(arm, changes=_filled(arm.changes, (None, asked), name)) for arm in study.arms
        )
    resolved = dataclasses.replace(study, **changes)
    sizes = clips_of(resolved.base, store, (study.seed, 0)).sizes
    needed = ("train", "test") if study.base.data.validation == "none" else ("train", "validation", "test")
    if empty := [split for split in needed if not sizes[split]]:
        raise InputError(f"protocol {name}: the store has no {empty[0]} clips ({sizes})")
    return resolved


def _filled(changes: Mapping[str, Any], asked: Sequence[str | None], protocol: str) -> dict[str, Any]:
    """Fill in the protocol where an arm brings a whole ``data`` that names none, or names the base's."""
    data = changes.get("data")
    if isinstance(data, DataConfig) and data.protocol in asked:
        return {**changes, "data": dataclasses.replace(data, protocol=protocol)}
    return dict(changes)


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
    configs = [study.config(arm) for arm in study.arms]
    named = [(arm.name, _identified(config, store)) for arm, config in zip(study.arms, configs, strict=True)]
    declared = [named, store.fingerprint, study.seed]
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
    for number, point in enumerate(search.initial_points):
        try:
            cost_of(search.config(search.space.decode(point)), store, search.seed)
        except InputError as error:
            raise InputError(f"{f'point {number}' if number else 'the base'}: {error}") from None
    declared = [_identified(search.base, store), list(search.costs), store.fingerprint, search.seed]
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

    def weights(config: RunConfig) -> dict[str, Sequence[int]]:
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
    return run_id(_identified(config, store), store.fingerprint, (search.seed, SEARCH_SEED), lineage)


def trial_task(search: Search, config: RunConfig, identity: str) -> Task:
    """Return the run that is a trial's training."""
    return Task(run_id=identity, config=config, seed=(search.seed, SEARCH_SEED), origin=origin_of(config))


def _common(study: Study | Search, store: Store, command: dict[str, Any]) -> dict[str, Any]:
    """Return what the plans of studies and searches have in common."""
    training, clips = study.base.training, clips_of(study.base, store, (study.seed, 0))
    own = {"selection": clips.selection} if study.base.data.protocol not in PROTOCOLS else {}
    return {
        "name": study.name,
        "title": study.title,
        "metric": training.metric,
        "selection": training.selection if isinstance(training.selection, str) else f"epoch {training.selection}",
        "protocol": get_protocol(str(study.base.data.protocol), store.own_protocol).name,
        "data": {"uri": store.uri, "fingerprint": store.fingerprint, "source": store.source, **clips.sizes, **own},
        "command": command,
    }


def tasks(study: Study, store: Store) -> list[tuple[Arm, Task]]:
    """Return every run in the order of work: seed block by seed block, so that a partial table is balanced."""
    configs = [study.config(arm) for arm in study.arms]
    arms = [(arm, config, _identified(config, store)) for arm, config in zip(study.arms, configs, strict=True)]
    return [
        (arm, task_of(config, store.fingerprint, (study.seed, seed), identified))
        for seed in range(study.first_seed, study.first_seed + study.seeds)
        for arm, config, identified in arms
    ]


def task_of(config: RunConfig, fingerprint: str, seed: tuple[int, int], identified: RunConfig | None = None) -> Task:
    """Return the run of a configuration.

    Args:
        config: the whole of it.
        fingerprint: the store's.
        seed: (study seed, run seed).
        identified: what stands for the configuration in the run's identity; None: itself.
    """
    identity = run_id(identified or config, fingerprint, seed)
    return Task(run_id=identity, config=config, seed=seed, origin=origin_of(config))


def _identified(config: RunConfig, store: Store) -> RunConfig:
    """Return what stands for a configuration in identities.

    Coablate's protocols mean the same wherever their names stand. Any other name may mean something else tomorrow: in
    its place stands a digest of the clips that the protocol selects.
    """
    if config.data.protocol in PROTOCOLS:
        return config
    selection = clips_of(config, store, (0, 0)).selection
    return dataclasses.replace(config, data=dataclasses.replace(config.data, protocol=f"clips {selection}"))


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
