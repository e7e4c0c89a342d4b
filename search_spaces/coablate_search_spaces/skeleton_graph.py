"""The four inputs of the skeleton graph network: joints, bones, and the motion of either.

The network is CTR-GCN (Chen et al., ICCV 2021). Its public results fuse two or four of these streams late; here each is
alone.
"""

from coablate_platform.study.overrides import apply_changes
from coablate_platform.study.study import Arm, Study
from coablate_search_spaces._pan import BASE, NONE

STUDY = Study(
    name="skeleton_graph",
    title="Skeleton graph network: joints, bones and motions",
    base=apply_changes(
        BASE,
        {
            "model.graphs": "skeleton",
            **NONE,
            "model.width": 0.5,
            "data.skeleton_frames": 32,
            "data.framing": "frame",
            "data.crop_ratio": 0.5,
            "data.rotation": 1.0,
            "data.tilt": 1.0,
            "data.scale": 0.5,
            "data.jitter": 0.0,
            "training.epochs": 40,
            "training.batch_size": 32,
            "training.learning_rate": 4e-3,
            "training.weight_decay": 0.02,
        },
    ),
    arms=(
        Arm(name="joints", changes={}),
        Arm(name="bones", changes={"model.stream": "bone"}),
        Arm(name="motion of joints", changes={"model.stream": "joint_motion"}),
        Arm(name="motion of bones", changes={"model.stream": "bone_motion"}),
    ),
    reference="joints",
)
