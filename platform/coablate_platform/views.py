"""What the command line shows: values of the rooms as tables for a terminal."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coablate_platform.data.info import StoreDescription
from coablate_platform.data.prepare import PrepareReport
from coablate_platform.driver import Prepared
from coablate_platform.run.planning import clips_of, seconds_a_run
from coablate_platform.study.load import load_study, shipped

LISTED = 20  # bad files shown; the report in the store has all


def plan_view(prepared: Prepared) -> RenderableType:
    """Arms with their difference, size, cost and estimated time; then how many runs that makes."""
    plan, study = prepared.plan, prepared.study
    rows, total = [], 0.0
    for planned in plan.arms:
        config = study.config(study.arm(planned.name))
        seconds = seconds_a_run(config, clips_of(config, prepared.store, (study.seed, 0)))
        total += seconds * study.seeds
        change = ", ".join(f"{path}={value}" for path, value in planned.difference.items()) or "(reference)"
        rows.append((planned.name, change, f"{planned.parameters:,}", f"{planned.flops / 1e9:.2f}", _minutes(seconds)))
    table = _table(f"{plan.title} — {plan.protocol}", ("arm", "difference", "parameters", "GFLOPs", "a run"), rows)
    sizes = ", ".join(f"{plan.data[split]} {split}" for split in ("train", "validation", "test"))
    text = (
        f"{len(plan.arms)} arms × {study.seeds} seeds = {len(plan.runs)} runs; {sizes} clips; "
        f"about {_minutes(total)} of one worker's time on this machine, without data loading"
    )
    return Group(table, Text(text))


def studies_view() -> RenderableType:
    """The shipped studies with their arms."""
    studies = [load_study(name) for name in shipped()]
    rows = [(s.name, s.title, ", ".join(arm.name for arm in s.arms), str(s.seeds)) for s in studies]
    return _table("Studies", ("name", "question", "arms", "seeds"), rows)


def models_view() -> RenderableType:
    """The models that shipped studies use, each with its settings and their defaults."""
    kinds = {type(load_study(name).base.model) for name in shipped()}
    tables = []
    for kind in sorted(kinds, key=lambda kind: kind.__qualname__):
        rows = [(field.name, _default(field)) for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        title = f"{kind.__module__}.{kind.__qualname__} — {(kind.__doc__ or '').splitlines()[0]}"
        tables.append(_table(title, ("model.…", "default"), rows))
    return Group(*tables)


def prepare_view(report: PrepareReport, store: Path) -> RenderableType:
    """What was done, and every file that was left out, with its reason."""
    lines = [
        f"{store}: {report.done} clips written, {report.skipped} there already, {len(report.bad)} bad, "
        f"{len(report.missing)} left out by the set's own list"
    ]
    lines += [f"  {bad.name}: {bad.file}: {bad.reason}" for bad in report.bad[:LISTED]]
    if len(report.bad) > LISTED:
        lines.append(f"  … and {len(report.bad) - LISTED} more")
    if report.bad:
        lines.append(f"  all of them: {store / 'report.json'}")
    return Text("\n".join(lines))


def store_view(store: StoreDescription) -> RenderableType:
    """A store's splits and facts."""
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


def _table(title: str, heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _default(field: "dataclasses.Field[Any]") -> str:
    return "(required)" if field.default is dataclasses.MISSING else str(field.default)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
