"""The synthetic set: NTU files of figures that move, for which video and skeleton are both needed."""

from coablate_platform.data.synthetic.motion import ACTIONS
from coablate_platform.data.synthetic.write import SyntheticConfig, generate

__all__ = ["ACTIONS", "SyntheticConfig", "generate"]
