"""What the studies of CC-DFARM share: the base at a CPU's size, and the columns in which the paper reports."""

from dataclasses import replace

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.hcn import LAYERS
from coablate_model.placement import RGB_SITES, Site
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.domains import Domain, Placement
from coablate_platform.study.search import Stopping

BASE = RunConfig(
    model=CCDFARM(
        width=0.25, i3d_dropout=0.0, i3d_norm_momentum=0.1, hcn_dropout=0.0, mffm_dropout=0.0, label_smoothing=0.05
    ),
    data=DataConfig(frames=8, size=48, skeleton_frames=16, crop_ratio=0.8, rotation=0.3),
    training=TrainingConfig(epochs=22, batch_size=16, optimiser="adamw", learning_rate=1e-3, schedule="one_cycle"),
)
"""Made for the embedded set on two CPU cores: some hundred clips, a minute a run. The paper's size and optimiser:
``--set model.width=1 --set data.frames=32 --set data.size=224 --set data.skeleton_frames=32 --set training=paper``. It
gives no dropout or label smoothing, which stay as they are here."""

STOPPING = Stopping(rule="asha", grace=3, reduction=3)
"""After one epoch of a rising rate all trials are still at chance; rungs stand after 3 and 9."""


def published(cs: float, cv: float, csub: float, cset: float) -> dict[str, float]:
    """Return accuracies in percent by protocol, in the paper's column order."""
    return {"ntu60/cs": cs, "ntu60/cv": cv, "ntu120/csub": csub, "ntu120/cset": cset}


def placements(most: int, **fields: Domain) -> Placement:
    """Return every legal placement of up to so many sites, whose further fields vary with them."""
    return Placement(site=Site, streams={"rgb": RGB_SITES, "skeleton": LAYERS}, fields=fields, most=most)


def own(site: Site) -> Site:
    """Return the site with the model's λ and r as its own, so that a search can vary them site by site."""
    return replace(site, floor=BASE.model.floor, reduction=BASE.model.reduction)  # type: ignore[attr-defined]
