"""Lets a cluster grow: asks Ray's autoscaler for the nodes of the lanes, and waits for the first of them."""

import time
from collections.abc import Callable
from pathlib import Path

from ray.autoscaler.sdk import request_resources

from coablate_platform.lanes.cluster import Cluster, LaneSize, NoRoomError
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

NODE_WAIT_S = 900.0
"""How long to wait for a first node; a GPU host in a cloud takes some minutes."""
_LOOK_S = 1.0


def can_grow() -> bool:
    """Return whether this host is the head of a cluster that Ray's launcher started, whose autoscaler adds nodes."""
    return Path("~/ray_bootstrap_config.yaml").expanduser().exists()


def ask_for(size: LaneSize, lanes: int) -> None:
    """Ask the autoscaler for room for so many lanes, in place of what was asked before."""
    request_resources(bundles=[size.claim] * (size.workers * lanes))


def awaited_size(study: Study | Search, fit: Callable[[], int], on_phase: Callable[[str], None], most: int) -> LaneSize:
    """Return the size of a study's lanes; where none fits yet, ask for nodes and wait for them.

    A node that joins decides whether workers get a GPU, where the study leaves that open.

    Args:
        study: the study or search to run.
        fit: measures how many of its runs a GPU holds.
        on_phase: called once with what is waited for, in words.
        most: how many lanes to ask room for.

    Raises:
        InputError: no lane fits after :data:`NODE_WAIT_S`, or the workers of one lane would have to share a GPU.
    """
    deadline, waiting = time.monotonic() + NODE_WAIT_S, False
    while True:
        try:
            return Cluster.now().size_of(study, fit)
        except NoRoomError as error:
            if time.monotonic() > deadline:
                ask_for(error.size, 0)
                raise
            if not waiting:
                on_phase(f"waiting for nodes: {error}")
                ask_for(error.size, most)
                waiting = True
        time.sleep(_LOOK_S)
