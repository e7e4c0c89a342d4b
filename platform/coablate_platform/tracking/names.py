"""Names that MLflow takes.

MLflow takes letters, digits, spaces and ``_-.:/``, at most 250 of them, in a name that a path could have. What it does
not take is written as ``_xHEX_``, as spreadsheets do: ``gate=off`` is ``gate_x3D_off``. Different names stay different.
"""

import hashlib
import re

LONGEST_NAME = 200
"""Longest name in characters; MLflow takes 250, so a head such as ``effect/`` fits in front of it."""
LONGEST_TEXT = 6000
"""Longest value of a param or a tag in characters."""
_DIGEST = 8
_REFUSED = re.compile(
    r"""
    [^\w\-. :/]             # a character that no name may have
    | _(?=x)                # what would read as the beginning of an escape
    | ^/ | /(?=/|$)         # a slash without a name before or behind it
    | (?<![^/])\.(?=\.|/|$) # the first dot of the path's parts . and .. and of those that begin with two dots
    """,
    re.VERBOSE,
)


def metric_name(*parts: str) -> str:
    """Return the name of a metric or a param: its parts, each as MLflow takes it, with slashes between them.

    Args:
        parts: the heads, which are short, and the name itself.
    """
    return "/".join(_allowed(part) for part in parts)


def original_name(name: str) -> str:
    """Return the name that :func:`metric_name` was given, unless it was shortened."""
    return re.sub(r"_x([0-9A-F]*)_", lambda escape: chr(int(escape[1], 16)) if escape[1] else "", name)


def allowed_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text as databases take it: not too long, with NUL and halves of surrogate pairs written out."""
    return text.replace("\0", r"\x00").encode(errors="backslashreplace").decode()[:longest]


def _allowed(part: str) -> str:
    """Write what MLflow refuses as escapes; end what is too long in a digest of the whole."""
    name = _REFUSED.sub(lambda refused: f"_x{ord(refused[0]):X}_", part) or "_x_"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    return f"{name[: LONGEST_NAME - _DIGEST - 1]}-{digest}"
