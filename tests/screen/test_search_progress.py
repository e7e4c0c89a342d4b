"""The progress of a search: plain lines without a terminal, a live table with one."""

import io

import pytest
from curves import search, simulate
from made_search import plan_of
from rich.console import Console

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.results.ranking import best
from coablate_platform.screen.search_progress import SearchProgress
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.search import Stopping


def shown(declared, terminal: bool):
    """Simulate a whole search; return its scheduler and what its progress printed."""
    output = io.StringIO()
    scheduler, simulator = simulate(declared, MemoryTrialLog())
    console = Console(file=output, force_terminal=terminal, width=140)
    with SearchProgress(plan_of(declared), scheduler, console) as progress:
        report_only = scheduler.report

        def report_and_show(run_id, update):
            stops = report_only(run_id, update)
            progress.update(run_id, update, stops)
            return stops

        scheduler.report = report_and_show
        assert simulator.run()
    return scheduler, output.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_pruned_and_completed_trials_and_the_best_so_far_are_shown(terminal):
    declared = search(trials=12)
    scheduler, output = shown(declared, terminal)
    winner = best(declared.costs, scheduler.records, 1)[0]
    assert f"12 of 12 trials, best {winner.values[0]:.1%} (trial {winner.number})" in output
    assert "pruned after epoch 1/27" in output
    assert f"completed, accuracy {winner.values[0]:.1%}" in output
    assert ("─" in output) == terminal


def test_members_of_a_population_are_shown_as_paused_or_replaced():
    declared = search(trials=6, sampler="random", stopping=Stopping(rule="pbt", grace=9, reduction=3))
    _, lines = shown(declared, terminal=False)
    assert "trial 0: paused after epoch 9/27" in lines
    assert "pruned" not in lines
    scheduler, tables = shown(declared, terminal=True)
    replaced = [record.number for record in scheduler.records[-12:] if record.outcome is TrialOutcome.PRUNED]
    last_table = tables[tables.rindex("┏") :]
    assert len(replaced) == last_table.count("replaced after epoch") > 0
    assert "paused" not in last_table
