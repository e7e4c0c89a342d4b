"""What the commands of the command line show, as tables for a terminal."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coablate_platform.data.clips import clips_of
from coablate_platform.data.formats.clip import NO_VIDEO
from coablate_platform.data.info import StoreDescription
from coablate_platform.data.prepare import PrepareReport
from coablate_platform.journal.pull import Pulled
from coablate_platform.planning.costs import seconds_per_run
from coablate_platform.planning.resolve import PreparedSearch, PreparedStudy
from coablate_platform.results.importance import least_trials
from coablate_platform.results.report import SearchFindings, best_table, importance_caution, importance_table
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import load_object, registered
from coablate_platform.study.load import STUDY_KIND, load_study, shipped
from coablate_platform.study.overrides import MODEL_KIND, changes_text
from coablate_platform.study.plan import StudyPlan
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

T = TypeVar("T")
LISTED = 20
"""How many unreadable clips are listed; the report in the store has all."""
NAMED = 3
"""How many of the clips that were left out for one reason are named."""


def plan_view(prepared: PreparedStudy | PreparedSearch, say: Callable[[str], None]) -> RenderableType:
    """Show what a study or a search would run, what that costs and how long it takes.

    Args:
        prepared: the study or the search.
        say: shows a line while the training steps of an arm are timed.
    """
    return _search_view(prepared, say) if isinstance(prepared, PreparedSearch) else _study_view(prepared, say)


def _search_view(prepared: PreparedSearch, say: Callable[[str], None]) -> RenderableType:
    """Show the search space, the budget, the stopping rule and an upper bound of the compute time."""
    plan, search, store = prepared.plan, prepared.search, prepared.store
    rows = [(name, str(domain)) for name, domain in search.space.factors.items()]
    threads = search.resources.threads
    say("timing training steps of the base")
    seconds = seconds_per_run(search.base, clips_of(search.base, store, (search.seed, 0)), threads)
    epochs, confirmation_runs = search.base.epochs, (search.confirm + 1) * search.seeds
    stopping = search.stopping
    prunes = stopping.may_stop_before(epochs)
    rule = (
        f"stopping rule {stopping.rule} from epoch {stopping.grace_of(epochs)} on" if prunes else "no trial is pruned"
    )
    text = (
        f"{search.trial_count} trials sampled by {search.sampler}, {rule}; then the best {search.confirm} and the base "
        f"over {search.seeds} seeds ({confirmation_runs} runs of {epochs} epochs). A run of the base takes about "
        f"{_duration(seconds)} of one worker's time on this machine, without data loading; all runs together take at "
        f"most about {_duration(seconds * (search.trial_count + confirmation_runs))}"
    )
    return Group(_table(f"{plan.title} — {plan.protocol}", ("factor", "values"), rows), Text(text))


def best_view(findings: SearchFindings) -> RenderableType:
    """Show the best trials of a search with their configurations."""
    title = f"{findings.plan.title} — {findings.plan.protocol}"
    note = (
        "Values of the validation split from one seed per trial: they show where to look, not which is better "
        "(coablate table shows that)."
    )
    return Group(_table(title, *best_table(findings)), Text(note))


def importance_view(findings: SearchFindings) -> RenderableType:
    """Show the importance of each parameter, over all trials early on and over the completed trials at the end."""
    parts: list[RenderableType] = []
    for importances, title in (
        (findings.early_importances, f"after epoch {findings.common_epoch}, all trials"),
        (findings.final_importances, "completed trials"),
    ):
        if importances:
            parts += [_table(title, *importance_table(importances)), Text(importance_caution(importances))]
        else:
            least = least_trials(len(findings.plan.factors))
            parts.append(
                Text(f"{title}: no importances: they need about {least} trials or more, with different scores")
            )
    return Group(*parts)


def _study_view(prepared: PreparedStudy, say: Callable[[str], None]) -> RenderableType:
    """Show the arms with their differences, sizes, costs and estimated times, and the number of runs."""
    plan, study, store = prepared.plan, prepared.study, prepared.store
    rows, total = [], 0.0
    for number, planned in enumerate(plan.arms, start=1):
        say(f"timing training steps of arm {number} of {len(plan.arms)}: {planned.name}")
        config = study.config(study.arm(planned.name))
        seconds = seconds_per_run(config, clips_of(config, store, (study.seed, 0)), study.resources.threads)
        total += seconds * study.seeds
        change = changes_text(planned.difference) or "(reference)"
        rows.append((planned.name, change, f"{planned.parameters:,}", f"{planned.flops / 1e9:.2f}", _duration(seconds)))
    table = _table(f"{plan.title} — {plan.protocol}", ("arm", "difference", "parameters", "GFLOPs", "a run"), rows)
    sizes = ", ".join(f"{plan.data[split]} {split}" for split in ("train", "validation", "test"))
    text = (
        f"{len(plan.arms)} arms × {study.seeds} seeds = {len(plan.runs)} runs; {sizes} clips; "
        f"about {_duration(total)} of one worker's time on this machine, without data loading"
    )
    return Group(table, Text(text), *(Text(line) for line in _contrasts(plan)))


def _contrasts(plan: StudyPlan) -> list[str]:
    """Return what the table will show beside the differences from the reference, and what these arms do not show."""
    names = ", ".join(contrast.name for contrast in plan.contrasts)
    lines = [f"{'what each component adds' if plan.contributions else 'contrasts'}: {names}"] if names else []
    return lines + ([f"not shown by these arms: {', '.join(plan.unknown)}"] if plan.unknown else [])


def studies_view() -> RenderableType:
    """Show the studies and searches that ship or that packages register, with their arms and factors."""
    declared, failures = _loaded(load_study, [*shipped(), *registered(STUDY_KIND)])
    studies = [study for study in declared if isinstance(study, Study)]
    searches = [search for search in declared if isinstance(search, Search)]
    arms = [(s.name, s.title, ", ".join(arm.name for arm in s.arms), str(s.seeds)) for s in studies]
    factors = [(s.name, s.title, ", ".join(s.space.factors), f"{s.trials}, {s.sampler}") for s in searches]
    return Group(
        _table("Studies", ("name", "question", "arms", "seeds"), arms),
        _table("Searches", ("name", "question", "factors", "trials, sampler"), factors),
        *failures,
    )


def models_view() -> RenderableType:
    """Show the models that shipped studies use or that packages register, each with its settings and their defaults."""
    models, failures = _loaded(lambda name: load_object(name, MODEL_KIND).value, registered(MODEL_KIND))
    kinds = {type(model) for model in [*(load_study(name).base.model for name in shipped()), *models]}
    tables = []
    for kind in sorted(kinds, key=lambda kind: kind.__qualname__):
        rows = list(_defaults(kind))
        title = f"{kind.__module__}.{kind.__qualname__} — {(kind.__doc__ or '').partition(chr(10))[0]}"
        tables.append(_table(title, ("model.…", "default"), rows))
    return Group(*tables, *failures)


def _defaults(kind: type[Any], part: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings of a configuration and their defaults, those of its parts too."""
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.default) and not isinstance(field.default, type):
            yield from _defaults(type(field.default), f"{part}{field.name}.")
        else:
            yield f"{part}{field.name}", _default(field)


