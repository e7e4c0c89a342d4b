"""A study resolved against a data set: which runs there are, under which identity. Written as study.json."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


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
class PlannedSearch:
    """What makes a study a search: its trials are its arms, and come one after the other.

    Args:
        trials: how many there will be.
        sampler: who draws them.
        stopping: when they are given up: ``rule``, ``grace`` and ``reduction``.
        costs: what the metric is traded against.
        factors: dotted field -> what it can be, in words.
        placements: dotted field of a placement -> its streams -> their stages in order.
        epochs: the full budget.
    """

    trials: int
    sampler: str
    stopping: dict[str, Any]
    costs: tuple[str, ...]
    factors: dict[str, str]
    placements: dict[str, dict[str, list[str]]]
    epochs: int


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Everything that concluding a study needs, without the study's code.

    Args:
        key: folder name below ``studies/``: the study's name and six hex digits of its declaration.
        name: the study's name.
        title: one line for people.
        reference: name of the arm that the others are compared with.
        metric: the test metric in the table, as a fraction of 1.
        selection: ``last``, ``best`` or ``epoch N``.
        protocol: which rows trained and tested.
        data: ``uri``, ``fingerprint``, ``source``, ``train``, ``validation`` and ``test`` clip counts.
        command: what ``resume`` repeats: study reference, data, protocol, seeds, overrides, address.
        arms: in table order.
        runs: in the order of work, seed block by seed block.
        search: None where the arms are declared.
        concludes: key of the search whose best arms these are; None for a study of its own.
    """

    key: str
    name: str
    title: str
    reference: str
    metric: str
    selection: str
    protocol: str
    data: dict[str, Any]
    command: dict[str, Any]
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]
    search: PlannedSearch | None = None
    concludes: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "StudyPlan":
        values = json.loads(text)
        values["arms"] = tuple(PlannedArm(**arm) for arm in values["arms"])
        values["runs"] = tuple(PlannedRun(**run) for run in values["runs"])
        if (search := values.get("search")) is not None:
            values["search"] = PlannedSearch(**(search | {"costs": tuple(search["costs"])}))
        return cls(**values)
