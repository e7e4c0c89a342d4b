"""A sampler's model fed rung by rung: it compares trials after the same number of epochs only.

Optuna's TPE takes a stopped trial for its last value. After one epoch that says little, and most trials of a strict
stopping rule end there, so TPE learns what rises fast. Optuna's GP does not see stopped trials at all. Here both see
the trials that have reached the highest rung with enough of them, each with its value there, as BOHB does (Falkner et
al., "BOHB", ICML 2018).
"""

from collections.abc import Iterator, Sequence

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.streams import stream_seed
from coablate_platform.study.suggesters import PlainValue

PAUSED = "paused"
"""Attribute of a trial that waits at a rung until it is promoted."""
FEWEST = 10
"""Trials that a rung needs before the sampler learns from it."""
RANDOM_EVERY = 4
MAX_SEED = 2**32
"""Optuna's seeds are below it."""


def halving_epochs(stopping: Stopping, epochs: int) -> list[int]:
    """Return the epochs after which successive halving compares trials, and the full budget last."""
    rungs, epoch = [], stopping.grace_of(epochs)
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= stopping.reduction
    return [*rungs, epochs]


def suggest_at_rung(
    search: Search, study: optuna.Study, number: int, sampler: BaseSampler
) -> dict[str, PlainValue] | None:
    """Return what a sampler suggests from the trials at the highest rung that is filled; None while none is.

    Trials in training that have not reached the rung count as bad ones, so that lanes do not try the same. One trial in
    :data:`RANDOM_EVERY` is drawn at random: the model does not see what was stopped below the rung, and would try it
    again.

    Args:
        search: the search, with early stopping by rungs.
        study: its trials, with their values after each epoch.
        number: number of the trial that is suggested.
        sampler: the sampler with the model, for this trial.
    """
    if number % RANDOM_EVERY == RANDOM_EVERY - 1:
        seed = stream_seed(search.seed, "sampler", number) % MAX_SEED
        return _suggested(search, optuna.create_study(sampler=RandomSampler(seed=seed)))
    trials = study.get_trials(deepcopy=False)
    for rung in reversed(halving_epochs(search.stopping, search.base.epochs)):
        seen = list(_at(rung, trials, search.base.epochs))
        if len(seen) >= FEWEST:
            break
    else:
        return None
    waiting = [
        trial
        for trial in trials
        if trial.state is TrialState.RUNNING
        and not trial.user_attrs.get(PAUSED)
        and rung not in trial.intermediate_values
    ]
    at_rung = optuna.create_study(direction="maximize", sampler=sampler)
    at_rung.add_trials(seen)
    at_rung.add_trials(
        [
            optuna.trial.create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)
            for trial in waiting
        ]
    )
    return _suggested(search, at_rung)


def _suggested(search: Search, study: optuna.Study) -> dict[str, PlainValue]:
    trial = study.ask()
    search.space.suggest(trial)
    return dict(trial.params)


def _at(rung: int, trials: Sequence[FrozenTrial], epochs: int) -> Iterator[FrozenTrial]:
    """Yield the trials that have reached a rung, as completed ones with their value there."""
    for trial in trials:
        value = trial.intermediate_values.get(rung)
        if value is None and rung == epochs and trial.state is TrialState.COMPLETE:
            value = trial.values[0]  # another search's trial, of which only the final value is known
        if value is not None:
            yield optuna.trial.create_trial(value=value, params=trial.params, distributions=trial.distributions)
