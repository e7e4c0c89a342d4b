"""How figures look, and their files: PNG to look at, SVG and PDF for papers."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito, which colour-blind people can tell apart."""
LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX*"
FORMATS = ("png", "svg", "pdf")
_WITHOUT_DATE: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_LONGEST_NAME = 40  # characters of a name in a figure


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Draw with Coablate's style until the block ends."""
    with mpl.rc_context(
        {
            "svg.hashsalt": "coablate",
            "text.parse_math": False,  # a $ in an arm's name is a plain character
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        yield


def figure_files(name: str, figure: Figure) -> dict[str, bytes]:
    """Return file name -> content of a figure, in each of :data:`FORMATS`."""
    files: dict[str, bytes] = {}
    for ending in FORMATS:
        sink = io.BytesIO()
        figure.savefig(sink, format=ending, dpi=150, metadata=_WITHOUT_DATE.get(ending))
        files[f"{name}.{ending}"] = sink.getvalue()
    return files


def short_name(text: str) -> str:
    """Shorten a name so that it leaves room for the figure; the table has it whole."""
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"
