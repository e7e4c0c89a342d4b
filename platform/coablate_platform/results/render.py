"""Writes a table as text: Markdown for people, LaTeX for papers, CSV and JSON for programs, HTML for a browser."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from html import escape

from coablate_platform.results.caption import caption
from coablate_platform.results.cells import Grid, grids
from coablate_platform.results.latex import latex
from coablate_platform.results.statistics import Estimate
from coablate_platform.results.table import ContrastRow, Row, Table
from coablate_platform.study.errors import InputError, did_you_mean


def render(table: Table, format: str) -> str:  # noqa: A002 - the word users know
    """Return a table as text in one of :data:`FORMATS` (``md``, ``csv``, ``tex``, ``json``, ``html``).

    Raises:
        InputError: there is no such format.
    """
    if format not in FORMATS:
        raise InputError(f"table format {format!r} is unknown{did_you_mean(format, FORMATS)}")
    return FORMATS[format](table)


def table_files(table: Table) -> dict[str, bytes]:
    """Return file name -> content of the table in every format: ``table.md``, ``table.csv`` …"""
    return {f"table.{ending}": render(table, ending).encode() for ending in FORMATS}


def _markdown(table: Table) -> str:
    first, *others = grids(table)
    title, *rest = caption(table)
    parts = [f"**{title}**", "", *_markdown_grid(first), ""]
    for grid in others:
        parts += [f"**{grid.title}**", "", *_markdown_grid(grid), ""]
    return "\n".join([*parts, *rest]) + "\n"


def _markdown_grid(grid: Grid) -> list[str]:
    lines = [[text.replace("|", "\\|") for text in line] for line in (grid.heads, *grid.lines)]
    widths = [max(3, *(len(line[index]) for line in lines)) for index in range(len(grid.heads))]
    head, *body = (
        "| "
        + " | ".join(
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(line, widths, grid.left, strict=True)
        )
        + " |"
        for line in lines
    )
    rule = "|".join(
        ":" + "-" * (width + 1) if left else "-" * (width + 1) + ":"
        for width, left in zip(widths, grid.left, strict=True)
    )
    return [head, f"|{rule}|", *body]


def _html(table: Table) -> str:
    first, *others = grids(table)
    title, *rest = caption(table)
    tables = [_html_grid(first), *(f"<h2>{escape(grid.title)}</h2>\n{_html_grid(grid)}" for grid in others)]
    notes = "\n".join(f"<p>{escape(line)}</p>" for line in rest)
    style = (
        "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
        "th,td{padding:.3em .8em;text-align:right;border-bottom:1px solid #ccc}.l"
        "{text-align:left}p{color:#555;max-width:60em}"
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(tables)
        + f"\n{notes}\n</body>\n</html>\n"
    )


def _html_grid(grid: Grid) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=l' if left else ''}>{escape(cell)}</{tag}>"
            for cell, left in zip(cells, grid.left, strict=True)
        )

    body = "\n".join(f"<tr>{line(cells, 'td')}</tr>" for cells in grid.lines)
    return f"<table>\n<tr>{line(grid.heads, 'th')}</tr>\n{body}\n</table>"


def _csv(table: Table) -> str:
    rows = [_csv_row(table, row) for row in table.rows]
    rows += [dict.fromkeys(rows[0]) | _csv_contrast(table, row) for row in table.contrasts]
    sink = io.StringIO()
    writer = csv.DictWriter(sink, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _csv_row(table: Table, row: Row) -> dict[str, object]:
    """Return :func:`_numbers` with text in place of nested values, and a column per published value at the end."""
    numbers = {"kind": "arm"} | _numbers(table, row)
    del numbers["published_percent"]
    numbers["collapsed"] = " ".join(map(str, row.collapsed))
    numbers["difference"] = _text(row.difference)
    numbers["seeds"] = " ".join(f"{seed}:{value!r}" for seed, value in sorted(row.values.items()))
    numbers["not_completed"] = " ".join(f"{state.value}:{n}" for state, n in sorted(row.not_completed.items()))
    published = zip(table.protocols, row.published, strict=True)
    return numbers | {f"published_percent {protocol}": value for protocol, value in published}


def _csv_contrast(table: Table, row: ContrastRow) -> dict[str, object]:
    """Return the values of a contrast in the columns of the arms."""
    published = {f"published_percent {p}": value for p, value in zip(table.protocols, row.published, strict=True)}
    return {"kind": "contrast", "arm": row.name, "difference": _text(row.weights)} | _test(row.estimate) | published


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


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
        "margin_points": plan.margin,
        "rows": [_numbers(table, row) for row in table.rows],
        "contrasts": [
            {
                "contrast": row.name,
                "weights": dict(row.weights),
                **_test(row.estimate),
                "published_points": dict(zip(table.protocols, map(_digits, row.published), strict=True)),
            }
            for row in table.contrasts
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _numbers(table: Table, row: Row) -> dict[str, object]:
    """Return all numbers of a row: the metric as a fraction of 1, or in percent where the name says so."""
    return {
        "arm": row.arm,
        "difference": row.difference,
        "n": row.summary.n,
        "planned": row.planned,
        "mean": _digits(row.summary.mean),
        "sd": _digits(row.summary.sd),
        "common_mean": _digits(row.common.mean),
        **_test(row.estimate),
        "parameters": row.parameters,
        "flops": row.flops,
        "published_percent": dict(zip(table.protocols, row.published, strict=True)),
        "minus_published_percent": _digits(row.minus_published),
        "seeds": {str(seed): value for seed, value in sorted(row.values.items())},
        "not_completed": {state.value: count for state, count in sorted(row.not_completed.items())},
        "collapsed": row.collapsed,
    }


def _test(estimate: Estimate | None) -> dict[str, object]:
    """Return the numbers of an estimate; None for each of the reference."""
    estimate = estimate or Estimate(differences={}, effect=None)
    return {
        "effect": _digits(estimate.effect),
        "pairs": estimate.n or None,
        "ci_low": _digits(estimate.low),
        "ci_high": _digits(estimate.high),
        "p": _digits(estimate.p),
        "p_holm": _digits(estimate.p_holm),
        "verdict": None if estimate.effect is None else estimate.verdict.value,
    }


def _digits(value: float | None) -> float | None:
    """Round to twelve significant digits: further ones differ between versions of scipy."""
    return None if value is None else float(f"{value:.12g}")


FORMATS: dict[str, Callable[[Table], str]] = {
    "md": _markdown,
    "csv": _csv,
    "tex": latex,
    "json": _json,
    "html": _html,
}
"""Format, which is also the file ending -> function that writes a table in it."""
