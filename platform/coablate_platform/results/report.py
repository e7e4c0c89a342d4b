"""A search's report: one HTML file that needs nothing else, its figures, and its trials as CSV."""

import base64
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from coablate_platform.journal.trials import JournalTrialLog, TrialRecord, drawn_text
from coablate_platform.results.importance import Importance, importances, scores_of
from coablate_platform.results.ranking import best, common_epoch
from coablate_platform.results.search_figures import rung_epochs, search_figures_of
from coablate_platform.results.statistics import rank_correlation
from coablate_platform.study.plan import SearchPlan
from coablate_platform.train.events import EpochReport

SHOWN = 10
_TITLES = {
    "history": "Trials in the order in which they were drawn",
    "curves": "Learning curves",
    "importance": "Which parameters matter",
    "effects": "Each parameter by itself",
    "interaction": "The two most important together",
    "parallel": "Completed trials across their parameters",
    "pareto": "What accuracy costs",
    "placement": "Where fusion stands",
}
_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px } td, th { padding: .25rem .6rem; text-align: left }
th { border-bottom: 1px solid #222 } tr + tr td { border-top: 1px solid #ddd } td.n, th.n { text-align: right }
img { max-width: 100% } .note { color: #666; font-size: 13px }
"""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a search found, before anything is confirmed.

    Args:
        plan: the search's.
        trials: by number.
        best: of those that came to their end.
        epoch: the last that all trials reached.
        early: importances after it.
        late: importances among completed trials.
        foresight: epoch of each rung -> how the completed trials' order there agrees with that at their end
            (Spearman's ρ); None where too few say nothing.
        reports: run id -> what it reported.
    """

    plan: SearchPlan
    trials: Sequence[TrialRecord]
    best: Sequence[TrialRecord]
    epoch: int
    early: Sequence[Importance]
    late: Sequence[Importance]
    foresight: dict[int, float | None]
    reports: dict[str, Sequence[EpochReport]]


def findings(plan: SearchPlan, log: JournalTrialLog) -> Findings:
    """Read what there is of a search, finished or not."""
    trials = log.trials()
    reports = {trial.run_id: log.epochs(trial.run_id) for trial in trials if trial.run_id}
    metric = f"validation/{plan.metric}"
    return Findings(
        plan=plan,
        trials=trials,
        best=best(plan.costs, trials, SHOWN),
        epoch=common_epoch(trials),
        early=importances(trials, reports, metric, common_epoch(trials)),
        late=importances(trials, reports, metric, None),
        foresight={
            epoch: _foresight(trials, reports, metric, epoch) for epoch in rung_epochs(plan) if epoch < plan.epochs
        },
        reports=reports,
    )


def _foresight(
    trials: Sequence[TrialRecord], reports: dict[str, Sequence[EpochReport]], metric: str, epoch: int
) -> float | None:
    there, end = scores_of(trials, reports, metric, epoch), scores_of(trials, reports, metric, None)
    both = sorted(there.keys() & end.keys())
    return rank_correlation([there[number] for number in both], [end[number] for number in both])


def write_report(found: Findings, log: JournalTrialLog) -> None:
    """Write ``studies/<key>/report/``: ``report.html``, ``trials.csv``, and every figure as PNG and SVG."""
    figures = search_figures_of(found.plan, found.trials, found.reports, found.late or found.early)
    files = figures | {"trials.csv": _csv(found).encode(), "report.html": _html(found, figures).encode()}
    for name, content in files.items():
        log.journal.write_study_file(log.key, f"report/{name}", content)


def _csv(found: Findings) -> str:
    sink = io.StringIO()
    parameters = list(dict.fromkeys(name for trial in found.trials for name in trial.params))
    values = [found.plan.metric, *found.plan.costs]
    writer = csv.writer(sink)
    writer.writerow(["trial", "outcome", "epoch", *values, *parameters, "sampler", "run_id", "parent", "reason"])
    for trial in found.trials:
        own = list(trial.values) + [""] * (len(values) - len(trial.values))
        drawn = [trial.params.get(name, "") for name in parameters]
        came = [trial.sampler, trial.run_id, trial.origin.get("parent", ""), trial.reason]
        writer.writerow([trial.number, trial.outcome or "open", trial.epoch, *own, *drawn, *came])
    return sink.getvalue()


_POPULATION = (
    "A population: trials went on from each other's weights (trials.csv names parents). What is confirmed are the best "
    "members' last parameters, trained from the start, which is not what the members did."
)


_FORESIGHT = (
    "Spearman's ρ among completed trials; those given up have no end to compare with. Where it is near 0, trials were "
    "given up by chance: let them train longer before they are compared (<code>--grace</code>)."
)


def _html(found: Findings, figures: dict[str, bytes]) -> str:
    plan = found.plan
    counts = Counter(str(trial.outcome or "open") for trial in found.trials)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    rule, planned = plan.stopping.rule, max(plan.trials, len(found.trials))
    samplers = dict.fromkeys(trial.sampler for trial in found.trials if trial.sampler) or [plan.sampler]
    parts = [
        f"<h1>{escape(plan.title)}</h1>",
        f"<p>{len(found.trials)} of {planned} trials: {told}. Sampler {', then '.join(samplers)}, stopping rule "
        f"{rule}, full budget {plan.epochs} epochs, {escape(plan.protocol)}, data "
        f"{escape(str(plan.data.get('fingerprint', ''))[:12])}.</p>",
        '<p class="note">Values are of the validation split, one seed each: they say where to look, not what is '
        "better. The conclusion is the confirmation: the best trials and the base again over several seeds, tested "
        f"once each (<code>coablate table DIR --study {escape(plan.name)}</code>).</p>",
        *(["<p>" + _POPULATION + "</p>"] if rule == "pbt" else []),
        "<h2>Best trials</h2>",
        _table(*best_table(found)),
        "<h2>What may vary</h2>",
        _table(("factor", "values"), list(plan.factors.items())),
    ]
    for epoch, importance in ((found.epoch, found.early), (None, found.late)):
        when = "among completed trials" if epoch is None else f"after epoch {epoch}, among all trials"
        if importance:
            parts += [f"<h2>Importance {when}</h2>", _table(*importance_table(importance))]
    for name, title in _TITLES.items():
        if (content := figures.get(f"{name}.svg")) is not None:
            image = base64.b64encode(content).decode()
            parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/svg+xml;base64,{image}">')
        if name == "curves" and any(rho is not None for rho in found.foresight.values()):
            parts += [_rungs(found), f'<p class="note">{_FORESIGHT}</p>']
    failed = [(str(trial.number), trial.reason) for trial in found.trials if trial.reason]
    if failed:
        parts += ["<h2>Failed trials</h2>", _table(("trial", "reason"), failed)]
    head = f'<meta charset="utf-8"><title>{escape(plan.title)}</title><style>{_CSS}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def best_table(found: Findings) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return heads and rows: the best trials, what they reached and cost, and what they drew."""
    rows = [
        (str(trial.number), f"{100 * trial.values[0]:.1f}", *(f"{v:,.0f}" for v in trial.values[1:]), drawn_text(trial))
        for trial in found.best
    ]
    return ("trial", f"validation {found.plan.metric} %", *found.plan.costs, "draws"), rows


def importance_table(importance: Sequence[Importance]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return heads and rows: each parameter's importance, and among how many trials."""
    rows = [(i.parameter, f"{i.fanova:.3f}", f"{i.ped_anova:.3f}", str(i.trials)) for i in importance]
    return ("parameter", "fANOVA", "PED-ANOVA", "trials"), rows


def _rungs(found: Findings) -> str:
    rows = [(str(epoch), "–" if rho is None else f"{rho:+.2f}") for epoch, rho in found.foresight.items()]
    return _table(("compared after epoch", "rank correlation with the end"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
