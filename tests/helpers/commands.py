"""The command line, called in this process: what a user types, and what comes back."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from coablate_platform.cli import main

PROGRESS = "timing training steps of "
"""How the lines begin that a slow machine may print before an error."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals for which the command sets handlers."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An exit code, and what was printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def coablate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Answer]]:
    """Type a command; wide, so that tables do not fold. What it changes of this process is restored at the end."""
    environment, handlers = dict(os.environ), {number: signal.getsignal(number) for number in ENDING}
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["coablate", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return Answer(code=int(end.value.code or 0), out=said.out, err=said.err)

    yield call
    os.environ.clear()
    os.environ.update(environment)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def refused(coablate: Callable[..., Answer]) -> Callable[..., None]:
    """Type a command that is a user's mistake: one line that says all of ``says``, exit code 2, nothing else."""

    def call(*words: object, says: tuple[str, ...]) -> None:
        answer = coablate(*words)
        assert answer.code == 2, answer
        assert answer.out == ""
        lines = [line for line in answer.err.splitlines(keepends=True) if not line.startswith(PROGRESS)]
        assert len(lines) == 1, answer.err
        assert lines[0].startswith("coablate: ")
        assert lines[0].endswith("\n")
        assert [text for text in says if text not in lines[0]] == [], answer.err

    return call


@pytest.fixture
def write_ntu(write_walk: Callable[..., Path]) -> Callable[[Path, str], None]:
    """Write one clip as NTU does: someone who walks for 20 frames, filmed."""

    def write(folder: Path, name: str, frames: int = 20) -> None:
        write_walk(folder, name, frames)
        with av.open(str(folder / f"{name}_rgb.avi"), "w", format="avi") as container:
            stream = container.add_stream("mpeg4", rate=30)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame in range(frames):
                picture = np.full((48, 64, 3), 10 * frame, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())

    return write
