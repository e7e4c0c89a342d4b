"""What the mutation tests change in a file and what they leave alone; and that their lists are of today's files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LEFT_ALONE = '''
"""A docstring."""
import logging
log = logging.getLogger(__name__)
T = TypeVar("T", bound=int)
@dataclass(frozen=True)
class Thing:
    """Of 3 fields."""
    size: "int | None" = None
    def __str__(self) -> str:
        return f"{self.size:.3f} things"
def f(x: dict[str, Literal[1, 2]]) -> None:
    assert x is not None
    log.info("%d", 3)
    pairs = zip(x, x, strict=True)
    raise_later = f"message {x:>3}"
    return None
def g() -> tuple[int, ...]:
    return ()
'''
EXPRESSIONS = {
    "a < b": ["a < b → a <= b"],
    "0 <= a > b": ["0 <= a > b → 0 < a > b", "0 <= a > b → 0 <= a >= b", "0 → 1"],
    "a == 'x'": ["a == 'x' → a != 'x'", "'x' → 'not x'"],
    "a in b": ["a in b → a not in b"],
    "a is None": ["a is None → a is not None"],
    "a and b": ["a and b → a or b"],
    "not a": ["not a → a"],
    "-a": ["-a → a"],
    "a // b": ["a // b → a / b"],
    "a % b": ["a % b → a // b"],
    "a * 2": ["a * 2 → a / 2", "2 → 3"],
    "True": ["True → False"],
    "0.5": ["0.5 → 1.5"],
    "'text'": [],
    "max(a)": ["max → min"],
    "f(a, b=c)": ["b=c left out of f(a, b=c)"],
    "(a, b)": ["a left out of (a, b)", "b left out of (a, b)"],
    "a[b:]": ["b → None", "b → b + 1"],
    "a if b else c": ["b → True", "b → False"],
    "[a for a in b if c]": ["c → True", "c → False"],
}
STATEMENTS = {
    "if a:\n    x = b": ["a → True", "a → False"],
    "if (a := b):\n    x = a": ["(a := b) → (a := b) or True", "(a := b) → (a := b) and False"],
    "f()": ["f() removed"],
    "a.b = c": ["a.b = c removed"],
    "a += b": ["a += b removed", "a += b → a -= b"],
    "del a": ["del a removed"],
    "raise E(f'{1}')": ["raise E(f'{1}') removed"],
    "while a:\n    break": ["a → False", "break removed"],
    "def f() -> int:\n    return a": ["return a → return None"],
}


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[None]:
    """Let the modules in this folder, which is no package, be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


def changes_of(source: str, folder: Path) -> list[str]:
    from mutants import mutants_of

    (folder / "module.py").write_text(source)
    return sorted(mutant.change for mutant in mutants_of(folder / "module.py"))


@pytest.mark.parametrize(("expression", "changes"), EXPRESSIONS.items())
def test_each_part_of_an_expression_is_changed(tmp_path, expression, changes):
    assert changes_of(f"x = {expression}", tmp_path) == sorted(changes)


@pytest.mark.parametrize(("statement", "changes"), STATEMENTS.items())
def test_each_statement_that_acts_is_changed(tmp_path, statement, changes):
    assert changes_of(statement, tmp_path) == sorted(changes)


def test_text_types_and_declarations_are_left_alone(tmp_path):
    assert changes_of(LEFT_ALONE, tmp_path) == []


def test_a_mutant_is_the_module_with_that_change_alone(tmp_path):
    from mutants import mutants_of

    file = tmp_path / "module.py"
    file.write_text("a = 1\nb = a < 1\nc = 5\n")
    found = []
    for mutant in mutants_of(file):
        space: dict[str, Any] = {}
        exec(mutant.code, space)
        found.append((mutant.line, mutant.text, mutant.change, (space["a"], space["b"], space["c"])))
    assert found == [
        (1, "a = 1", "1 → 0", (0, True, 5)),
        (2, "b = a < 1", "a < 1 → a <= 1", (1, True, 5)),
        (2, "b = a < 1", "1 → 0", (1, False, 5)),
        (3, "c = 5", "5 → 6", (1, False, 6)),
    ]


def test_the_lists_are_of_files_and_lines_that_there_are():
    from mutants import mutants_of
    from targets import EQUIVALENT, TARGETS

    package = ROOT / "platform" / "coablate_platform"
    assert [
        test for tests in TARGETS.values() for test in tests if not (ROOT / test.partition("::")[0]).is_file()
    ] == []
    assert {file for file, _, _ in EQUIVALENT} <= TARGETS.keys()
    for file in {file for file, _, _ in EQUIVALENT}:
        known = {(file, mutant.text, mutant.change) for mutant in mutants_of(package / file)}
        assert {excluded for excluded in EQUIVALENT if excluded[0] == file} - known == set()
