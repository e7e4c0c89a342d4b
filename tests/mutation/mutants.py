"""Makes a file's mutants: the same module with one comparison, number, condition, argument or statement changed.

Left alone: annotations, docstrings, decorators, messages of errors and of the log, and what only asserts: ``assert``,
and ``strict`` of ``zip``.
"""

import ast
import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

_PAIRS: tuple[tuple[Any, Any], ...] = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Is, ast.IsNot)),
    *((ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.Div)),
)
_FLIPPED = dict(_PAIRS) | {other: one for one, other in _PAIRS} | {ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv}
_SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LEFT_ALONE = ("annotation", "returns", "decorator_list", "format_spec")
_REMOVED = (ast.Expr, ast.Delete, ast.Raise, ast.AugAssign, ast.Continue, ast.Break)
_LONGEST = 110  # characters of a change in words


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A module with one place changed.

    Args:
        line: where it is.
        text: that line.
        change: what was there and what is now.
        code: the whole changed module.
    """

    line: int
    text: str
    change: str
    code: CodeType


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a node hangs in the tree.

    Args:
        parent: the node above it.
        field: of the parent.
        index: in the field's list; None if the field is no list.
        node: what is there.
        returns: what the function around it returns, as annotated.
    """

    parent: ast.AST
    field: str
    index: int | None
    node: Any
    returns: ast.expr | None

    def put(self, node: ast.AST) -> None:
        """Let another node hang here."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants_of(path: Path) -> list[Mutant]:
    """Return a file's mutants by line."""
    source = path.read_text()
    tree, lines, mutants = ast.parse(source), source.splitlines(), []
    for place in list(_places(tree, None)):
        for changed, change in list(_variants(place)):
            place.put(ast.copy_location(changed, place.node))
            code = compile(ast.fix_missing_locations(tree), str(path), "exec")
            place.put(place.node)
            line = place.node.lineno
            mutants.append(Mutant(line=line, text=lines[line - 1].strip(), change=_short(change), code=code))
    return sorted(mutants, key=lambda mutant: mutant.line)


def _short(change: str) -> str:
    half = _LONGEST // 2
    return change if len(change) <= _LONGEST else f"{change[:half]}…{change[-half:]}"


def _places(parent: ast.AST, returns: ast.expr | None) -> Iterator[_Place]:
    """Yield every place below a node that may be changed."""
    for field, value in ast.iter_fields(parent):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if field in _LEFT_ALONE or not isinstance(node, ast.AST) or _decides_nothing(node):
                continue
            yield _Place(parent=parent, field=field, index=index, node=node, returns=returns)
            if not isinstance(node, ast.Raise):  # its message is text
                yield from _places(node, node.returns if isinstance(node, _FUNCTIONS) else returns)


def _decides_nothing(node: ast.AST) -> bool:
    """Say whether a node decides nothing: it is for people, for the type checker, or asserts what is known."""
    if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.keyword):
        return node.arg == "strict"
    if isinstance(node, ast.Expr):
        called = node.value.func if isinstance(node.value, ast.Call) else None
        logs = isinstance(called, ast.Attribute) and ast.unparse(called.value) == "log"
        return isinstance(node.value, ast.Constant) or logs
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) == "TypeVar"
    return isinstance(node, _FUNCTIONS) and node.name in ("__str__", "__repr__")


def _variants(place: _Place) -> Iterator[tuple[ast.AST, str]]:
    """Yield what could stand in a place instead, and the change in words."""
    node = place.node
    before = ast.unparse(node)
    if _is_removable(node):
        yield ast.Pass(), f"{before} removed"
    if isinstance(node, ast.Return) and _says(node.value) and _says(place.returns):
        yield ast.Return(value=ast.Constant(None)), f"{before} → return None"
    if isinstance(node, ast.AugAssign) and type(node.op) in _FLIPPED:
        changed = copy.deepcopy(node)
        changed.op = _FLIPPED[type(node.op)]()
        yield changed, f"{before} → {ast.unparse(changed)}"
    if isinstance(node, ast.expr):
        for instead in itertools.chain(_conditions(place), _operators(place), _values(place), _bounds(place)):
            yield instead, f"{before} → {ast.unparse(instead)}"
        for instead, part in _shortened(place):
            yield instead, f"{part} left out of {before}"


def _is_removable(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
    return isinstance(node, _REMOVED)


def _says(node: ast.expr | None) -> bool:
    """Return whether an expression is there and more than what is as false as None: only its type would differ."""
    return node is not None and ast.unparse(node) not in ("None", "False", "()", "[]", "{}", "''")


def _conditions(place: _Place) -> Iterator[ast.expr]:
    """Yield a condition that always holds and one that never does. What it assigns with ``:=``, it still assigns."""
    is_test = place.field == "test" and isinstance(place.parent, ast.If | ast.IfExp | ast.While)
    if not is_test and not (place.field == "ifs" and isinstance(place.parent, ast.comprehension)):
        return
    assigns = any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(place.node))
    for always in (False,) if isinstance(place.parent, ast.While) else (True, False):
        constant = ast.Constant(always)
        yield ast.BoolOp(op=ast.Or() if always else ast.And(), values=[place.node, constant]) if assigns else constant


def _operators(place: _Place) -> Iterator[ast.expr]:
    """Yield an expression with one operator changed or left out."""
    node, changed = place.node, copy.deepcopy(place.node)
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[index] = _FLIPPED[type(op)]()
            yield changed
    if isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in _FLIPPED:
        changed.op = _FLIPPED[type(node.op)]()
        yield changed
    if isinstance(node, ast.UnaryOp):
        yield node.operand


def _values(place: _Place) -> Iterator[ast.expr]:
    """Yield another number, truth value or compared string, or the other one of two functions."""
    match place.node:
        case ast.Constant(value=bool()):
            yield ast.Constant(not place.node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant({0: 1, 1: 0}.get(place.node.value, place.node.value + 1))
        case ast.Constant(value=str()) if isinstance(place.parent, ast.Compare):
            yield ast.Constant(f"not {place.node.value}")
        case ast.Name() if place.node.id in _SWAPPED:
            yield ast.Name(id=_SWAPPED[place.node.id], ctx=ast.Load())


def _shortened(place: _Place) -> Iterator[tuple[ast.expr, str]]:
    """Yield a call, tuple, list or set without one of its named arguments or elements, and that part."""
    match place.node:
        case ast.Call(keywords=parts):
            field = "keywords"
        case ast.Tuple(elts=parts, ctx=ast.Load()) | ast.List(elts=parts, ctx=ast.Load()) | ast.Set(elts=parts):
            field = "elts"
        case _:
            return
    if place.field == "slice":
        return  # of a type
    for index, part in enumerate(parts):
        if _decides_nothing(part):
            continue
        changed = copy.deepcopy(place.node)
        del getattr(changed, field)[index]
        yield changed, ast.unparse(part)


def _bounds(place: _Place) -> Iterator[ast.expr]:
    """Yield a slice's bound that is left out and, if it is no number, one that is one further."""
    if isinstance(place.parent, ast.Slice):
        yield ast.Constant(None)
        if not isinstance(place.node, ast.Constant):
            yield ast.BinOp(left=place.node, op=ast.Add(), right=ast.Constant(1))
