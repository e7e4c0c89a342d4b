"""Writes a table as text: Markdown for people, LaTeX for papers, CSV and JSON for programs, HTML for a browser."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape

from coablate_platform.journal.journal import Journal
from coablate_platform.results.statistics import PairedDifference
from coablate_platform.results.table import Row, Table
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.overrides import changes_text

_NONE = "–"


def render(table: Table, format: str) -> str:  # noqa: A002 - the word users know
    """Return a table as text in one of :data:`FORMATS` (``md``, ``csv``, ``tex``, ``json``, ``html``).

    Raises:
        InputError: there is no such format.
    """
    if format not in FORMATS:
        raise InputError(f"table format {format!r} is unknown{did_you_mean(format, FORMATS)}")
    return FORMATS[format](table)


def save(table: Table, journal: Journal) -> None:
    """Write the table as ``studies/<key>/table.<format>`` in every format."""
    for format in FORMATS:  # noqa: A001
        journal.write_study_file(table.plan.key, f"table.{format}", render(table, format).encode())


@dataclass(frozen=True)
class _Column:
    """A column as people see it: its head, its cell in a row, and whether it is left-aligned."""

    head: str
    cell: Callable[[Row], str]
    left: bool = False


def _columns(table: Table) -> list[_Column]:
    columns = [
        _Column("Arm", lambda row: row.arm, left=True),
        _Column("n", lambda row: f"{row.summary.n}/{row.planned}"),
        _Column(f"{table.plan.metric} %", _mean),
        _Column("difference [95 % CI]", _difference),
        _Column("p (Holm)", lambda row: _NONE if row.p_holm is None else f"{row.p_holm:.3f}"),
        _Column("parameters", lambda row: _shorten(row.parameters)),
        _Column("FLOPs", lambda row: _shorten(row.flops)),
    ]
    for index, protocol in enumerate(table.protocols):
        head = f"published {protocol.replace('/', ' ').upper()}"
        columns.append(_Column(head, partial(_published, index)))
    if table.comparable:
        columns.append(_Column("measured − published", lambda row: _number(row.minus_published, sign=True)))
    if any(row.not_completed for row in table.rows):
        columns.append(_Column("not completed", _not_completed, left=True))
    return columns


def caption(table: Table) -> list[str]:
    """Return the caption of a table: the study's title, then what the numbers are, line by line."""
    plan = table.plan
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in plan.runs}))
    data = plan.data
    lines = [
        plan.title,
        f"Protocol {plan.protocol}; test {plan.metric} in percent, mean ± sample standard deviation over seeds "
        f"{seeds}; tested epoch: {plan.selection}.",
        f"n: completed/planned runs; runs that are not completed enter no mean. Differences from {plan.reference!r} "
        "are paired by seed, in percentage points, with 95 % confidence intervals (Student's t) and Holm-adjusted "
        "p-values of the paired t-test.",
        f"Data {data.get('uri', 'unnamed')}, fingerprint {str(data.get('fingerprint', 'unknown'))[:12]}; "
        f"study {plan.key}.",
    ]
    if plan.confirms:
        chosen = [f"{row.arm}: {changes_text(row.difference)}." for row in table.rows if row.difference]
        if chosen:
            lines.append(f"The arms are the best trials of {plan.confirms} on the validation split, and its base:")
            lines += chosen
        else:
            lines.append(f"No trial of {plan.confirms} except its base is completed.")
    if table.protocols and not table.comparable:
        lines.append(
            f"Published values are of other data than {plan.protocol} and cannot be compared with the measured ones."
        )
    if table.plan.as_recorded:
        lines.append(f"As recorded, by other code than was at hand: {table.plan.as_recorded}.")
    if table.mixture:
        lines.append(f"Mixed versions: {table.mixture}.")
    return lines


def _markdown(table: Table) -> str:
    columns = _columns(table)
    grid = [[column.head.replace("|", "\\|") for column in columns]]
    grid += [[column.cell(row).replace("|", "\\|") for column in columns] for row in table.rows]
    widths = [max(3, *(len(line[index]) for line in grid)) for index in range(len(columns))]
    lines = [
        "| "
        + " | ".join(
            text.ljust(width) if column.left else text.rjust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        )
        + " |"
        for line in grid
    ]
    rule = "|".join(
        ":" + "-" * (width + 1) if column.left else "-" * (width + 1) + ":"
        for width, column in zip(widths, columns, strict=True)
    )
    title, *rest = caption(table)
    return "\n".join([f"**{title}**", "", lines[0], f"|{rule}|", *lines[1:], "", *rest]) + "\n"


def _latex(table: Table) -> str:
    columns = _columns(table)
    body = [" & ".join(_tex(column.cell(row)) for column in columns) + r" \\" for row in table.rows]
    return (
        "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_tex(' '.join(caption(table)))}}}",
                rf"\label{{tab:{table.plan.key}}}",
                rf"\begin{{tabular}}{{{''.join('l' if column.left else 'r' for column in columns)}}}",
                r"\toprule",
                " & ".join(_tex(column.head) for column in columns) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )
        + "\n"
    )


