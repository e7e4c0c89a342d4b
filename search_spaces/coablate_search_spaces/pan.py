"""PAN: skeleton graph, token graph, both fused late, and one graph over both; with and without post-calibration.

The abstract names the systems; which joints, sizes and forms is our reading. Published values are those of public
ancestors, for orientation: CTR-GCN with joints and bones for the skeleton graph (Chen et al. 2021).
"""

from coablate_platform.study.contrasts import Contrast
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._pan import ATTENTION, BASE, NONE

STUDY = Study(
    name="pan",
    title="PAN: skeleton graph, token graph, Ensemble and Unified",
    base=BASE,
    arms=(
        Arm(
            name="skeleton graph",
            changes={"model.graphs": "skeleton", **NONE},
            published={"ntu60/cs": 91.5, "ntu60/cv": 96.6, "ntu120/csub": 87.5, "ntu120/cset": 89.2},
        ),
        Arm(name="token graph, uncalibrated", changes={"model.graphs": "tokens", **NONE}),
        Arm(name="token graph", changes={"model.graphs": "tokens", **ATTENTION}),
        Arm(name="Ensemble, uncalibrated", changes={"model.graphs": "ensemble", **NONE}),
        Arm(name="Ensemble", changes={"model.graphs": "ensemble", **ATTENTION}),
        Arm(name="Unified, uncalibrated", changes={"model.graphs": "unified", **NONE}),
        Arm(name="Unified", changes={"model.graphs": "unified", **ATTENTION}),
    ),
    reference="skeleton graph",
    contrasts=(
        Contrast(name="Ensemble over the skeleton graph", plus={"Ensemble": 1}, minus={"skeleton graph": 1}),
        Contrast(name="Unified over the skeleton graph", plus={"Unified": 1}, minus={"skeleton graph": 1}),
        Contrast(name="Unified over Ensemble", plus={"Unified": 1}, minus={"Ensemble": 1}),
        Contrast(
            name="calibration of the token graph", plus={"token graph": 1}, minus={"token graph, uncalibrated": 1}
        ),
        Contrast(name="calibration of Unified", plus={"Unified": 1}, minus={"Unified, uncalibrated": 1}),
    ),
)
