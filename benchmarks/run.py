"""Run the benchmarks and rewrite their tables in ``docs/performance.md``.

``python benchmarks/run.py [--only NAME ...]``; a table says when and on what machine it was measured, so that one may
be measured again alone. Exit codes: 0 all tables are written, 1 a benchmark failed and its table stays.
"""

import datetime
import enum
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import torch
import typer

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "performance.md"
# several times what an idle machine of two cores takes
TIMEOUT_S = {"parse": 60, "loader": 120, "step": 300, "graph": 300, "passes": 300, "lanes": 400, "search": 4500}
HEADER = "| what | here | reference | ratio |\n|---|---|---|---|\n"


def circumstances() -> str:
    """Describe what the figures depend on, and what else the machine does before they are measured."""
    able = torch.cpu.get_capabilities()
    flags = [flag for flag in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(flag)]
    processor = f"{able.get('cpu_name', platform.machine())} ({', '.join(flags)})"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, Ray {metadata.version('ray')}"
    load = f"load average {os.getloadavg()[0]:.1f} at the start"
    return f"{datetime.date.today()}, {os.cpu_count()} cores {processor}, {platform.system()}, {versions}, {load}"


def measured(name: str) -> str:
    """Return the rows that a benchmark prints.

    Raises:
        RuntimeError: it failed, took too long, or printed no row.
    """
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S[name], check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name}: took more than {TIMEOUT_S[name]} s") from None
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    if done.returncode or not rows:
        raise RuntimeError(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return "".join(f"{line}\n" for line in rows)


def with_table(page: str, name: str, rows: str, when: str) -> str:
    """Return the page with the benchmark's table renewed.

    Raises:
        RuntimeError: the page has no place for it.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    source = f"\n`python benchmarks/run.py --only {name}`, {when}.\n"
    found = re.compile(f"({re.escape(begin)}).*?({re.escape(end)})", re.DOTALL)
    if not found.search(page):
        raise RuntimeError(f"{PAGE}: no {begin.strip()} … {end}")
    return found.sub(lambda match: match[1] + HEADER + rows + source + match[2], page)


class Benchmark(enum.StrEnum):
    """What can be measured alone."""

    PARSE = "parse"
    LOADER = "loader"
    STEP = "step"
    GRAPH = "graph"
    PASSES = "passes"
    LANES = "lanes"
    SEARCH = "search"


def main(
    only: Annotated[list[Benchmark] | None, typer.Option(help="Measure this one alone; repeatable.")] = None,
) -> None:
    """Run the benchmarks and rewrite their tables in docs/performance.md."""
    failed = False
    for name in only or TIMEOUT_S:
        print(f"{name} …", flush=True)
        try:
            when = circumstances()
            rows = measured(name)
            PAGE.write_text(with_table(PAGE.read_text(), name, rows, when))
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed = True
        else:
            print(rows, end="", flush=True)
    raise typer.Exit(int(failed))


if __name__ == "__main__":
    typer.run(main)
