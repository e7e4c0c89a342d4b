"""Compares the code and package versions that computed recorded results, with each other and with the code at hand."""

from collections.abc import Iterable, Mapping
from typing import Any

from coablate_platform.journal.journal import RunRecord
from coablate_platform.study.plan import StudyPlan
from coablate_platform.train.events import RunState
from coablate_platform.train.provenance import PLATFORM


def mixture_of(plan: StudyPlan, records: dict[str, RunRecord], planned: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the code and package versions that differ between completed runs or within one, and the runs that have them.

    Code is compared part by part: runs of different models have only the platform's code in common.

    Args:
        plan: the study's plan.
        records: run id -> record, of all its runs.
        planned: run id -> context, with ``code`` and ``packages``, of the attempt that will complete a run.

    Returns:
        The differing versions in words; empty if there are none.
    """
    runs_by_version: dict[str, dict[str, list[str]]] = {}  # part of the code or package -> version -> its runs
    for run in plan.runs:
        record = records[run.run_id]
        last = record.context if record.state is RunState.COMPLETED else planned.get(run.run_id)
        contexts = [] if last is None else [*record.trained, last]
        for context in contexts:
            for part, version in _versions(context).items():
                runs = runs_by_version.setdefault(part, {}).setdefault(version, [])
                if (name := f"{run.arm}/seed {run.seed}") not in runs:
                    runs.append(name)
    return "; ".join(
        f"{part} " + " and ".join(f"{version} ({', '.join(runs)})" for version, runs in versions.items())
        for part, versions in runs_by_version.items()
        if len(versions) > 1
    )


def outdated(plan: StudyPlan, records: dict[str, RunRecord], at_hand: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the completed runs that other code trained than the code at hand.

    Args:
        plan: the study's plan.
        records: run id -> record, of all its runs.
        at_hand: run id -> the versions with which this process would train the run, with ``code``.

    Returns:
        The parts of the code that differ, with the runs, in words; empty if there are none.
    """
    return code_changes(
        (f"{run.arm}/seed {run.seed}", records[run.run_id], at_hand[run.run_id])
        for run in plan.runs
        if records[run.run_id].state is RunState.COMPLETED
    )


def code_changes(runs: Iterable[tuple[str, RunRecord, Mapping[str, Any]]]) -> str:
    """Name the runs that other code trained than the code at hand; see :func:`outdated`.

    Args:
        runs: for each run its name, its record, and the versions at hand.
    """
    names_by_change: dict[str, list[str]] = {}
    for name, record, at_hand in runs:
        for context in [*record.trained, record.context]:
            for change in _changes(context, at_hand) if context else []:
                names = names_by_change.setdefault(change, [])
                if name not in names:
                    names.append(name)
    return "; ".join(f"{change} ({', '.join(names)})" for change, names in names_by_change.items())


def _changes(recorded: Mapping[str, Any], at_hand: Mapping[str, Any]) -> list[str]:
    """Return in which parts the code of two contexts differs, in words.

    A part that only one of them has is no difference: then another part, which imports it, has changed too.

    Args:
        recorded: a context with ``code``; without it, the code is unknown.
        at_hand: the versions at hand, with ``code``.
    """
    before, now = _code(recorded), _code(at_hand)
    return [
        f"code of {part} was {before.get(part, 'not recorded')} and is {now[part]}"
        for part in now
        if (part in before and before[part] != now[part]) or not before
    ]


def _code(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the code in the context of an attempt: part -> digest."""
    code = context.get("code") or {}
    return dict(code) if isinstance(code, Mapping) else {PLATFORM: code}  # written by earlier versions


def _versions(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions in the context of an attempt: part of the code, or package -> version."""
    return {f"code of {part}": digest for part, digest in _code(context).items()} | dict(context.get("packages") or {})