def _html(table: Table) -> str:
    columns = _columns(table)
    title, *rest = caption(table)
    head = "".join(f"<th>{escape(column.head)}</th>" for column in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(column.cell(row))}</td>" for column in columns) + "</tr>" for row in table.rows
    )
    notes = "\n".join(f"<p>{escape(line)}</p>" for line in rest)
    style = (
        "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
        "th,td{padding:.3em .8em;text-align:right;border-bottom:1px solid #ccc}th:first-child,td:first-child"
        "{text-align:left}p{color:#555;max-width:60em}"
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<table>\n<tr>{head}</tr>\n{body}\n</table>\n{notes}\n</body>\n</html>\n"
    )


def _csv(table: Table) -> str:
    rows = [_csv_row(table, row) for row in table.rows]
    sink = io.StringIO()
    writer = csv.DictWriter(sink, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _csv_row(table: Table, row: Row) -> dict[str, object]:
    """Return :func:`_numbers` with text in place of nested values, and a column per published value at the end."""
    numbers = _numbers(table, row)
    del numbers["published_percent"]
    numbers["difference"] = json.dumps(row.difference, ensure_ascii=False)
    numbers["seeds"] = " ".join(f"{seed}:{value!r}" for seed, value in sorted(row.values.items()))
    numbers["not_completed"] = " ".join(f"{state.value}:{n}" for state, n in sorted(row.not_completed.items()))
    published = zip(table.protocols, row.published, strict=True)
    return numbers | {f"published_percent {protocol}": value for protocol, value in published}


def _json(table: Table) -> str:
    plan = table.plan
    content = {
        "study": plan.key,
        "metric": plan.metric,
        "protocol": plan.protocol,
        "reference": plan.reference,
        "selection": plan.selection,
        "data": plan.data,
        "published_comparable": table.comparable,
        "mixture": table.mixture,
        "as_recorded": table.plan.as_recorded,
        "caption": caption(table),
        "rows": [_numbers(table, row) for row in table.rows],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _numbers(table: Table, row: Row) -> dict[str, object]:
    """Return all numbers of a row: the metric as a fraction of 1, or in percent where the name says so."""
    paired = row.paired or PairedDifference(n=0, effect=None)
    return {
        "arm": row.arm,
        "difference": row.difference,
        "n": row.summary.n,
        "planned": row.planned,
        "mean": _digits(row.summary.mean),
        "sd": _digits(row.summary.sd),
        "effect": _digits(paired.effect),
        "effect_n": row.paired.n if row.paired else None,
        "ci_low": _digits(paired.low),
        "ci_high": _digits(paired.high),
        "p": _digits(paired.p),
        "p_holm": _digits(row.p_holm),
        "parameters": row.parameters,
        "flops": row.flops,
        "published_percent": dict(zip(table.protocols, row.published, strict=True)),
        "minus_published_percent": _digits(row.minus_published),
        "seeds": {str(seed): value for seed, value in sorted(row.values.items())},
        "not_completed": {state.value: count for state, count in sorted(row.not_completed.items())},
    }


def _digits(value: float | None) -> float | None:
    """Round to twelve significant digits: further ones differ between versions of scipy."""
    return None if value is None else float(f"{value:.12g}")


def _mean(row: Row) -> str:
    if row.summary.mean is None:
        return _NONE
    spread = "" if row.summary.sd is None else f" ± {100 * row.summary.sd:.2f}"
    return f"{100 * row.summary.mean:.2f}{spread}"


def _difference(row: Row) -> str:
    if row.paired is None:
        return "reference"
    if row.paired.effect is None:
        return _NONE
    text = f"{100 * row.paired.effect:+.2f}"
    if row.paired.low is None or row.paired.high is None:
        return text.replace("-", "−")
    return f"{text} [{100 * row.paired.low:+.2f}, {100 * row.paired.high:+.2f}]".replace("-", "−")


def _not_completed(row: Row) -> str:
    counts = sorted(row.not_completed.items())
    return ", ".join(f"{count} {state.value.replace('_', ' ')}" for state, count in counts) or _NONE


def _published(index: int, row: Row) -> str:
    return _number(row.published[index])


def _number(value: float | None, sign: bool = False) -> str:
    return _NONE if value is None else f"{value:{'+' if sign else ''}.1f}".replace("-", "−")


def _shorten(count: float) -> str:
    """Shorten a count: 12 345 678 to ``12.3 M``."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f}"


_TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "λ": r"$\lambda$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


FORMATS: dict[str, Callable[[Table], str]] = {
    "md": _markdown,
    "csv": _csv,
    "tex": _latex,
    "json": _json,
    "html": _html,
}
"""Format, which is also the file ending -> function that writes a table in it."""
