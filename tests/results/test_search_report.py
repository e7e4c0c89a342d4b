"""What is concluded from a search: what matters, the pictures, the report, and trials that are kept whole."""

import csv
import io
from dataclasses import replace

import pytest
from curves import FACTORS, METRIC, search, simulate
from matplotlib.image import imread
from rich.console import Console
from scipy import stats

from coablate_model.hcn import LAYERS
from coablate_model.placement import RGB_SITES, Site
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.trials import JournalTrialLog, TrialOutcome, drawn_text, trial_name
from coablate_platform.results.importance import importances
from coablate_platform.results.ranking import best
from coablate_platform.results.report import findings, write_report
from coablate_platform.results.search_figures import rung_epochs
from coablate_platform.screen.search_progress import SearchProgress
from coablate_platform.screen.views import best_view, importance_view
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.domains import Choice, Float, Placement
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import SearchPlan, plan_from_json
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space
from coablate_platform.tracking.arms import tracked
from coablate_platform.train.events import EpochReport, RunState

SITES = Placement(
    site=Site, streams={"rgb": RGB_SITES, "skeleton": LAYERS}, most=2, fields={"channels": Choice(options=(64, 256))}
)


def plan_of(declared: Search) -> SearchPlan:
    factors = declared.space.factors
    return SearchPlan(
        key="curves-000000",
        name=declared.name,
        title=declared.title,
        metric="accuracy",
        selection="last",
        protocol="synthetic/cs",
        data={"fingerprint": "f" * 64},
        command={},
        trials=declared.trial_count,
        sampler=declared.sampler,
        stopping=declared.stopping,
        costs=tuple(declared.costs),
        factors={name: str(domain) for name, domain in factors.items()},
        placements={
            name: {stream: list(stages) for stream, stages in domain.streams.items()}
            for name, domain in factors.items()
            if isinstance(domain, Placement)
        },
        epochs=declared.base.training.epochs,
    )


class DiskTrialLog(JournalTrialLog):
    """Trials on disk; their runs' reports in memory, as the simulator writes them."""

    @property
    def memory(self) -> MemoryTrialLog:
        return MEMORY.setdefault(self.journal.folder.uri, MemoryTrialLog())

    @property
    def states(self) -> dict[str, RunState]:
        return self.memory.states

    @property
    def reports(self) -> dict[str, list[EpochReport]]:
        return self.memory.reports

    def state(self, run_id: str) -> RunState:
        return self.memory.state(run_id)

    def epochs(self, run_id: str) -> list[EpochReport]:
        return self.memory.epochs(run_id)

    def stop(self, run_id: str) -> None:
        self.memory.stop(run_id)

    def fork(self, parent: str, child: str) -> None:
        self.memory.fork(parent, child)

    def reached(self, run_id: str) -> int:
        return self.memory.reached(run_id)


MEMORY: dict[str, MemoryTrialLog] = {}


def searched(tmp_path, **changes):
    declared = search(**({"trials": 40} | changes))
    log = DiskTrialLog(Journal(str(tmp_path)), "curves-000000")
    scheduler, simulator = simulate(declared, log)
    assert simulator.run()
    return declared, log, scheduler


def test_trials_are_read_as_they_were_written(tmp_path):
    _, log, scheduler = searched(tmp_path)
    assert log.trials() == scheduler.records
    name = next(iter((tmp_path / "studies" / log.key / "trials").iterdir()))
    name.write_bytes(b"broken")
    with pytest.raises(InputError, match="is damaged"):
        log.trials()


def test_a_search_is_a_study_whose_arms_were_drawn(tmp_path):
    declared, log, _ = searched(tmp_path)
    refused = replace(log.trials()[3], number=40, run_id="", config={}, outcome=TrialOutcome.FAILED, values=())
    plan = tracked(plan_of(declared), [*log.trials(), refused])
    assert len(plan.arms) == 41
    assert len(plan.runs) == 40
    assert plan.reference == trial_name(0)
    assert plan.arms[1].difference == log.trials()[1].changes
    assert plan_from_json(plan_of(declared).to_json()) == plan_of(declared)


def test_the_best_are_those_that_came_to_their_end(tmp_path):
    declared, log, _ = searched(tmp_path)
    chosen = best(declared.costs, log.trials(), 3)
    ended = [trial.values[0] for trial in log.trials() if trial.outcome is TrialOutcome.COMPLETE]
    assert [trial.values[0] for trial in chosen] == sorted(ended, reverse=True)[:3]
    assert len({trial.run_id for trial in chosen}) == 3


def test_of_a_configuration_that_came_to_several_ends_the_best_counts(tmp_path):
    """Members of a population may meet in one, each with weights of its own."""
    declared, log, _ = searched(tmp_path, trials=3, stopping=Stopping(rule="none"))
    one, other, again = log.trials()
    trials = [replace(one, values=(0.9,)), replace(other, values=(0.8,))]
    trials.append(replace(again, config=one.config, values=(0.7,)))
    assert [trial.number for trial in best(declared.costs, trials, 3)] == [0, 1]
    assert [trial.number for trial in best(declared.costs, trials, 1)] == [0]


