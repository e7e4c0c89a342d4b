"""Small sets in the formats of JHMDB and PKU-MMD, whose splits are lists of names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from coablate_platform.data.synthetic.write import write_video


def write_jhmdb(
    folder: Path,
    clips: Mapping[str, str],
    image: NDArray[np.floating] | None = None,
    world: NDArray[np.floating] | None = None,
    size: tuple[int, int] = (24, 32),
) -> None:
    """Write clips, given as ``CLASS/NAME``, with their digits in the three split files ("112": test in split 3)."""
    draw = np.random.default_rng(len(clips))
    image = draw.uniform(1, 240, (2, 15, 6)) if image is None else image
    world = draw.uniform(-0.5, 0.5, (2, 15, image.shape[-1])) if world is None else world
    for clip, sides in clips.items():
        label, _, name = clip.partition("/")
        joints, video, splits = folder / "joint_positions" / clip, folder / "videos" / label, folder / "splits"
        for place in (joints, video, splits):
            place.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(joints / "joint_positions.mat", {"pos_img": image, "pos_world": world})
        write_video(video / f"{name}.avi", np.full((image.shape[-1], *size, 3), 90, dtype=np.uint8))
        for number, side in enumerate(sides, start=1):
            with (splits / f"{label}_test_split{number}.txt").open("a") as file:
                file.write(f"{name}.avi {side}\n")


def write_pku(folder: Path, intervals: Mapping[str, Sequence[str]], bodies: NDArray[np.floating]) -> None:
    """Write recordings with the lines of their label files, and the bodies (T, 1 or 2, 25, 3) of all of them."""
    rows = np.zeros((len(bodies), 2, 25, 3))
    rows[:, : bodies.shape[1]] = bodies
    for name in ("Skeleton", "Label"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for recording, lines in intervals.items():
        np.savetxt(folder / "Skeleton" / f"{recording}.txt", rows.reshape(len(rows), -1), fmt="%.6f")
        (folder / "Label" / f"{recording}.txt").write_text("".join(f"{line}\r\n" for line in lines))


def write_pku_lists(folder: Path, train: Sequence[str], test: Sequence[str], split: str = "") -> None:
    """Write both lists, or that of one split, ``subject`` or ``view``."""
    for name in [split] if split else ["subject", "view"]:
        text = f"Training videos: \n{', '.join(train)}, \n\nValidataion videos: \n{', '.join(test)}, \n"
        (folder / f"cross_{name}_v2.txt").write_text(text)