def prepare_view(report: PrepareReport, store: Path) -> RenderableType:
    """Show what a preparation has written, and which clips it left out for which reason."""
    lines = [
        f"{store}: {report.done} clips written, {report.skipped} there already, {len(report.bad)} bad, "
        f"{len(report.missing)} left out"
    ]
    for reason, count in Counter(report.missing.values()).items():
        names = [name for name, why in report.missing.items() if why == reason]
        lines.append(f"  {count} left out: {reason} ({', '.join(names[:NAMED])}{', …' if count > NAMED else ''})")
    if NO_VIDEO in report.missing.values():
        lines.append("  to keep clips without video, prepare a store of skeletons alone: --skeleton-only")
    if report.lacks_video:
        lines.append("  the store has no video, because no clip of the input has one that is named as expected")
    lines += [f"  {bad.name}: {bad.file}: {bad.reason}" for bad in report.bad[:LISTED]]
    if len(report.bad) > LISTED:
        lines.append(f"  … and {len(report.bad) - LISTED} more")
    if report.bad or report.missing:
        lines.append(f"  all of them: {store / 'report.json'}")
    return Text("\n".join(lines))


def pulled_view(pulled: Pulled, folder: Path) -> RenderableType:
    """Show what a pull has brought, and how to look at it."""
    lines = [
        f"{folder}: {', '.join(pulled.studies)}; {pulled.files} files, {pulled.size / 1e6:.1f} MB, all intact "
        f"({pulled.fetched} fetched, the others were there)",
        f"  coablate table {folder}, coablate ui {folder}",
    ]
    if pulled.changing:
        lines.append("  the study still runs: pull again to bring what was written since")
    return Text("\n".join(lines))


def store_view(store: StoreDescription) -> RenderableType:
    """Show a store's splits and what it holds."""
    splits = [
        (p.name + (" (default)" if p.default else ""), str(p.train), str(p.validation), str(p.test), p.rule)
        for p in store.protocols
    ]
    low, median, high = store.frames
    video = ", ".join(f"{h}×{w} ({count} clips)" for (h, w), count in store.video_sizes.items()) or "none"
    facts = [
        (
            "clips",
            f"{store.clips} of {len(store.classes)} classes, {min(store.clips_per_class)} to "
            f"{max(store.clips_per_class)} a class",
        ),
        ("skeleton", f"{store.joints} joints, up to {store.persons} person(s)"),
        ("skeleton frames", f"{low} to {high} a clip, median {median:g}"),
        ("video", video),
        ("recipe", ", ".join(f"{name}={value}" for name, value in store.recipe.items())),
        ("made with", ", ".join(f"{name} {version}" for name, version in store.versions.items())),
        ("fingerprint", store.fingerprint),
    ]
    return Group(
        _table("Protocols", ("protocol", "train", "validation", "test", "held out for validation"), splits),
        _table(f"{store.uri} ({store.source})", ("", ""), facts),
    )


def _loaded(load: Callable[[str], T], names: Iterable[str]) -> tuple[list[T], list[Text]]:
    """Return what is found under some names, and why something is not: a package's mistake hides no other's."""
    found: list[T] = []
    failures: list[Text] = []
    for name in names:
        try:
            found.append(load(name))
        except InputError as error:
            failures.append(Text(str(error)))
    return found, failures


def _table(title: str, heads: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=Text(title))
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _default(field: "dataclasses.Field[object]") -> str:
    return "(required)" if field.default is dataclasses.MISSING else str(field.default)


def _duration(seconds: float) -> str:
    """Write a duration in seconds, or in minutes if it is at least two."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