def test_with_costs_the_best_are_the_front(tmp_path):
    declared, log, scheduler = searched(tmp_path, sampler="random", stopping=Stopping(rule="none"), costs=("flops",))
    chosen = best(declared.costs, log.trials(), 10)
    assert {trial.number for trial in chosen} == {trial.number for trial in scheduler.study.best_trials}


def test_importance_finds_what_matters(tmp_path):
    space = Space(
        {"training.learning_rate": Float(low=1e-4, high=1e-1, log=True), "model.hcn_dropout": Float(low=0, high=1)}
    )
    _, log, _ = searched(tmp_path, space=space, sampler="random", trials=60)
    found = importances(log.trials(), log.reports, METRIC, 1)
    assert [importance.parameter for importance in found] == ["training.learning_rate", "model.hcn_dropout"]
    assert found[0].fanova > 0.6
    assert found[0].ped_anova > 0.5
    assert found[0].trials == 60
    late = importances(log.trials(), log.reports, METRIC, None)
    assert late[0].trials == sum(trial.outcome is TrialOutcome.COMPLETE for trial in log.trials())


def test_parameters_that_exist_in_some_trials_are_judged_among_these(tmp_path):
    _, log, _ = searched(tmp_path, sampler="random", trials=60)
    found = {importance.parameter: importance for importance in importances(log.trials(), log.reports, METRIC, 1)}
    having = [trial for trial in log.trials() if "model.floor" in trial.params]
    assert found["model.floor"].trials == len(having) < 60
    assert found["model.fusion"].trials == 60


def test_too_few_trials_say_nothing(tmp_path):
    _, log, _ = searched(tmp_path, trials=3)
    assert importances(log.trials(), log.reports, METRIC, 1) == []


@pytest.mark.parametrize("costs", [(), ("flops", "parameters")], ids=["metric", "front"])
def test_the_report_needs_nothing_else_and_shows_every_figure(tmp_path, costs):
    space = Space(
        {
            "model.fusion": Choice(options=("dsfm", "mmtm")),
            "model.floor": Float(low=0, high=1),
            "model.placement": SITES,
        }
    )
    rule = Stopping(rule="none") if costs else Stopping(rule="asha")
    declared, log, _ = searched(tmp_path, space=space, stopping=rule, costs=costs)
    found = findings(plan_of(declared), log)
    write_report(found, log)
    folder = tmp_path / "studies" / log.key / "report"
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
    assert f"{found.best[0].number}</td>" in html
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
def test_a_factor_that_changed_since_spoils_no_report(tmp_path, field, before, after):
    for domain, trials in ((before, 20), (after, 30)):
        space = Space({"training.learning_rate": FACTORS["training.learning_rate"], field: domain})
        declared, log, _ = searched(tmp_path, space=space, sampler="random", trials=trials)
    found = findings(plan_of(declared), log)
    write_report(found, log)
    judged = {importance.parameter for importance in found.early}
    assert "training.learning_rate" in judged
    assert (field in judged) == (field == "training.weight_decay")


def test_what_the_terminal_shows_names_trials_and_parameters(tmp_path):
    declared, log, _ = searched(tmp_path)
    found = findings(plan_of(declared), log)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(best_view(found), importance_view(found))
    said = console.export_text()
    for trial in found.best:
        assert f"│ {trial.number} " in said
        assert f"training.learning_rate={trial.params['training.learning_rate']:.4g}" in said
    assert f"after epoch {found.epoch}, all trials" in said
    assert found.epoch == min(trial.epoch for trial in log.trials() if trial.values)
    assert f"{found.early[0].fanova:.3f}" in said


def test_the_report_names_every_sampler_that_drew(tmp_path):
    searched(tmp_path, trials=12, sampler="random")
    declared, log, _ = searched(tmp_path, trials=16)
    write_report(findings(plan_of(replace(declared, sampler="random")), log), log)
    folder = tmp_path / "studies" / log.key / "report"
    assert "Sampler random, then tpe," in (folder / "report.html").read_text()
    with (folder / "trials.csv").open() as file:
        assert [row["sampler"] for row in csv.DictReader(file)] == ["", *["random"] * 11, *["tpe"] * 4]


def test_a_site_is_written_by_the_stages_that_it_joins(tmp_path):
    _, log, _ = searched(tmp_path, space=Space({"model.placement": SITES}), sampler="random", trials=20)
    placed = next(trial for trial in log.trials() if len(trial.changes["model.placement"]) == 1)
    site = placed.changes["model.placement"][0]
    stages = f"[(rgb {site['rgb']}, skeleton {site['skeleton']}, channels {site['channels']})]"
    assert drawn_text(placed) == f"model.placement={stages}"
    refused = replace(placed, changes={}, params={"training.learning_rate": 0.123456, "model.tiam": True})
    assert drawn_text(refused) == "training.learning_rate=0.1235, model.tiam=True"


