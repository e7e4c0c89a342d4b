"""Checks the rows of a shard when a store is opened: another program may have written it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coablate_platform.data.schema import StoreMetadata

# T skeleton frames · M bodies · V joints


def check_rows(rows: pa.RecordBatch, metadata: StoreMetadata) -> None:
    """Check that the numbers and arrays of each clip fit each other and the store's metadata.

    Raises:
        ValueError: those of a clip do not; the message names it.
    """
    frames, bodies, labels = (_numbers(rows, name) for name in ("frames", "bodies", "label"))
    joints, video = len(metadata.joint_layout.joints), _numbers(rows, "video_frames")
    places = frames * bodies
    checks = {
        f"label, expected 0 to {len(metadata.classes) - 1}": (labels >= 0) & (labels < len(metadata.classes)),
        "frames, expected at least 1": frames > 0,
        f"bodies, expected 1 to {metadata.persons}": (bodies > 0) & (bodies <= metadata.persons),
        "length of xyz": _lengths(rows, "xyz") == places * joints * 3,
        "length of pixels": np.isin(_lengths(rows, "pixels"), (-1,))
        | (_lengths(rows, "pixels") == places * joints * 2),
        "length of valid": _lengths(rows, "valid") == places,
        "video": (video > 0) == metadata.has_video,
        "length of packets": _lengths(rows, "packets") == np.where(video > 0, video, -1),
    }
    for what, good in checks.items():
        if not good.all():
            name = rows["name"][int(np.flatnonzero(~good)[0])].as_py()
            raise ValueError(f"clip {name!r} has a wrong {what}")


def _numbers(rows: pa.RecordBatch, name: str) -> NDArray[np.int64]:
    return np.asarray(rows[name])


def _lengths(rows: pa.RecordBatch, name: str) -> NDArray[np.int64]:
    """Return the length of each clip's list; -1 where there is none."""
    return np.asarray(pc.fill_null(pc.list_value_length(rows[name]), -1))
