"""Plans: a study or a search resolved against a data set, as ``study.json`` keeps them."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from coablate_platform.study.search import Stopping


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """One row of the table.

    Args:
        name: the arm's name, its difference from the reference.
        difference: dotted field -> value, against the reference arm.
        config: the resolved configuration as canonical JSON values.
        parameters: trainable parameters.
        flops: floating-point operations of one clip's forward pass.
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
    """One cell of the design: an arm in a seed block."""

    run_id: str
    arm: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the plans of a study and of a search have in common.

    Args:
        key: folder name below ``studies/``: the name and six hex digits of what was declared.
        name: the study's name.
        title: one line for people.
        metric: the metric in the table, as a fraction of 1.
        selection: the epoch that is tested: ``last``, ``best`` or ``epoch N``.
        protocol: which rows train and test.
        data: ``uri``, ``fingerprint``, ``source``, ``train``, ``validation`` and ``test`` clip counts; and ``clips``, a
            digest of what the protocol selects, where it is none of Coablate's.
        command: the options that ``resume`` repeats.
    """

    key: str
    name: str
    title: str
    metric: str
    selection: str
    protocol: str
    data: dict[str, Any]
    command: dict[str, Any]

    def to_json(self) -> str:
        """Return the content of ``study.json``."""
        return json.dumps({"kind": _KINDS[type(self)]} | asdict(self), indent=2, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class StudyPlan(Plan):
    """Everything that the table of a study needs, without the study's code.

    Args:
        reference: name of the arm that the others are compared with.
        arms: in table order.
        runs: in the order of work, seed block by seed block.
        confirms: key of the search whose best trials are these arms; None for a study of its own.
    """

    reference: str
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]
    confirms: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchPlan(Plan):
    """Everything that the report of a search needs, without the search's code.

    Args:
        trials: how many there will be.
        sampler: which one suggests them.
        stopping: the stopping rule.
        costs: what the metric is traded against.
        factors: dotted field -> its domain in words.
        placements: dotted field of a placement -> its streams -> their stages in order.
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
        ValueError, KeyError, TypeError: the text is damaged or of another version.
    """
    values = json.loads(text)
    kind = values.pop("kind")
    if kind == "search":
        values["stopping"] = Stopping(**values["stopping"])
        return SearchPlan(**values | {"costs": tuple(values["costs"])})
    if kind != "study":
        raise ValueError(f"kind is {kind!r}, expected 'study' or 'search'")
    values["arms"] = tuple(PlannedArm(**arm) for arm in values["arms"])
    values["runs"] = tuple(PlannedRun(**run) for run in values["runs"])
    return StudyPlan(**values)
