"""Tests the tests: changes one thing at a time in the files that hold decisions, and sees whether a test fails.

A mutant that no test catches is printed. The heavy libraries are imported once. Each mutant is a forked child that
imports this project's modules anew, so that all of them get the changed one.
"""

import gc
import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Annotated, Any

import pytest
import typer
from mutants import Mutant, mutants_of
from targets import EQUIVALENT, TARGETS

os.environ["OMP_NUM_THREADS"] = "1"  # torch's, which is not imported yet: its threads do not survive a fork
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # some take longer than the tests
ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "platform" / "coablate_platform"
HEAVY = (
    *("numpy", "scipy.stats", "pandas", "pyarrow", "torch", "optuna", "cmaes", "sqlalchemy", "mlflow", "rich.console"),
    *("ray", "ray.cloudpickle", "ray.tune", "ray.train", "ray.train.torch"),
)
LEAST = 0.95
MEMORY = 8 * 2**30  # bytes that a mutant may hold
Order = dict[str, tuple[bool, float]]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the tests do with the file as it is.

    Args:
        seconds: test -> how long it takes.
        lines: test -> the lines of the file that it runs.
    """

    seconds: dict[str, float]
    lines: dict[str, list[int]]

    def order(self, line: int) -> Order:
        """Return the tests' sort keys: those that run the line come first, fast ones before slow ones."""
        return {test: (line not in self.lines[test], seconds) for test, seconds in self.seconds.items()}

    @property
    def limit(self) -> float:
        """Seconds after which a mutant hangs."""
        return 60 + 5 * sum(self.seconds.values())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from given code, and remembers whether it was asked to."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self._name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        self._path, self._code = path, code
        self.used = False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: Any) -> None:
        self.used = True
        exec(self._code, module.__dict__)


class _Plugin:
    """Orders the tests; without an order, notes how long each takes and which lines of the file it runs."""

    def __init__(self, path: Path, order: Order | None) -> None:
        self._file, self._order = str(path), order
        self.lines: dict[str, set[int]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._order is not None:
            items.sort(key=lambda item: self._order.get(item.nodeid, (False, 0.0)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        if self._order is not None:
            return (yield)
        ran, started = self.lines[item.nodeid], time.monotonic()

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code.co_filename != self._file:
                return None
            ran.add(frame.f_lineno)
            return trace

        sys.settrace(trace)
        threading.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            self.seconds[item.nodeid] = time.monotonic() - started


class Child:
    """A forked process that runs a file's tests with the file's module replaced.

    Args:
        file: below the package.
        code: the module's.
        order: the tests' sort keys; None to write a baseline.
        limit: seconds after which it is killed.
    """

    def __init__(self, file: str, code: CodeType, order: Order | None, limit: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="coablate-mutant-", ignore_cleanup_errors=True)
        self._scratch = Path(self._folder.name)
        self._until = time.monotonic() + limit
        self._pid = os.fork()
        if self._pid:
            return
        exit_code = int(pytest.ExitCode.INTERNAL_ERROR)
        try:
            os.setsid()
            output = os.open(self._scratch / "output", os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            exit_code = self._run(PACKAGE / file, code, TARGETS[file], order)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(exit_code)  # at once: what the parent set up is the parent's to tear down

    def _run(self, path: Path, code: CodeType, tests: tuple[str, ...], order: Order | None) -> int:
        finder, plugin = _Finder(path, code), _Plugin(path, order)
        sys.meta_path.insert(0, finder)
        options = ["-x", "-q", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-m", "not slow and not ray"]
        exit_code = int(pytest.main([*options, f"--basetemp={self._scratch / 'tests'}", *tests], plugins=[plugin]))
        if order is None:
            lines = {test: sorted(ran) for test, ran in plugin.lines.items()}
            (self._scratch / "baseline").write_text(json.dumps({"seconds": plugin.seconds, "lines": lines}))
        return exit_code if finder.used else int(pytest.ExitCode.NO_TESTS_COLLECTED)

    def exit_code(self) -> int | None:
        """Return pytest's exit code, a negative one if the process died or hung; None while it runs."""
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        if not ended:
            if time.monotonic() < self._until:
                return None
            os.killpg(self._pid, signal.SIGKILL)
            _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def baseline(self) -> Baseline:
        """Wait for the tests of the unchanged file, and return what they noted.

        Raises:
            SystemExit: they fail, or none imports the file.
        """
        while (exit_code := self.exit_code()) is None:
            time.sleep(0.1)
        if exit_code:
            raise SystemExit(f"the tests fail without any change:\n{(self._scratch / 'output').read_text()}")
        return Baseline(**json.loads((self._scratch / "baseline").read_text()))


def survivors_of(file: str, mutants: list[Mutant], jobs: int) -> Iterator[Mutant]:
    """Yield the mutants of a file that pass its tests.

    Args:
        file: below the package.
        mutants: its.
        jobs: how many run at a time.
    """
    path = PACKAGE / file
    baseline = Child(file, compile(path.read_text(), str(path), "exec"), None, limit=600).baseline()
    left, running = mutants[::-1], dict[Child, Mutant]()
    while left or running:
        while left and len(running) < jobs:
            mutant = left.pop()
            running[Child(file, mutant.code, baseline.order(mutant.line), baseline.limit)] = mutant
        time.sleep(0.02)
        for child in list(running):
            if (exit_code := child.exit_code()) is not None:
                mutant = running.pop(child)
                if exit_code == 0:
                    yield mutant


def main(
    files: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(TARGETS)}; all by default.")] = None,
    jobs: Annotated[int, typer.Option(help="Mutants at a time.")] = os.cpu_count() or 1,
    line: Annotated[int | None, typer.Option(help="Only the mutants of this line.")] = None,
) -> None:
    """Print the mutants that survive and the share that is caught; fail below 95 %."""
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT / folder) for folder in ("platform", "model", "search_spaces")]
    for module in HEAVY:
        importlib.import_module(module)
    gc.freeze()  # else a child's first collection copies them all
    shares = []
    for file in files or TARGETS:
        mutants = [m for m in mutants_of(PACKAGE / file) if line in (None, m.line)]
        mutants = [m for m in mutants if (file, m.text, m.change) not in EQUIVALENT]
        survivors = 0
        for mutant in survivors_of(file, mutants, jobs):
            print(f"{file}:{mutant.line}: {mutant.change}", flush=True)
            survivors += 1
        shares.append(1 - survivors / len(mutants))
        print(f"{file}: {len(mutants) - survivors} of {len(mutants)} caught, {shares[-1]:.1%}", flush=True)
    raise typer.Exit(min(shares) < LEAST)


if __name__ == "__main__":
    typer.run(main)
