"""TPE learns from trials after the same number of epochs only."""

from typing import Any

import optuna
import pytest
from curves import EPOCHS, search, simulate
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler

from coablate_platform.journal.trials import TrialOutcome
from coablate_platform.search.rungs import FEWEST, RANDOM_EVERY, halving_epochs, suggest_at_rung
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.domains import Float
from coablate_platform.study.search import Stopping
from coablate_platform.study.space import Space

RATES = Space({"training.learning_rate": Float(low=1e-4, high=1e-1, log=True)})


class Spy(BaseSampler):
    """Suggests the lower end, and keeps what it could learn from."""

    def __init__(self) -> None:
        self.seen: dict[float, float | None] = {}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        self.seen = {
            other.params["training.learning_rate"]: other.value
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number
        }
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> float:
        return 1e-4


def study_of(*curves: tuple[float, ...], running: int = 0) -> optuna.Study:
    """Return a study of trials with these values after each epoch; the last ``running`` of them are in training."""
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    for number, values in enumerate(curves):
        study.enqueue_trial({"training.learning_rate": 1e-3 + number * 1e-5})
        trial = study.ask({"training.learning_rate": FloatDistribution(1e-4, 1e-1, log=True)})
        for epoch, value in enumerate(values, 1):
            trial.report(value, epoch)
        if number < len(curves) - running:
            complete = len(values) == EPOCHS
            state = optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED
            study.tell(trial, values[-1] if complete else None, state=state)
    return study


def seen(study: optuna.Study) -> list[float | None]:
    spy = Spy()
    suggested = suggest_at_rung(search(space=RATES), study, 0, spy)
    assert suggested == {"training.learning_rate": 1e-4}
    return list(spy.seen.values())


def test_the_rungs_are_those_of_successive_halving_and_the_full_budget() -> None:
    assert halving_epochs(Stopping(grace=1, reduction=3), 27) == [1, 3, 9, 27]
    assert halving_epochs(Stopping(grace=4, reduction=3), 52) == [4, 12, 36, 52]
    assert halving_epochs(Stopping(), 52) == [4, 12, 36, 52]
    assert halving_epochs(Stopping(), 5) == [1, 3, 5]


def test_nothing_is_suggested_before_a_rung_is_filled() -> None:
    assert suggest_at_rung(search(space=RATES), study_of(*[(0.1,)] * (FEWEST - 1)), 0, Spy()) is None


def test_only_trials_at_the_highest_filled_rung_are_seen_with_their_value_there() -> None:
    """Ten trials have reached epoch 3, nine of them epoch 9; one was stopped after the first epoch."""
    high = [(0.1, 0.2, 0.3 + number / 100, *[0.5] * 6) for number in range(FEWEST - 1)]
    study = study_of(*high, (0.1, 0.2, 0.25), (0.9,))
    assert seen(study) == pytest.approx([0.3 + number / 100 for number in range(FEWEST - 1)] + [0.25])


def test_completed_trials_are_seen_with_their_final_value() -> None:
    study = study_of(*[tuple(epoch / 100 for epoch in range(EPOCHS))] * FEWEST)
    assert seen(study) == [(EPOCHS - 1) / 100] * FEWEST


def test_trials_in_training_are_seen_without_a_value_until_they_reach_the_rung() -> None:
    study = study_of(*[(0.1, 0.2, 0.3)] * FEWEST, (0.1, 0.2, 0.4), (0.1,), running=2)
    assert seen(study) == [*[0.3] * FEWEST, 0.4, None]


def test_one_trial_in_four_is_drawn_at_random_and_the_same_again() -> None:
    study, spy = study_of(*[(0.1, 0.2, 0.3)] * FEWEST), Spy()
    first, again = (suggest_at_rung(search(space=RATES), study, RANDOM_EVERY - 1, spy) for _ in range(2))
    assert first == again != {"training.learning_rate": 1e-4}
    assert spy.seen == {}
    other = suggest_at_rung(search(space=RATES), study, 2 * RANDOM_EVERY - 1, spy)
    assert other != first


def test_a_search_that_stops_early_finds_a_better_trial_for_it() -> None:
    """Rungs after one epoch mislead TPE where slow trials win: here over eight seeds, on the known curves."""
    best = []
    for seed in range(8):
        log = MemoryTrialLog()
        scheduler, simulator = simulate(search(seed=seed, trials=40), log)
        assert simulator.run()
        completed = [record.values[0] for record in scheduler.records if record.outcome is TrialOutcome.COMPLETE]
        best.append(max(completed))
    assert sum(value > 0.93 for value in best) >= 6
