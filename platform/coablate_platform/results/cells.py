"""The cells of a table as people read them: a grid of the arms, and one of the contrasts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from coablate_platform.results.statistics import MOST_SEEDS, Estimate, Verdict
from coablate_platform.results.table import ContrastRow, Row, Table

NONE = "–"
CUT = "*"
"""Marks an interval that was cut at what is possible."""
SEEN_POINTS = 2.0
"""With too few seeds, the table names how many would show a difference of so many points."""
LEAST_FOR_WINS = 5
"""With fewer pairs, the number of seeds that an arm has won says nothing."""
AnyRow = TypeVar("AnyRow", Row, ContrastRow)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as texts.

    Args:
        title: what it shows.
        heads: head of each column.
        left: whether each column is left-aligned.
        lines: the cells, line by line.
    """

    title: str
    heads: Sequence[str]
    left: Sequence[bool]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class _Column(Generic[AnyRow]):
    """A column: its head, its cell in a row, and whether it is left-aligned."""

    head: str
    cell: Callable[[AnyRow], str]
    left: bool = False


def grids(table: Table) -> list[Grid]:
    """Return the arms' grid, and the contrasts' where there are any."""
    return [arm_grid(table), *([contrast_grid(table)] if table.contrasts else [])]


def arm_grid(table: Table) -> Grid:
    """Return the grid of the arms."""
    estimates = [row.estimate for row in table.rows if row.estimate]
    columns = [
        _Column[Row]("Arm", lambda row: row.arm, left=True),
        _Column[Row]("n", lambda row: f"{row.summary.n}/{row.planned}"),
    ]
    if any(row.estimate and row.estimate.n != row.summary.n for row in table.rows):
        columns.append(_Column("pairs", lambda row: NONE if row.estimate is None else str(row.estimate.n)))
    columns += [
        _Column(f"{table.plan.metric} %", _mean),
        _Column("difference [95 % CI]", lambda row: "reference" if row.estimate is None else effect_text(row.estimate)),
        _Column("p (Holm)", lambda row: _p(row.estimate)),
        _Column("verdict", lambda row: NONE if row.estimate is None else verdict_text(row.estimate), left=True),
    ]
    if any(estimate.n >= LEAST_FOR_WINS for estimate in estimates):
        columns.append(_Column("seeds won", lambda row: NONE if row.estimate is None else _wins(row.estimate)))
    if any(row.collapsed for row in table.rows):
        columns.append(_Column("collapsed", lambda row: f"{len(row.collapsed)}/{row.summary.n}"))
    columns += [
        _Column("parameters", lambda row: _shorten(row.parameters)),
        _Column("FLOPs", lambda row: _shorten(row.flops)),
        *(
            _Column[Row](f"published {_upper(protocol)}", partial(_published, index))
            for index, protocol in enumerate(table.protocols)
        ),
    ]
    if table.comparable:
        columns.append(_Column("measured − published", lambda row: _number(row.minus_published, sign=True)))
    if any(row.not_completed for row in table.rows):
        columns.append(_Column("not completed", _not_completed, left=True))
    return _grid(table.plan.title, columns, table.rows)


def contrast_grid(table: Table) -> Grid:
    """Return the grid of the contrasts."""
    title, head = ("What each component adds", "Component") if table.plan.contributions else ("Contrasts", "Contrast")
    columns = [
        _Column[ContrastRow](head, lambda row: row.name, left=True),
        _Column[ContrastRow]("n", lambda row: str(row.estimate.n)),
        _Column[ContrastRow]("points [95 % CI]", lambda row: effect_text(row.estimate)),
        _Column[ContrastRow]("p (Holm)", lambda row: _p(row.estimate)),
        _Column[ContrastRow]("verdict", lambda row: verdict_text(row.estimate), left=True),
        _Column[ContrastRow]("computed as", formula, left=True),
    ]
    for index, protocol in enumerate(table.protocols):
        if any(row.published[index] is not None for row in table.contrasts):
            columns.append(_Column(f"published {_upper(protocol)}", partial(_published_points, index)))
    return _grid(title, columns, table.contrasts)


def _grid(title: str, columns: Sequence[_Column[AnyRow]], rows: Sequence[AnyRow]) -> Grid:
    return Grid(
        title=title,
        heads=[column.head for column in columns],
        left=[column.left for column in columns],
        lines=[[column.cell(row) for column in columns] for row in rows],
    )


