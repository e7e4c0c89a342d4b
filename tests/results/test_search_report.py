"""The report of a search: its figures, its tables, its CSV, and what the terminal shows of them."""

import csv
import io
from dataclasses import replace

import pytest
from curves import FACTORS, METRIC, search
from made_search import KEY, SITES, SimulatedTrialLog, plan_of, searched
from matplotlib.image import imread
from rich.console import Console
from scipy import stats

from coablate_model.hcn import LAYERS
from coablate_model.placement import RGB_SITES
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.results import importance
from coablate_platform.results.report import read_findings, write_report
from coablate_platform.screen.views import best_view, importance_view
from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """The noise of importances has tests of its own, and takes seconds."""
    monkeypatch.setattr(importance, "PERMUTATIONS", 3)
    monkeypatch.setattr(importance, "BOOTSTRAPS", 3)


def reported(declared, log, folder):
    """Write a search's report; return its findings and the report's folder."""
    findings = read_findings(plan_of(declared), log)
    write_report(findings, log)
    return findings, folder / "studies" / log.key / "report"


@pytest.mark.parametrize("costs", [(), ("flops", "parameters")], ids=["metric", "front"])
def test_the_report_is_self_contained_and_has_every_figure(tmp_path, costs):
    space = Space(
        {
            "model.fusion": Choice(options=("dsfm", "mmtm")),
            "model.floor": Float(low=0, high=1),
            "model.placement": SITES,
        }
    )
    rule = Stopping(rule="none") if costs else Stopping(rule="asha")
    declared, log, _ = searched(tmp_path, space=space, stopping=rule, costs=costs)
    findings, folder = reported(declared, log, tmp_path)
    names = {path.stem for path in folder.glob("*.png")}
    expected = {"history", "curves", "importance", "effects", "interaction", "placement"} | (
        {"pareto"} if costs else set()
    )
    assert expected <= names
    assert names == {path.stem for path in folder.glob("*.svg")}
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    html = (folder / "report.html").read_text()
    assert html.count("data:image/svg+xml;base64,") == len(names)
    assert 'src="http' not in html
    assert f"{findings.best[0].number}</td>" in html
    assert f"Sampler {declared.sampler}," in html
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(40))
    assert float(rows[0]["accuracy"]) == log.trials()[0].values[0]


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("model.floor", Float(low=0, high=1), Choice(options=(0.1, 0.5, 0.7))),
        ("training.weight_decay", Float(low=1e-5, high=0.3, log=True), Float(low=0, high=0.3)),
        ("model.placement", SITES, replace(SITES, streams={"rgb": RGB_SITES[-3:], "skeleton": LAYERS[-3:]})),
    ],
    ids=["kind", "scale", "stages"],
)
def test_a_search_whose_space_has_changed_has_a_report(tmp_path, field, before, after):
    """A parameter whose kind has changed has no importance; one whose scale has changed has."""
    for domain, trials in ((before, 20), (after, 30)):
        space = Space({"training.learning_rate": FACTORS["training.learning_rate"], field: domain})
        declared, log, _ = searched(tmp_path, space=space, sampler="random", trials=trials)
    findings, _ = reported(declared, log, tmp_path)
    evaluated = {importance.parameter for importance in findings.early_importances}
    assert "training.learning_rate" in evaluated
    assert (field in evaluated) == (field == "training.weight_decay")


def test_the_terminal_shows_the_best_trials_and_the_importances(tmp_path):
    declared, log, _ = searched(tmp_path)
    findings = read_findings(plan_of(declared), log)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(best_view(findings), importance_view(findings))
    output = console.export_text()
    for trial in findings.best:
        assert f"│ {trial.number} " in output
        assert f"training.learning_rate={trial.params['training.learning_rate']:.4g}" in output
    assert f"after epoch {findings.common_epoch}, all trials" in output
    assert findings.common_epoch == min(trial.epoch for trial in log.trials() if trial.values)
    assert f"{findings.early_importances[0].fanova:.2f}" in output
    assert "what is left to 1" in output


def test_the_report_names_every_sampler_that_suggested_a_trial(tmp_path):
    searched(tmp_path, trials=12, sampler="random")
    declared, log, _ = searched(tmp_path, trials=16)
    _, folder = reported(replace(declared, sampler="random"), log, tmp_path)
    assert "Sampler random, then tpe," in (folder / "report.html").read_text()
    with (folder / "trials.csv").open() as file:
        assert [row["sampler"] for row in csv.DictReader(file)] == ["", *["random"] * 11, *["tpe"] * 4]


def test_a_search_without_trials_has_a_report(tmp_path):
    _, folder = reported(search(), SimulatedTrialLog(Journal(str(tmp_path)), KEY), tmp_path)
    assert "0 of 60 trials: none yet." in (folder / "report.html").read_text()


def test_the_report_correlates_the_order_at_each_rung_with_the_final_order(tmp_path):
    declared, log, scheduler = searched(tmp_path)
    findings, folder = reported(declared, log, tmp_path)
    assert list(findings.rung_correlations) == [1, 3, 9]  # not 27, the last epoch
    completed = [record for record in scheduler.records if record.outcome is TrialOutcome.COMPLETE]
    at_rung = [log.epochs(record.run_id)[8].metrics[METRIC] for record in completed]
    assert len(completed) >= 3
    expected = stats.spearmanr(at_rung, [record.values[0] for record in completed]).statistic
    assert findings.rung_correlations[9] == pytest.approx(expected)
    html = (folder / "report.html").read_text()
    assert f"<tr><td>9</td><td>{expected:+.2f}</td></tr>" in html


def test_a_rule_without_rungs_has_no_correlations(tmp_path):
    declared, log, _ = searched(tmp_path, stopping=Stopping(rule="none"))
    findings, folder = reported(declared, log, tmp_path)
    assert findings.rung_correlations == {}
    assert "rank correlation" not in (folder / "report.html").read_text()


@pytest.mark.timeout(180)
def test_fusion_sites_have_a_heat_map_of_early_values_and_one_of_final_values(tmp_path):
    """Without a stopping rule all trials are compared at the last epoch, in one heat map."""
    heights = []
    space = Space({"model.placement": SITES, "training.learning_rate": FACTORS["training.learning_rate"]})
    for rule in ("asha", "none"):
        declared, log, _ = searched(tmp_path / rule, space=space, stopping=Stopping(rule=rule))
        _, folder = reported(declared, log, tmp_path / rule)
        heights.append(len(imread(folder / "placement.png")))
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.1)


def test_the_trials_of_a_population_name_their_parents_in_the_csv(tmp_path):
    declared, log, scheduler = searched(tmp_path, trials=6, sampler="random", stopping=Stopping(rule="pbt", grace=9))
    assert log.trials() == scheduler.records
    _, folder = reported(declared, log, tmp_path)
    with (folder / "trials.csv").open() as file:
        parents = [row["parent"] for row in csv.DictReader(file)]
    assert parents == [str(record.origin.get("parent", "")) for record in scheduler.records]
    assert sum(map(bool, parents)) == 4  # two new members at each of two renewals
