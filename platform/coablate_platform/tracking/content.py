"""What an MLflow run holds, and how it differs from what it must hold. Pure: no MLflow here."""

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from coablate_platform.journal.difference import Difference, Remedy

PLACE = "MLflow"
PARENT = "mlflow.parentRunId"
FOLDERS = ("table", "figures", "report")
"""Folders of artifacts; a run has a tag ``coablate.<folder>`` with the digest of what was sent."""
_OURS = ("train/", "validation/", "test/", "pretraining/")
"""How the metrics of a training run begin. Others are the user's own."""

Level = tuple[str | None, str | None]
"""An MLflow run's (arm, seed), see :data:`coablate_platform.tracking.mlflow_runs.Level`."""
Point = tuple[int, float]
"""Step and value of a metric."""
_Stored = tuple[int, float | str]


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """The content of an MLflow run.

    Args:
        id: MLflow's run id; in a draft a number.
        status: MLflow's status.
        params: name -> value.
        tags: name -> value.
        metrics: name -> its points in the order of logging.
        files: path of an artifact -> content.
    """

    id: str
    status: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """Which (arm, seed) the run stands for, by its tags."""
        return self.tags.get("coablate.arm"), self.tags.get("coablate.seed")


def by_level(runs: Sequence[RunContent]) -> dict[Level, list[RunContent]]:
    """Return level -> its runs; the ids of parents are replaced by their names, since a draft has other ids."""
    names = {run.id: name_of(run.level) for run in runs}
    found: dict[Level, list[RunContent]] = defaultdict(list)
    for run in runs:
        parent = {PARENT: names.get(run.tags[PARENT], "a run that is not there")} if PARENT in run.tags else {}
        tags = {name: value for name, value in run.tags.items() if name not in _digests()}
        found[run.level].append(replace(run, tags=tags | parent))
    return found


def name_of(level: Level) -> str:
    """Return the name of a level for the user."""
    arm, seed = level
    return "the study's run" if arm is None else arm if seed is None else f"{arm} seed {seed}"


def differences(expected: Sequence[RunContent], held: Sequence[RunContent]) -> Iterator[Difference]:
    """Yield what differs between the runs that MLflow must hold and those that it holds, the newest first.

    Tags, params and files that the exporter does not write are the user's own, and are no difference.
    """
    wanted, there = by_level(expected), by_level(held)
    if wanted and not there:
        yield _difference("the study", "is not there", f"{len(wanted)} runs", Remedy.SEND)
        return
    for level, (content,) in wanted.items():
        if level not in there:
            yield _difference(name_of(level), "is missing", "a run", Remedy.SEND)
            continue
        *doubles, oldest = there[level]
        for double in doubles:
            yield _difference(name_of(level), f"is there twice ({double.id})", "one run", Remedy.DELETE, double.id)
        yield from _of_run(name_of(level), content, oldest)
    for level in there.keys() - wanted.keys():
        for run in there[level]:
            yield _difference(name_of(level), f"is there ({run.id})", "no such run", Remedy.DELETE, run.id)


def _of_run(name: str, wanted: RunContent, held: RunContent) -> Iterator[Difference]:
    """Yield the differences of one run: a line for its status, tags, params, metrics and each file."""
    if held.status != wanted.status:
        yield _difference(name, f"status {held.status}", wanted.status, Remedy.SEND)
    if other := {key: value for key, value in wanted.tags.items() if held.tags.get(key) != value}:
        yield _difference(name, *_first("tag", other, held.tags), Remedy.SEND)
    if other := {key: value for key, value in wanted.params.items() if held.params.get(key) != value}:
        remedy = Remedy.RENEW if other.keys() & held.params.keys() else Remedy.SEND  # a param cannot be changed
        yield _difference(name, *_first("param", other, held.params), remedy, held.id)
    yield from _of_metrics(name, wanted, held)
    for path, content in wanted.files.items():
        if held.files.get(path) != content:
            found = "has another content" if path in held.files else "is missing"
            yield _difference(f"{name}, {path}", found, "that of the journal", Remedy.WRITE, held.id)


def _of_metrics(name: str, wanted: RunContent, held: RunContent) -> Iterator[Difference]:
    """Yield the difference of a run's metrics: in one line, with the first of them.

    Of an arm and of a study, the last value counts. Of a training run, the whole history does: MLflow shows it as a
    curve. A history cannot be changed, but what it lacks at its end can be sent.
    """
    whole, last = wanted.level[1] is not None, max((step for step, _ in held.metrics.get("epoch", ())), default=0)
    names = wanted.metrics.keys() | {key for key in held.metrics if whole and key.startswith(_OURS)}
    lacking, wrong = dict[str, set[_Stored]](), dict[str, set[_Stored]]()  # points by metric, where there are any
    for key in sorted(names):
        want, has = (_stored(run.metrics.get(key, ()), whole) for run in (wanted, held))
        lacking |= {key: want - has} if want - has else {}
        wrong |= {key: has - want} if has - want else {}
    if not lacking and not wrong:
        return
    can_be_sent = all(step > last or key.startswith("test/") for key, points in lacking.items() for step, _ in points)
    key, others = min(lacking | wrong), len(lacking.keys() | wrong.keys()) - 1
    more = f" (and {others} metrics more)" if others else ""
    remedy = Remedy.SEND if not whole or (can_be_sent and not wrong) else Remedy.RENEW
    expected = f"{_points(lacking.get(key, set()))}{more}"
    yield _difference(name, f"metric {key}: {_points(wrong.get(key, set()))}", expected, remedy, held.id)


def _stored(points: Sequence[Point], whole: bool) -> set[_Stored]:
    """Return points, or only the last one, as MLflow stores them.

    An infinite value becomes the largest number, and NaN a text, which is equal to itself.
    """
    most = sys.float_info.max
    return {
        (step, "NaN" if math.isnan(value) else max(min(value, most), -most))
        for step, value in (points if whole else points[-1:])
    }


def _points(points: set[_Stored]) -> str:
    """Return the first of some points in words."""
    if not points:
        return "nothing"
    step, value = min(points, key=lambda point: point[0])
    more = f" and {len(points) - 1} more" if len(points) > 1 else ""
    return f"{value} at step {step}{more}"


def _first(kind: str, wanted: Mapping[str, str], held: Mapping[str, str]) -> tuple[str, str]:
    """Return in words what the first differing tag or param is and should be."""
    key, more = min(wanted), f" (and {len(wanted) - 1} {kind}s more)" if len(wanted) > 1 else ""
    found = f"is {_short(held[key])}" if key in held else "is missing"
    return f"{kind} {key} {found}", f"{_short(wanted[key])}{more}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:60]}…")


def _digests() -> set[str]:
    return {f"coablate.{folder}" for folder in FOLDERS}


def _difference(what: str, found: str, expected: str, remedy: Remedy, target: str = "") -> Difference:
    return Difference(place=PLACE, what=what, found=found, expected=expected, remedy=remedy, target=target)
