"""Writes a table as LaTeX, for papers."""

import unicodedata

from coablate_platform.results.caption import caption
from coablate_platform.results.cells import Grid, grids
from coablate_platform.results.table import Table

_SMALL = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]
_CAPITAL = ["gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"]
"""Capitals that TeX has; the others look like Latin ones."""
_LIKE_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))


def _greek(size: str, name: str) -> str:
    """Return a Greek letter; Unicode spells the name of λ without its b."""
    return unicodedata.lookup(f"GREEK {size} LETTER {'lamda' if name == 'lambda' else name}")


_TEX = (
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "−": "$-$",
        "×": r"$\times$",
        "≈": r"$\approx$",
        "·": r"$\cdot$",
        "–": "--",
        "…": r"\ldots{}",
        "ς": r"$\varsigma$",
    }
    | {_greek("SMALL", name): f"$\\{name}$" for name in _SMALL}
    | {_greek("CAPITAL", name): f"$\\{name.capitalize()}$" for name in _CAPITAL}
    | _LIKE_LATIN
)


def latex(table: Table) -> str:
    """Return a table as LaTeX, for booktabs: the arms, and the contrasts where there are any."""
    first, *others = grids(table)
    title, *rest = caption(table)
    text = _latex_table(
        first, " ".join([title if title.endswith((".", "?", "!")) else f"{title}.", *rest]), f"tab:{table.plan.key}"
    )
    for grid in others:
        text += "\n" + _latex_table(grid, f"{table.plan.title}: {grid.title}", f"tab:{table.plan.key}-contrasts")
    return text


def _latex_table(grid: Grid, title: str, label: str) -> str:
    body = [" & ".join(map(_tex, line)) + r" \\" for line in grid.lines]
    return (
        "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_tex(title)}}}",
                rf"\label{{{label}}}",
                rf"\begin{{tabular}}{{{''.join('l' if left else 'r' for left in grid.left)}}}",
                r"\toprule",
                " & ".join(map(_tex, grid.heads)) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )
        + "\n"
    )


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
