"""The report of a search: one self-contained HTML file, its figures as PNG and SVG, and the trials as CSV."""

import base64
import csv
import functools
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from coablate_platform.journal.trials import JournalTrialLog, TrialRecord, parameters_text
from coablate_platform.results.importance import Importance, importances, scores_of
from coablate_platform.results.ranking import best, common_epoch, rung_epochs, tied
from coablate_platform.results.search_figures import search_figures
from coablate_platform.results.statistics import rank_correlation
from coablate_platform.study.plan import SearchPlan
from coablate_platform.train.events import EpochReport

BEST_TRIALS = 10
"""How many of the best trials are listed."""
_TITLES = {
    "history": "Optimisation history",
    "curves": "Learning curves",
    "importance": "Parameter importance",
    "effects": "Effect of each parameter",
    "interaction": "Interaction of two important parameters",
    "parallel": "Parallel coordinates of the completed trials",
    "pareto": "Pareto front",
    "placement": "Fusion sites",
}
"""Name of a figure -> its heading."""
_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px } td, th { padding: .25rem .6rem; text-align: left }
th { border-bottom: 1px solid #222 } tr + tr td { border-top: 1px solid #ddd } td.n, th.n { text-align: right }
img { max-width: 100% } .note { color: #666; font-size: 13px }
"""
_POPULATION_NOTE = (
    "In a population, trials continue from the weights of other trials (column <code>parent</code> of trials.csv). The "
    "confirmation trains the last parameters of the best members from the start, which is not how they were trained "
    "in the population."
)
_RUNGS_NOTE = (
    "Spearman's ρ between the metric after that epoch and the final metric, over the completed trials; pruned trials "
    "have no final metric. If ρ is near 0, the stopping rule prunes by chance: let trials train longer before they are "
    "compared (<code>--grace</code>)."
)
HeadAndRows = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The head of a table, and its rows."""


@dataclass(frozen=True, kw_only=True)
class SearchFindings:
    """What the trials of a search show, before any is confirmed.

    Args:
        plan: the search's plan.
        trials: all trials by number.
        best: the best completed trials, see :func:`~coablate_platform.results.ranking.best`.
        common_epoch: the last epoch that all completed and pruned trials have reached.
        rung_correlations: epoch of each rung -> Spearman's ρ between the completed trials' metric there and their final
            one; None if the trials are too few or do not vary.
        reports: run id -> its reports.
    """

    plan: SearchPlan
    trials: Sequence[TrialRecord]
    best: Sequence[TrialRecord]
    common_epoch: int
    rung_correlations: dict[int, float | None]
    reports: dict[str, Sequence[EpochReport]]

    @functools.cached_property
    def early_importances(self) -> Sequence[Importance]:
        """Importances from all trials after ``common_epoch``."""
        return importances(self.trials, self.reports, f"validation/{self.plan.metric}", self.common_epoch)

    @functools.cached_property
    def final_importances(self) -> Sequence[Importance]:
        """Importances from the final values of completed trials."""
        return importances(self.trials, self.reports, f"validation/{self.plan.metric}", None)


def read_findings(plan: SearchPlan, log: JournalTrialLog) -> SearchFindings:
    """Read the trials of a search, finished or not, and evaluate them.

    Raises:
        InputError: a file of a trial or of its run is damaged.
    """
    trials = log.trials()
    reports = {trial.run_id: log.epochs(trial.run_id) for trial in trials if trial.run_id}
    metric, epoch = f"validation/{plan.metric}", common_epoch(trials)
    final = scores_of(trials, reports, metric, None)
    return SearchFindings(
        plan=plan,
        trials=trials,
        best=best(plan.costs, trials, BEST_TRIALS),
        common_epoch=epoch,
        rung_correlations={
            rung: _correlation(scores_of(trials, reports, metric, rung), final)
            for rung in rung_epochs(plan)
            if rung < plan.epochs
        },
        reports=reports,
    )


def report_files(findings: SearchFindings) -> dict[str, bytes]:
    """Return file name in the search's folder -> content: ``report/report.html``, ``report/trials.csv``, figures."""
    importance = findings.final_importances or findings.early_importances
    figures = search_figures(findings.plan, findings.trials, findings.reports, importance)
    files = figures | {"trials.csv": _csv(findings).encode(), "report.html": _html(findings, figures).encode()}
    return {f"report/{name}": content for name, content in files.items()}


def write_report(findings: SearchFindings, log: JournalTrialLog) -> None:
    """Write ``studies/<key>/report/``: ``report.html``, ``trials.csv``, and every figure in each format."""
    for name, content in report_files(findings).items():
        log.journal.write_study_file(log.key, name, content)


def best_table(findings: SearchFindings) -> HeadAndRows:
    """Return the table of the best trials: number, metric, costs, and the fields that they set."""
    rows = [
        (
            str(trial.number),
            f"{100 * trial.values[0]:.1f}",
            *(f"{cost:,.0f}" for cost in trial.values[1:]),
            parameters_text(trial),
        )
        for trial in findings.best
    ]
    return ("trial", f"validation {findings.plan.metric} %", *findings.plan.costs, "configuration"), rows


def importance_table(importances: Sequence[Importance]) -> HeadAndRows:
    """Return the table of importances: parameter, fANOVA with interval and chance, PED-ANOVA, trials compared."""
    rows = [
        (
            importance.parameter,
            f"{importance.fanova:.2f}",
            "–" if importance.interval is None else "{:.2f} to {:.2f}".format(*importance.interval),
            "–" if importance.chance is None else f"{importance.chance:.2f}",
            "–" if importance.ped_anova is None else f"{importance.ped_anova:.2f}",
            str(importance.trials),
            "" if importance.told_from_noise else "not told from noise",
        )
        for importance in importances
    ]
    return ("parameter", "fANOVA", "95 % interval", "chance", "PED-ANOVA", "trials", ""), rows


def importance_caution(importances: Sequence[Importance]) -> str:
    """Return what a reader of the importances must know."""
    alone = sum(importance.fanova for importance in importances if importance.chance is not None)
    return (
        f"fANOVA is the share of the variance that a parameter explains by itself; what is left to 1 "
        f"({max(0.0, 1 - alone):.2f}) are interactions and noise. Chance: what the strongest parameter would reach in "
        "one of twenty searches in which none matters; it is not computed for parameters that only some trials have. "
        "Importances tell where to look; whether a parameter matters is told by a study that varies it over several "
        "seeds."
    )


def _correlation(early: dict[int, float], final: dict[int, float]) -> float | None:
    """Return the rank correlation of two metrics by trial number, over the trials that have both."""
    both = sorted(early.keys() & final.keys())
    return rank_correlation([early[number] for number in both], [final[number] for number in both])


def _csv(findings: SearchFindings) -> str:
    sink = io.StringIO()
    parameters = list(dict.fromkeys(name for trial in findings.trials for name in trial.params))
    objectives = [findings.plan.metric, *findings.plan.costs]
    writer = csv.writer(sink)
    writer.writerow(["trial", "outcome", "epoch", *objectives, *parameters, "sampler", "run_id", "parent", "reason"])
    for trial in findings.trials:
        values = list(trial.values) + [""] * (len(objectives) - len(trial.values))
        suggested = [trial.params.get(name, "") for name in parameters]
        origin = [trial.sampler, trial.run_id, trial.origin.get("parent", ""), trial.reason]
        writer.writerow([trial.number, trial.outcome or "open", trial.epoch, *values, *suggested, *origin])
    return sink.getvalue()


def _html(findings: SearchFindings, figures: dict[str, bytes]) -> str:
    plan = findings.plan
    failed = [(str(trial.number), trial.reason) for trial in findings.trials if trial.reason]
    parts = [
        f"<h1>{escape(plan.title)}</h1>",
        *_summary(findings),
        "<h2>Best trials</h2>",
        _table(*best_table(findings)),
        "<h2>Search space</h2>",
        _table(("factor", "values"), list(plan.factors.items())),
        *_importances(findings),
        *_figures(findings, figures),
        *(["<h2>Failed trials</h2>", _table(("trial", "reason"), failed)] if failed else []),
    ]
    head = f'<meta charset="utf-8"><title>{escape(plan.title)}</title><style>{_CSS}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _summary(findings: SearchFindings) -> list[str]:
    """Return the report's first paragraphs: what was searched and how, and what the values mean."""
    plan = findings.plan
    counts = Counter(str(trial.outcome or "open") for trial in findings.trials)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "none yet"
    planned = max(plan.trials, len(findings.trials))  # a population grows, since replaced members remain as trials
    samplers = dict.fromkeys(trial.sampler for trial in findings.trials if trial.sampler) or [plan.sampler]
    return [
        f"<p>{len(findings.trials)} of {planned} trials: {outcomes}. Sampler {', then '.join(samplers)}, stopping rule "
        f"{plan.stopping.rule}, full budget {plan.epochs} epochs, protocol {escape(plan.protocol)}, data "
        f"{escape(str(plan.data.get('fingerprint', ''))[:12])}.</p>",
        '<p class="note">All values are of the validation split, from one seed per trial. They show where to look, not '
        "which configuration is better. That is tested by the confirmation, which trains the best trials and the base "
        "again over several seeds and tests each run once "
        f"(<code>coablate table DIR --study {escape(plan.name)}</code>).</p>",
        *_resolution(findings),
        *([f"<p>{_POPULATION_NOTE}</p>"] if plan.stopping.rule == "pbt" else []),
    ]


def _resolution(findings: SearchFindings) -> list[str]:
    """Return how finely the validation split tells trials apart, and how equal ones are ordered."""
    clips, equal = findings.plan.data.get("validation"), tied(findings.plan.costs, findings.trials)
    if not clips or not equal:
        return []
    ties = f" {equal} configurations have the best {escape(findings.plan.metric)}." if equal > 1 else ""
    return [
        f'<p class="note">One of the {clips} validation clips is {100 / clips:.1f} points.{ties} Equal trials are '
        f"ordered by their validation loss, then by the mean of the {escape(findings.plan.metric)} over the last "
        "epochs.</p>"
    ]


def _importances(findings: SearchFindings) -> list[str]:
    early, final = findings.early_importances, findings.final_importances
    parts = []
    for title, found in (
        (f"Importance after epoch {findings.common_epoch}, over all trials", early),
        ("Importance over the completed trials", final),
    ):
        if found:
            parts += [f"<h2>{title}</h2>", _table(*importance_table(found))]
            parts += [f'<p class="note">{escape(importance_caution(found))}</p>']
    return parts


def _figures(findings: SearchFindings, figures: dict[str, bytes]) -> list[str]:
    """Return the figures under their headings, and the correlations at the rungs below the learning curves."""
    parts = []
    for name, title in _TITLES.items():
        if (content := figures.get(f"{name}.svg")) is not None:
            image = base64.b64encode(content).decode()
            parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/svg+xml;base64,{image}">')
        correlations = findings.rung_correlations
        if name == "curves" and any(rho is not None for rho in correlations.values()):
            rows = [(str(epoch), "–" if rho is None else f"{rho:+.2f}") for epoch, rho in correlations.items()]
            parts.append(_table(("compared after epoch", "rank correlation with the final metric"), rows))
            parts.append(f'<p class="note">{_RUNGS_NOTE}</p>')
    return parts


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
