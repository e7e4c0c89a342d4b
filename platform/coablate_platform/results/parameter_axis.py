"""One parameter of a search as an axis: where a trial's value stands, with linear, logarithmic or categorical ticks."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, json_to_distribution

from coablate_platform.journal.trials import TrialRecord

_MOST_DECADES = 4  # with a label


class ParameterAxis:
    """Converts a parameter's values to positions on an axis: numbers to themselves, choices to their index.

    If the search space has changed, trials may have ranges of several kinds. If one of them is categorical, all values
    are shown as choices; if one is linear, the axis is linear.

    Args:
        name: the parameter's name.
        trials: the trials to show; at least one has the parameter, the others are ignored.

    Attributes:
        low: lowest position of a trial.
        high: highest position of a trial.
    """

    def __init__(self, name: str, trials: Sequence[TrialRecord]) -> None:
        self._name = name
        having = [trial for trial in trials if name in trial.params]
        ranges = [json_to_distribution(trial.ranges[name]) for trial in having]
        categorical = [choices for choices in ranges if isinstance(choices, CategoricalDistribution)]
        self._choices: list[str] | None = None
        if categorical:
            values = [choice for choices in categorical for choice in choices.choices]
            values += [trial.params[name] for trial in having]
            self._choices = list(dict.fromkeys(map(str, values)))
        self._log = all(isinstance(numbers, FloatDistribution | IntDistribution) and numbers.log for numbers in ranges)
        positions = [self.position(trial) for trial in having]
        self.low, self.high = min(positions), max(positions)

    def position(self, trial: TrialRecord) -> float:
        """Return the position of a trial's value."""
        value = trial.params[self._name]
        if self._choices is not None:
            return self._choices.index(str(value))
        assert isinstance(value, int | float)  # a numeric range gives numbers only
        return float(value)

    def share(self, trial: TrialRecord) -> float:
        """Return the position of a trial's value relative to the lowest (0) and the highest (1)."""
        scale = math.log if self._log else float
        return (scale(self.position(trial)) - scale(self.low)) / ((scale(self.high) - scale(self.low)) or 1)

    def labels(self) -> list[tuple[float, str]]:
        """Return (share, text) of the choices from the lowest to the highest, or of the lowest and highest number."""
        if self._choices is None:
            return [(0, f"{self.low:.3g}"), (1, f"{self.high:.3g}")]
        width = (self.high - self.low) or 1
        shown = self._choices[int(self.low) : int(self.high) + 1]
        return [(index / width, choice) for index, choice in enumerate(shown)]

    def set_ticks(self, axes: Axes, vertical: bool = False) -> None:
        """Give the horizontal or the vertical axis of ``axes`` the parameter's scale or choices."""
        axis = axes.yaxis if vertical else axes.xaxis
        if self._choices is not None:
            axis.set_ticks(range(len(self._choices)), self._choices)
            (axes.set_ylim if vertical else axes.set_xlim)(-0.5, len(self._choices) - 0.5)
        elif self._log:
            (axes.set_yscale if vertical else axes.set_xscale)("log")
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            shown = [10.0**decade for decade in decades]
            axis.set_major_locator(FixedLocator(shown[:: max(1, len(shown) // _MOST_DECADES)]))
