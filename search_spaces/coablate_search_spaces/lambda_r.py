"""Search over the floor λ and the reduction r of DSFM, for which the paper gives no values."""

from coablate_platform.study.domains import Choice, Float
from coablate_platform.study.search import Search
from coablate_platform.study.space import Space
from coablate_search_spaces._cc_dfarm import BASE, STOPPING

STUDY = Search(
    name="lambda_r",
    title="Floor λ and reduction r of DSFM",
    base=BASE,
    space=Space({"model.floor": Float(low=0.0, high=1.0), "model.reduction": Choice(options=(1, 2, 4, 8, 16))}),
    trials=30,
    sampler="gp",
    stopping=STOPPING,
)