def verdict_text(estimate: Estimate) -> str:
    """Return a verdict in words, with the number of seeds that would decide where it is open."""
    if estimate.effect is None:
        return NONE
    margin = "" if estimate.margin is None else f"{100 * estimate.margin:g}"
    if estimate.verdict is Verdict.EQUAL:
        return f"equal within {margin}"
    if estimate.verdict is Verdict.UNDECIDED:
        return f"undecided{_needed(estimate, estimate.effect)}"
    if estimate.verdict is Verdict.TOO_FEW:
        seeds = _needed(estimate, SEEN_POINTS / 100)
        return f"too few seeds{seeds and f'{seeds[:-1]} for {SEEN_POINTS:g} points)'}"
    return f"{estimate.verdict.value}{f', by less than {margin}' if estimate.within_margin else ''}"


def _needed(estimate: Estimate, difference: float) -> str:
    """Return how many seeds would show a difference, in brackets; empty where that is not known."""
    if estimate.spread is None or not difference:
        return ""
    needed = estimate.seeds_needed(difference)
    return f" (n > {MOST_SEEDS})" if needed is None else f" (n ≈ {needed})"


def effect_text(estimate: Estimate) -> str:
    """Return a contrast in percentage points with its interval; with too few seeds, with the value of each seed."""
    if estimate.effect is None:
        return NONE
    text = _points(estimate.effect)
    if estimate.low is None or estimate.high is None:
        return text if estimate.n < 2 else f"{text} ({', '.join(map(_points, estimate.differences.values()))})"
    return f"{text} [{_points(estimate.low)}, {_points(estimate.high)}]{CUT if estimate.cut else ''}"


def formula(row: ContrastRow) -> str:
    """Return how a contrast is computed from the arms: ``½ ('all' + '+DSFM' − 'MMTM' − '+TIAM')``."""
    largest = max(map(abs, row.weights.values()))
    terms: list[str] = []
    for arm, weight in sorted(row.weights.items(), key=lambda item: -item[1]):
        factor = abs(weight) / largest
        sign = "−" if weight < 0 else "+" if terms else ""
        terms.append(f"{sign} {'' if factor == 1 else f'{factor:.3g} '}'{arm}'".strip())
    total = " ".join(terms)
    return total if largest == 1 else f"{_factor(largest)} ({total})"


def _factor(value: float) -> str:
    """Return a factor, as one over a whole number where it is that."""
    return f"1/{round(1 / value)}" if abs(1 / value - round(1 / value)) < 1e-9 else f"{value:.3g}"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")


def _mean(row: Row) -> str:
    """Return the mean over the seeds that the reference has completed too, ± standard deviation; two values as such."""
    values = [f"{100 * value:.2f}" for value in row.values.values()]
    if row.common.mean is None:
        return NONE
    if row.common.sd is None:
        return f"{100 * row.common.mean:.2f}"
    if row.common.n == len(values) < 3:
        return f"{100 * row.common.mean:.2f} ({', '.join(values)})"
    return f"{100 * row.common.mean:.2f} ± {100 * row.common.sd:.2f}"


def _p(estimate: Estimate | None) -> str:
    if estimate is None or estimate.p_holm is None:
        return NONE
    return "< 0.001" if estimate.p_holm < 0.001 else f"{estimate.p_holm:.3f}"


def _wins(estimate: Estimate) -> str:
    return f"{estimate.wins:g}/{estimate.n}" if estimate.n >= LEAST_FOR_WINS else NONE


def _not_completed(row: Row) -> str:
    counts = sorted(row.not_completed.items())
    return ", ".join(f"{count} {state.value.replace('_', ' ')}" for state, count in counts) or NONE


def _published(index: int, row: Row) -> str:
    return _number(row.published[index])


def _published_points(index: int, row: ContrastRow) -> str:
    return _number(row.published[index], sign=True)


def _number(value: float | None, sign: bool = False) -> str:
    return NONE if value is None else f"{value:{'+' if sign else ''}.1f}".replace("-", "−")


def _upper(protocol: str) -> str:
    return protocol.replace("/", " ").upper()


def _shorten(count: float) -> str:
    """Shorten a count: 12 345 678 to ``12.3 M``."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f}"
