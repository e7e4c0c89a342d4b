"""Plans: a study or a search after it was resolved against a store, as ``study.json`` keeps it."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from coablate_platform.study.search import Stopping


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """An arm of a plan, one row of the table.

    Args:
        name: the arm's name.
        difference: dotted field -> value, where the arm differs from the reference arm.
        config: the resolved configuration as canonical JSON values.
        parameters: number of trainable parameters.
        flops: floating-point operations of the forward pass of one clip.
        published: protocol -> published value of the study's metric in percent.
    """

    name: str
    difference: dict[str, Any]
    config: dict[str, Any]
    parameters: int
    flops: int
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan: an arm in a seed block, that is, with one run seed."""

    run_id: str
    arm: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class PlannedContrast:
    """A contrast of a plan.

    Args:
        name: the contrast's name.
        weights: arm -> weight; they add up to 0.
    """

    name: str
    weights: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class PlannedTrend:
    """A trend of a plan.

    Args:
        axis: what the number is, with its unit.
        lines: name of a line and its points: the number and the arm that has it, in ascending order.
    """

    axis: str
    lines: tuple[tuple[str, tuple[tuple[float, str], ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the plans of a study and of a search have in common.

    Args:
        key: folder name below ``studies/``: the study's name, and six hex digits of a digest of what was declared.
        name: the study's name.
        title: one line for people.
        metric: name of the metric in the table; its values are fractions of 1.
        selection: the epoch whose weights are tested: ``last``, ``best`` or ``epoch N``.
        protocol: name of the protocol that divides the clips into splits.
        data: ``uri``, ``fingerprint``, ``source``, ``train``, ``validation`` and ``test`` clip counts, ``classes`` and
            ``test_subjects``, their numbers; and for a protocol that is not Coablate's ``clips``, a digest of the clips
            that it selects.
        command: the options that ``resume`` repeats.
        class_names: the names of the classes by label.
        as_recorded: which results were accepted though other code computed them than the code at hand, in words;
            empty if there are none.
    """

    key: str
    name: str
    title: str
    metric: str
    selection: str
    protocol: str
    data: dict[str, Any]
    command: dict[str, Any]
    class_names: tuple[str, ...] = ()
    as_recorded: str = ""

    def to_json(self) -> str:
        """Return the plan as ``study.json`` holds it."""
        return json.dumps({"kind": _KINDS[type(self)]} | asdict(self), indent=2, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class StudyPlan(Plan):
    """The plan of a study. Tables are made from it without the study's code.

    Args:
        reference: name of the arm that the others are compared with.
        arms: the arms, in table order.
        runs: the runs in the order in which they are started, seed block by seed block.
        confirms: key of the search whose best trials are the arms; None where the study is no confirmation.
        contrasts: the family of contrasts beside the differences from the reference.
        contributions: whether they are the contributions of the study's components.
        unknown: components and interactions of components that the arms do not show.
        margin: percentage points within which a difference counts as equal; None if none was declared.
        trends: arms as points of lines over a number.
    """

    reference: str
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]
    confirms: str | None = None
    contrasts: tuple[PlannedContrast, ...] = ()
    contributions: bool = False
    unknown: tuple[str, ...] = ()
    margin: float | None = None
    trends: tuple[PlannedTrend, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SearchPlan(Plan):
    """The plan of a search. Reports are made from it without the search's code.

    Args:
        trials: number of trials.
        sampler: name of the sampler.
        stopping: the stopping rule.
        costs: what is minimised beside the metric.
        factors: dotted field -> its domain in words.
        placements: dotted field of a placement -> stream -> the stream's stages in order.
        epochs: the full budget of a trial.
    """

    trials: int
    sampler: str
    stopping: Stopping
    costs: tuple[str, ...]
    factors: dict[str, str]
    placements: dict[str, dict[str, list[str]]]
    epochs: int


AnyPlan = StudyPlan | SearchPlan
_KINDS: dict[type[Plan], str] = {StudyPlan: "study", SearchPlan: "search"}


def plan_from_json(text: str) -> AnyPlan:
    """Return the plan that :meth:`Plan.to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the text is damaged, or another version wrote it.
    """
    values = json.loads(text)
    kind = values.pop("kind")
    values["class_names"] = tuple(values.get("class_names", ()))
    if kind == "search":
        values["stopping"] = Stopping(**values["stopping"])
        return SearchPlan(**values | {"costs": tuple(values["costs"])})
    if kind != "study":
        raise ValueError(f"kind is {kind!r}, expected 'study' or 'search'")
    values["arms"] = tuple(PlannedArm(**arm) for arm in values["arms"])
    values["runs"] = tuple(PlannedRun(**run) for run in values["runs"])
    values["contrasts"] = tuple(PlannedContrast(**contrast) for contrast in values.get("contrasts", ()))
    values["trends"] = tuple(
        PlannedTrend(
            axis=trend["axis"],
            lines=tuple((name, tuple((x, arm) for x, arm in points)) for name, points in trend["lines"]),
        )
        for trend in values.get("trends", ())
    )
    values["unknown"] = tuple(values.get("unknown", ()))
    return StudyPlan(**values)
