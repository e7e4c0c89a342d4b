"""Resolves studies and searches against a store: fills in the protocol, makes the runs and their plan."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from coablate_platform.data.clips import ClipData, clips_of
from coablate_platform.data.protocols import PROTOCOLS, find_protocol, for_source, get_protocol
from coablate_platform.data.store import Store
from coablate_platform.planning.costs import cost_of
from coablate_platform.study.config import DataConfig, RunConfig
from coablate_platform.study.contrasts import contributions
from coablate_platform.study.domains import Placement, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical, canonical_changes, digest, run_id
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.plan import PlannedArm, PlannedContrast, PlannedRun, PlannedTrend, SearchPlan, StudyPlan
from coablate_platform.study.search import TRIAL_SEED, Search
from coablate_platform.study.study import Arm, Study
from coablate_platform.train.provenance import origin_of
from coablate_platform.train.task import Task

UNTESTED = "untested"
"""Part of the identity of a trial's run: an arm of a study, which is tested, is another run."""
Declared = TypeVar("Declared", bound=Study | Search)


def resolve(study: Declared, store: Store) -> Declared:
    """Return the study with its protocol filled in from the store.

    Raises:
        InputError: the protocol is unknown, divides another source, or leaves a split that is needed empty.
    """
    found = find_protocol(study.base.data.protocol or store.default_protocol, store.own_protocol)
    protocol, name = found.value, found.reference
    if protocol.source != store.source:
        known = ", ".join(other.name for other in for_source(store.source, store.own_protocol))
        raise InputError(
            f"protocol {protocol.name} divides {protocol.source} data; {store.uri} holds {store.source} (its "
            f"protocols: {known})"
        )
    changes: dict[str, Any] = {"base": apply_changes(study.base, {"data.protocol": name})}
    if isinstance(study, Study):
        changes["arms"] = tuple(dataclasses.replace(arm, changes=_filled(arm.changes, name)) for arm in study.arms)
    resolved = dataclasses.replace(study, **changes)
    sizes = _clips(resolved.base, store).sizes
    if study.base.data.validation != "none" and not sizes["validation"]:
        raise InputError(f"protocol {name}: the store has no validation clips ({sizes})")
    return resolved


def _clips(config: RunConfig, store: Store) -> ClipData:
    """Return the clips of a configuration for what no seed changes: how many and which they are, and their shape."""
    return clips_of(config, store, (0, 0))


