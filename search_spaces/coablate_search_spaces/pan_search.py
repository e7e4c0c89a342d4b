"""Search over PAN-Unified's calibration, its window, the number of frames, and the learning rate."""

from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.search import Search
from coablate_platform.study.space import Space
from coablate_search_spaces._cc_dfarm import STOPPING
from coablate_search_spaces._pan import BASE

STUDY = Search(
    name="pan_search",
    title="PAN-Unified: calibration, frames and learning rate",
    base=BASE,
    space=Space(
        {
            "model.tokens.calibration": Choice(options=("none", "attention", "gate", "both")),
            "model.tokens.window": Choice(options=(None, 1, 2)),
            "model.tokens.interpolation": Choice(options=("nearest", "bilinear")),
            "data.frames": Choice(options=(8, 16)),
            "training.learning_rate": Float(low=3e-4, high=1e-2, log=True),
            "training.weight_decay": Float(low=1e-4, high=0.3, log=True),
        }
    ),
    trials=30,
    stopping=STOPPING,
)
