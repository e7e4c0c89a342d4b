"""Search over the placement of DSFM: up to three fusion sites over the layers of both streams."""

from coablate_platform.study.domains import Choice
from coablate_platform.study.search import Search
from coablate_platform.study.space import Space
from coablate_search_spaces._cc_dfarm import BASE, STOPPING, placements

STUDY = Search(
    name="placement",
    title="Placement of DSFM",
    base=BASE,
    space=Space({"model.placement": placements(3, channels=Choice(options=(16, 32, 64, 128, 256)))}),
    trials=40,
    stopping=STOPPING,
)
