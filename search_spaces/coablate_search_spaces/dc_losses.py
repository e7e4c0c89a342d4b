"""Search over the weights of the losses of Decomposition & Composition, by the linear probe's validation accuracy."""

from coablate_platform.study.domains import Float
from coablate_platform.study.search import Search, Stopping
from coablate_platform.study.space import Space
from coablate_search_spaces._dc import BASE

STUDY = Search(
    name="dc_losses",
    title="Weights of decomposition, composition and their companions",
    base=BASE,
    space=Space(
        {
            "model.decomposition": Float(low=0.5, high=50.0, log=True),
            "model.composition": Float(low=0.01, high=10.0, log=True),
            "model.inter": Float(low=0.05, high=50.0, log=True),
            "model.variance": Float(low=0.5, high=50.0, log=True),
            "model.covariance": Float(low=0.01, high=10.0, log=True),
        }
    ),
    trials=30,
    sampler="gp",
    stopping=Stopping(rule="none"),
)
