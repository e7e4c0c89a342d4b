"""How much a poor 2-D skeleton costs the token graph, with and without post-calibration: the claim of PAN's abstract.

Joints are jittered by 0, 8, 16 and 32 pixels at 224 pixels a side, or lost with probability 0.25 and 0.5, in training
and in test, as the joints of a poor pose estimator are.
"""

from coablate_platform.study.contrasts import Contrast
from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.study import Arm, Study
from coablate_platform.study.trends import Trend
from coablate_search_spaces._pan import ATTENTION, BASE, NONE

JITTERS = (8, 16, 32)
DROPOUTS = (0.25, 0.5)
NOISES: dict[str, dict[str, float]] = (
    {"exact joints": {}}
    | {f"jitter {pixels} px": {"data.pixel_jitter": pixels / 224} for pixels in JITTERS}
    | {f"{share:.0%} lost": {"data.pixel_dropout": share} for share in DROPOUTS}
)

LEVELS: dict[str, dict[float, str]] = {
    "jitter of the joints, pixels at 224": {float(pixels): f"jitter {pixels} px" for pixels in JITTERS},
    "joints lost, share": {share: f"{share:.0%} lost" for share in DROPOUTS},
}

STUDY = Study(
    name="pan_robustness",
    title="PAN's token graph under poor 2-D skeletons",
    base=apply_changes(BASE, {"model.graphs": "tokens"}),
    arms=tuple(
        Arm(name=f"{noise}, {name}", changes=changes | calibration)
        for noise, changes in NOISES.items()
        for name, calibration in (("uncalibrated", NONE), ("calibrated", ATTENTION))
    ),
    trends=tuple(
        Trend(
            axis=axis,
            lines={
                name: {x: f"{noise}, {name}" for x, noise in {0.0: "exact joints", **noises}.items()}
                for name in ("uncalibrated", "calibrated")
            },
        )
        for axis, noises in LEVELS.items()
    ),
    reference="exact joints, uncalibrated",
    contrasts=tuple(
        Contrast(name=f"calibration, {noise}", plus={f"{noise}, calibrated": 1}, minus={f"{noise}, uncalibrated": 1})
        for noise in NOISES
    ),
)
