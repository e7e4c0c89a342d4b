"""Reads Python source without running it: what it imports, and a digest of what it does."""

import ast
import hashlib
from collections.abc import Iterator, Mapping


def imported_names(content: bytes) -> Iterator[str]:
    """Yield the top-level names that a Python file imports, in functions too."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return  # the import itself reports the error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return a digest (8 hex digits) of what Python files do: comments, docstrings and layout do not change it.

    Args:
        files: path -> content.
    """
    return hash_of({name: _without_comments(content) for name, content in files.items()}, 8)


def _without_comments(content: bytes) -> bytes:
    """Return a Python file's code in one fixed layout, without comments and docstrings."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return content
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_docstring(part)] or [ast.Pass()]
    return ast.unparse(tree).encode()


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def hash_of(files: Mapping[str, bytes], digits: int) -> str:
    """Return a digest of the names and contents of files, with this number of hex digits."""
    hasher = hashlib.sha256()
    for name in sorted(files):
        hasher.update(f"{name} {len(files[name])}\n".encode() + files[name])
    return hasher.hexdigest()[:digits]
