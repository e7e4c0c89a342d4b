"""CC-DFARM Tables 5 and 6: what DSFM, MFFM and TIAM each add to the MMTM baseline.

MMTM is placed at exactly the sites of DSFM, so the first step replaces one by the other and changes nothing else.
"""

from coablate_platform.study.component import Component
from coablate_platform.study.designs import with_components
from coablate_platform.study.study import Study
from coablate_search_spaces._cc_dfarm import BASE, MARGIN, published

TIAM = Component(name="TIAM", on={"model.tiam": "channel"}, off={"model.tiam": "none"})
DSFM = Component(name="DSFM", on={"model.fusion": "dsfm"}, off={"model.fusion": "mmtm"})
MFFM = Component(name="MFFM", on={"model.mffm": True}, off={"model.mffm": False})
COMPONENTS = (TIAM, DSFM, MFFM)

STUDY = Study(
    name="modules",
    title="CC-DFARM module ablation (Tables 5 and 6)",
    base=BASE,
    arms=(
        with_components(COMPONENTS, [], "MMTM", published(89.4, 93.6, 86.8, 89.1)),
        with_components(COMPONENTS, ["DSFM"], "+DSFM", published(90.9, 93.9, 88.3, 90.2)),
        with_components(COMPONENTS, ["DSFM", "MFFM"], "+DSFM+MFFM", published(91.3, 94.8, 89.6, 91.2)),
        with_components(COMPONENTS, ["TIAM", "DSFM"], "+TIAM+DSFM", published(92.7, 96.1, 89.8, 91.5)),
        with_components(COMPONENTS, ["TIAM", "DSFM", "MFFM"], "all", published(93.8, 97.2, 90.9, 92.3)),
    ),
    reference="MMTM",
    margin=MARGIN,
    components=COMPONENTS,
)
