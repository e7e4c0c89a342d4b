"""Parsing NTU's skeleton text: this project's parser against one that reads a line at a time, in one run.

``python benchmarks/parse.py`` makes its own input. Both use one thread, so seconds are those of the processor.
"""

import time
from typing import Annotated

import numpy as np
import typer
from measure import in_turns, row

from coablate_platform.data.formats.skeleton_text import parse_skeleton

JOINTS = 25


def make_text(frames: int, bodies: int, seed: int = 0) -> bytes:
    """Write a file of ``frames`` frames with the digits that genuine files have."""
    draw = np.random.default_rng(seed)
    lines = [str(frames)]
    for _ in range(frames):
        lines.append(str(bodies))
        for body in range(bodies):
            lines += [f"{2**56 + body} 0 1 1 1 1 0 0.02764709 -0.05745083 2", str(JOINTS)]
            lines += [" ".join(f"{value:.7g}" for value in draw.normal(size=11)) + " 2" for _ in range(JOINTS)]
    return "\n".join(lines).encode()


def parse_lines(text: bytes) -> dict[int, np.ndarray]:
    """Parse a line at a time, as the public pipelines do: joints (T, J, 12) by body."""
    lines = iter(text.decode().splitlines())
    found: dict[int, list[list[list[float]]]] = {}
    for _ in range(int(next(lines))):
        for _ in range(int(next(lines))):
            body = int(next(lines).split()[0])
            joints = [[float(value) for value in next(lines).split()] for _ in range(int(next(lines)))]
            found.setdefault(body, []).append(joints)
    return {body: np.array(joints, dtype=np.float32) for body, joints in found.items()}


def main(
    frames: Annotated[int, typer.Option(help="Frames a file.")] = 100,
    rounds: Annotated[int, typer.Option(help="Turns that each parser gets.")] = 30,
) -> None:
    """Measure both parsers, and print a row."""
    texts = [make_text(frames, bodies, seed) for seed, bodies in enumerate((1, 1, 1, 2))]
    for text in texts:
        fast, slow = parse_skeleton(text, "generated"), parse_lines(text)
        for body, joints in slow.items():
            np.testing.assert_array_equal(fast.joints[fast.body == body], joints)
    works = [
        lambda: [parse_skeleton(text, "generated") for text in texts],
        lambda: [parse_lines(text) for text in texts],
    ]
    megabytes = sum(map(len, texts)) / 1e6
    fast_rate, slow_rate = (megabytes / spent for spent in in_turns(works, rounds, time.process_time))
    row("parse skeleton text", f"{fast_rate:.0f} MB/s", f"{slow_rate:.0f} MB/s", fast_rate / slow_rate)


if __name__ == "__main__":
    typer.run(main)
