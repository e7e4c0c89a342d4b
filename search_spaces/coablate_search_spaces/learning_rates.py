"""Search over learning rate, weight decay and batch size on the given data set."""

from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.search import Search
from coablate_platform.study.space import Space
from coablate_search_spaces._cc_dfarm import BASE, STOPPING

STUDY = Search(
    name="learning_rates",
    title="Learning rate, weight decay and batch size",
    base=BASE,
    space=Space(
        {
            "training.learning_rate": Float(low=1e-4, high=2e-2, log=True),
            "training.weight_decay": Float(low=1e-4, high=0.3, log=True),
            "training.batch_size": Choice(options=(8, 16, 32)),
        }
    ),
    trials=30,
    sampler="gp",
    stopping=STOPPING,
)