def followed(declared, terminal: bool):
    """A whole search, and what its progress printed."""
    said = io.StringIO()
    scheduler, simulator = simulate(declared, MemoryTrialLog())
    with SearchProgress(
        plan_of(declared), scheduler, Console(file=said, force_terminal=terminal, width=140)
    ) as progress:
        plain = scheduler.report

        def report(run_id, update):
            stops = plain(run_id, update)
            progress.update(run_id, update, stops)
            return stops

        scheduler.report = report
        assert simulator.run()
    return scheduler, said.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_names_what_was_given_up_and_the_best_so_far(terminal):
    declared = search(trials=12)
    scheduler, said = followed(declared, terminal)
    ended = best(declared.costs, scheduler.records, 1)[0]
    assert f"12 of 12 trials, best {ended.values[0]:.1%} (trial {ended.number})" in said
    assert "given up after epoch 1/27" in said
    assert "completed" in said
    assert ("─" in said) == terminal


def test_members_of_a_population_pause_and_are_replaced():
    declared = search(trials=6, sampler="random", stopping=Stopping(rule="pbt", grace=9, reduction=3))
    _, lines = followed(declared, terminal=False)
    assert "trial 0: pauses after epoch 9/27" in lines
    assert "given up" not in lines
    scheduler, table = followed(declared, terminal=True)
    left = [record.number for record in scheduler.records[-12:] if record.outcome is TrialOutcome.PRUNED]
    last = table[table.rindex("┏") :]
    assert len(left) == last.count("replaced after epoch") > 0
    assert "pauses" not in last


def test_a_report_of_nothing_is_a_report(tmp_path):
    declared = search()
    log = DiskTrialLog(Journal(str(tmp_path)), "curves-000000")
    write_report(findings(plan_of(declared), log), log)
    assert "0 of 60 trials" in (tmp_path / "studies" / log.key / "report" / "report.html").read_text()


def test_the_report_says_what_the_rungs_foretold(tmp_path):
    declared, log, scheduler = searched(tmp_path)
    found = findings(plan_of(declared), log)
    assert list(found.foresight) == [1, 3, 9]  # the last epoch foretells nothing
    ended = [record for record in scheduler.records if record.outcome is TrialOutcome.COMPLETE]
    after = [log.epochs(record.run_id)[8].metrics[METRIC] for record in ended]
    assert len(ended) > 3
    expected = stats.spearmanr(after, [record.values[0] for record in ended]).statistic
    assert found.foresight[9] == pytest.approx(expected)
    write_report(found, log)
    html = (tmp_path / "studies" / log.key / "report" / "report.html").read_text()
    assert f"<tr><td>9</td><td>{expected:+.2f}</td></tr>" in html


def test_without_rungs_the_report_is_silent_of_them(tmp_path):
    declared, log, _ = searched(tmp_path, stopping=Stopping(rule="none"))
    found = findings(plan_of(declared), log)
    assert found.foresight == {}
    write_report(found, log)
    html = (tmp_path / "studies" / log.key / "report" / "report.html").read_text()
    assert "rank correlation" not in html


def test_the_heat_map_shows_what_all_trials_had_early_and_what_some_ended_with(tmp_path):
    heights = []
    space = Space({"model.placement": SITES, "training.learning_rate": FACTORS["training.learning_rate"]})
    for rule in ("asha", "none"):
        declared, log, _ = searched(tmp_path / rule, space=space, stopping=Stopping(rule=rule))
        write_report(findings(plan_of(declared), log), log)
        heights.append(len(imread(tmp_path / rule / "studies" / log.key / "report" / "placement.png")))
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.1)


def test_rungs_are_where_successive_halving_decides():
    declared = plan_of(search())
    assert rung_epochs(declared) == [1, 3, 9, 27]
    assert rung_epochs(plan_of(search(stopping=Stopping(rule="median")))) == []
    population = search(stopping=Stopping(rule="pbt", grace=6))
    assert rung_epochs(plan_of(population)) == [6, 12, 18, 24]


def test_the_trials_of_a_population_name_their_parents_on_disk(tmp_path):
    declared, log, scheduler = searched(tmp_path, trials=6, sampler="random", stopping=Stopping(rule="pbt", grace=9))
    assert log.trials() == scheduler.records
    write_report(findings(plan_of(declared), log), log)
    with (tmp_path / "studies" / log.key / "report" / "trials.csv").open() as file:
        parents = [row["parent"] for row in csv.DictReader(file)]
    assert parents == [str(record.origin.get("parent", "")) for record in scheduler.records]
    assert sum(map(bool, parents)) == 4  # two at each of two turns
