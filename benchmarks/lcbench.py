"""LCBench's learning curves as a search: real training curves of 34 data sets, from a surrogate network.

Source: Zimmer et al., "Auto-PyTorch Tabular", 2021 (the curves), and Pfisterer et al., "YAHPO Gym", AutoML 2022 (the
surrogate). A folder with its files is named by the variable ``COABLATE_LCBENCH``; see ``docs/performance.md``.
"""

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coablate_platform.search.simulator import Curve
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.domains import Float, Int
from coablate_platform.study.model import ClipShape, Description, Objective
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space

if TYPE_CHECKING:
    from torch import nn

VARIABLE = "COABLATE_LCBENCH"
EPOCHS = 52
SAMPLE = 10_000
"""Random configurations whose accuracies scale the regret of an instance."""
FIELDS = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
"""The surrogate's inputs, after the epoch."""


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """The hyperparameters of LCBench's networks, in place of a model that is trained."""

    batch_size: int = 91
    learning_rate: float = 3.1622777e-3
    momentum: float = 0.545
    weight_decay: float = 0.050005
    num_layers: int = 3
    max_units: int = 256
    max_dropout: float = 0.5

    @property
    def modalities(self) -> tuple[str, ...]:
        return ()

    def build(self, shape: ClipShape) -> "nn.Module":
        raise TypeError("LCBench's networks are not trained: their curves are known")

    def objective(self) -> Objective:
        raise TypeError("LCBench's networks are not trained: their curves are known")

    def describe(self, shape: ClipShape) -> Description:
        raise TypeError("LCBench's networks are not trained: their curves are known")


SPACE = Space(
    {
        "model.batch_size": Int(low=16, high=512, log=True),
        "model.learning_rate": Float(low=1e-4, high=1e-1, log=True),
        "model.momentum": Float(low=0.1, high=0.99),
        "model.weight_decay": Float(low=1e-5, high=1e-1),
        "model.num_layers": Int(low=1, high=5),
        "model.max_units": Int(low=64, high=1024, log=True),
        "model.max_dropout": Float(low=0.0, high=1.0),
    }
)
BASE = RunConfig(model=Funnel(), data=DataConfig(), training=TrainingConfig(epochs=EPOCHS))
SEARCH = Search(name="lcbench", title="LCBench", base=BASE, space=SPACE, trials=10_000, stopping=Stopping(rule="asha"))


def folder() -> Path | None:
    """Return the folder with the surrogate; None if the variable names none."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def instances() -> list[str]:
    """Return the names of the data sets, in the surrogate's own order."""
    space = json.loads((_folder() / "config_space.json").read_text())
    return list(space["hyperparameters"][0]["choices"])


class Instance:
    """A data set of LCBench.

    Args:
        name: its OpenML task.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._code = json.loads((_folder() / "encoding.json").read_text())["OpenML_task_id"][name]
        self._curves: dict[Funnel, Curve] = {}

    def curve(self, config: RunConfig) -> Curve:
        """Return the validation accuracy, a fraction of 1, after each epoch."""
        model: Any = config.model
        if model not in self._curves:
            self._curves[model] = Curve(values=self.accuracies([model])[0].tolist())
        return self._curves[model]

    def regret(self, accuracy: float) -> float:
        """Return how far a final accuracy is from the best of a large sample; 1 is the sample's median."""
        best, median = self._scale
        return (best - accuracy) / (best - median)

    def accuracies(self, models: Sequence[Funnel], epochs: Sequence[int] = range(1, EPOCHS + 1)) -> NDArray[np.float64]:
        """Return the accuracies (models, epochs)."""
        values = np.array([[getattr(model, name) for name in FIELDS] for model in models], np.float32)
        inputs = np.concatenate(
            [np.tile(np.array(epochs, np.float32), len(models))[:, None], np.repeat(values, len(epochs), axis=0)],
            axis=1,
        )
        codes = np.full((len(inputs), 1), self._code, np.int32)
        (output,) = _session().run(None, {"x_cat": codes, "x_cont": inputs})
        found: NDArray[np.float64] = np.asarray(output, np.float64)[:, 1].reshape(len(models), len(epochs)) / 100
        return found

    @functools.cached_property
    def _scale(self) -> tuple[float, float]:
        """The best and the median final accuracy of the sample."""
        generator = np.random.default_rng(0)
        models = [_random(generator) for _ in range(SAMPLE)]
        final = self.accuracies(models, [EPOCHS])[:, 0]
        return float(final.max()), float(np.median(final))


def _random(generator: np.random.Generator) -> Funnel:
    def log(low: float, high: float) -> float:
        return float(np.exp(generator.uniform(np.log(low), np.log(high))))

    return Funnel(
        batch_size=round(log(16, 512)),
        learning_rate=log(1e-4, 1e-1),
        momentum=generator.uniform(0.1, 0.99),
        weight_decay=generator.uniform(1e-5, 1e-1),
        num_layers=int(generator.integers(1, 6)),
        max_units=round(log(64, 1024)),
        max_dropout=generator.uniform(0.0, 1.0),
    )


def _folder() -> Path:
    found = folder()
    if found is None:
        raise RuntimeError(f"{VARIABLE} is not set: it names the folder of LCBench's surrogate")
    return found


@functools.cache
def _session() -> Any:
    import onnxruntime  # only here: the benchmark on made-up curves runs without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(_folder() / "model.onnx"), options)


assert {field.name for field in fields(Funnel)} == set(FIELDS)