def _filled(changes: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Fill in the protocol, which all arms share, where an arm brings a whole ``data``."""
    data = changes.get("data")
    if isinstance(data, DataConfig):
        return {**changes, "data": dataclasses.replace(data, protocol=protocol)}
    return dict(changes)


@dataclass(frozen=True, kw_only=True)
class PreparedStudy:
    """A planned study, ready to start.

    Args:
        study: the resolved study.
        store: the clips.
        plan: the study's plan.
        tasks: all runs, in the order of ``plan.runs``.
    """

    study: Study
    store: Store
    plan: StudyPlan
    tasks: tuple[Task, ...]


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """A planned search, ready to start.

    Args:
        search: the resolved search.
        store: the clips.
        plan: the search's plan.
    """

    search: Search
    store: Store
    plan: SearchPlan


def prepare_study(study: Study, store: Store, command: dict[str, Any], confirms: str | None = None) -> PreparedStudy:
    """Plan a resolved study.

    Runs are ordered seed block by seed block: a table of an unfinished study then has about as many runs of each arm.

    Args:
        study: a study that :func:`resolve` returned.
        store: the clips.
        command: the options that ``resume`` repeats.
        confirms: key of the search whose best trials are the study's arms; None where it is no confirmation.

    Raises:
        InputError: an arm cannot be built; the message names the arm and the reason.
    """
    arms = tuple(_planned(study, arm, store) for arm in study.arms)
    configs = {arm.name: study.config(arm) for arm in study.arms}
    selected = {name: selection(config, store) for name, config in configs.items()}
    seeds = range(study.first_seed, study.first_seed + study.seeds)
    cells = [(arm.name, seed) for seed in seeds for arm in study.arms]
    tasks = tuple(task_of(configs[arm], store.fingerprint, (study.seed, seed), selected[arm]) for arm, seed in cells)
    declared = [[(arm.name, arm.config, *selected[arm.name]) for arm in arms], store.fingerprint, study.seed]
    plan = StudyPlan(
        **_common(study, store, command),
        key=f"{study.name}-{digest(declared)[:6]}",
        reference=study.reference,
        arms=arms,
        runs=tuple(
            PlannedRun(run_id=task.run_id, arm=arm, seed=seed) for task, (arm, seed) in zip(tasks, cells, strict=True)
        ),
        confirms=confirms,
        margin=study.margin,
        trends=tuple(
            PlannedTrend(
                axis=trend.axis, lines=tuple((name, tuple(sorted(line.items()))) for name, line in trend.lines.items())
            )
            for trend in study.trends
        ),
        **_contrasts(study, configs),
    )
    return PreparedStudy(study=study, store=store, plan=plan, tasks=tasks)


def _contrasts(study: Study, configs: Mapping[str, RunConfig]) -> dict[str, Any]:
    """Return the fields of a study's plan that hold its contrasts: those declared, or its components' contributions."""
    if study.contrasts is not None:
        return {"contrasts": tuple(PlannedContrast(name=c.name, weights=c.weights) for c in study.contrasts)}
    found = contributions(study.components, configs)
    return {
        "contrasts": tuple(PlannedContrast(name=name, weights=dict(w)) for name, w in found.weights.items()),
        "contributions": bool(study.components),
        "unknown": tuple(found.unknown),
    }


def prepare_search(search: Search, store: Store, command: dict[str, Any]) -> PreparedSearch:
    """Plan a resolved search.

    The key of the search does not depend on its space, number of trials, sampler or stopping rule, so the search keeps
    its trials when these change. With a population, the key also depends on the number of trials and the stopping rule.

    Args:
        search: a search that :func:`resolve` returned.
        store: the clips.
        command: the options that ``resume`` repeats.

    Raises:
        InputError: the base or one of the points cannot be built (the message names it and the reason), or a factor of
            a population changes the network's weights.
    """
    for number, point in enumerate(search.initial_points):
        try:
            cost_of(search.config(search.space.decode(point)), store, search.seed)
        except InputError as error:
            raise InputError(f"{f'point {number}' if number else 'the base'}: {error}") from None
    declared = [canonical(search.base), list(search.costs), store.fingerprint, search.seed]
    declared += selection(search.base, store)
    if search.stopping.rule == "pbt":
        _check_shapes(search, store)
        declared += [search.trials, canonical(search.stopping)]
    plan = SearchPlan(
        **_common(search, store, command),
        key=f"{search.name}-{digest(declared)[:6]}",
        trials=search.trial_count,
        sampler=search.sampler,
        stopping=search.stopping,
        costs=tuple(search.costs),
        factors={name: str(domain) for name, domain in search.space.factors.items()},
        placements={
            name: {stream: list(stages) for stream, stages in domain.streams.items()}
            for name, domain in search.space.factors.items()
            if isinstance(domain, Placement)
        },
        epochs=search.base.epochs,
    )
    return PreparedSearch(search=search, store=store, plan=plan)


def _check_shapes(search: Search, store: Store) -> None:
    """Check that no factor of a population changes names or shapes of the weights, which members copy from each other.

    Raises:
        InputError: a factor does.
    """

    def weight_shapes(config: RunConfig) -> dict[str, Sequence[int]]:
        model = config.model.build(_clips(config, store).shape)
        return {name: tensor.shape for name, tensor in model.state_dict().items()}

    base = weight_shapes(search.base)
    for name, domain in search.space.factors.items():
        for value in (*domain.examples, ()) if isinstance(domain, Subset) else domain.examples:
            try:
                same = not isinstance(domain, Placement) and weight_shapes(search.config({name: value})) == base
            except Exception:
                continue  # the value does not fit the base's other values; a trial with others may be possible
            if not same:
                raise InputError(
                    f"search {search.name}: factor {name} changes the network's weights, which members of a population "
                    "copy from each other"
                )


def trial_task(search: Search, config: RunConfig, store: Store, lineage: Sequence[str | int] = ()) -> Task:
    """Return the run of a trial.

    Args:
        search: the trial's search.
        config: the trial's configuration.
        store: the clips.
        lineage: what else identifies the run; see :func:`~coablate_platform.study.identity.run_id`.
    """
    lineage = (*lineage, *selection(config, store), UNTESTED)
    return dataclasses.replace(task_of(config, store.fingerprint, (search.seed, TRIAL_SEED), lineage), tested=False)


def _common(study: Study | Search, store: Store, command: dict[str, Any]) -> dict[str, Any]:
    """Return what the plans of studies and searches have in common."""
    training, clips = study.base.training, _clips(study.base, store)
    selected = dict(zip(("clips",), selection(study.base, store), strict=False))
    return {
        "name": study.name,
        "title": study.title,
        "metric": training.metric,
        "selection": training.selection if isinstance(training.selection, str) else f"epoch {training.selection}",
        "protocol": get_protocol(str(study.base.data.protocol), store.own_protocol).name,
        "data": {
            "uri": store.uri,
            "fingerprint": store.fingerprint,
            "source": store.source,
            "classes": clips.shape.classes,
            "test_subjects": clips.test_subjects,
            **clips.sizes,
            **selected,
        },
        "class_names": store.classes,
        "command": command,
    }


def task_of(config: RunConfig, fingerprint: str, seed: tuple[int, int], lineage: Sequence[str | int] = ()) -> Task:
    """Return the run of a configuration with (study seed, run seed) on the store with this fingerprint."""
    identity = run_id(config, fingerprint, seed, lineage)
    return Task(run_id=identity, config=config, seed=seed, origin=origin_of(config))


def selection(config: RunConfig, store: Store) -> tuple[str, ...]:
    """Return what identities need besides a protocol's name: a digest of the clips that it selects.

    Nothing for Coablate's own protocols, whose names always mean the same. Any other name may stand for another
    protocol in another file.
    """
    return () if config.data.protocol in PROTOCOLS else (_clips(config, store).selection,)


def _planned(study: Study, arm: Arm, store: Store) -> PlannedArm:
    config = study.config(arm)
    try:
        cost = cost_of(config, store, study.seed)
    except InputError as error:
        raise InputError(f"arm {arm.name!r}: {error}") from None
    return PlannedArm(
        name=arm.name,
        difference=canonical_changes(study.difference(arm)),
        config=canonical(config),
        parameters=cost.parameters,
        flops=cost.flops,
        published=dict(arm.published),
    )
