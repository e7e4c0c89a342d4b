"""The text of NTU RGB+D's ``.skeleton`` files, parsed by Arrow.

The text has three kinds of lines: 12 fields for a joint, 10 for a body, 1 for a count. Arrow reads those of a joint
as a table of float32 and hands over the rest, with their line numbers; the counts among them say where every line must
stand, so that a file is either read to its last line or refused with the line at which it goes wrong.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from coablate_platform.data.formats.clip import BadClip

# B bodies, counted over all frames · J joints

JOINTS = 25
_FIELDS = (
    *("x", "y", "z", "depth_x", "depth_y", "color_x", "color_y"),
    *("orient_w", "orient_x", "orient_y", "orient_z", "state"),
)
_BODY_FIELDS = 10
_NAN = ["NaN", "nan", "-nan", "-NaN", "-nan(ind)", "1.#QNAN", "-1.#QNAN", "-1.#IND", "1.#INF", "-1.#INF"]
_VALUE_ERROR = re.compile(r"Row #(\d+): CSV conversion error to float: invalid value '(.*)'", re.DOTALL)
_HEAD = 4096
_TRAILING = re.compile(rb"[ \t]+(?=[\r\n])")


@dataclass(frozen=True, kw_only=True)
class SkeletonText:
    """What a file says, in its order.

    Args:
        frames: number of frames T, those without a body included.
        frame: frame of each body (B,) from 0.
        body: the sensor's id of each body (B,) int64: the ids exceed 2**56 and become equal as float64.
        joints: the 12 fields of each joint (B, J, 12) float32: x, y, z in metres, x, y in the depth image, x, y in the
            colour image in pixels, orientation w, x, y, z, tracking state.
    """

    frames: int
    frame: NDArray[np.int64]
    body: NDArray[np.int64]
    joints: NDArray[np.float32]


def parse_skeleton(data: bytes, file: str) -> SkeletonText:
    """Parse the text of one file.

    Args:
        data: the text, with either line end.
        file: its name in errors.

    Raises:
        BadClip: the text is truncated or malformed.
    """
    text = data.rstrip()
    if _TRAILING.search(text, 0, _HEAD):  # a writer that ends lines in blanks does so from the start
        text = _TRAILING.sub(b"", text)
    if not text:
        raise BadClip(file, "the file is empty")
    if not text.isascii() or b"\0" in text:
        raise BadClip(file, "the file is not text")
    table, short = _read_lines(text, file)
    frames, frame, body = _Walk(file, short, table.num_rows + len(short)).bodies()
    values = np.empty((table.num_rows, len(_FIELDS)), dtype=np.float32)
    for column, numbers in enumerate(table.columns):
        values[:, column] = numbers.to_numpy()
    return SkeletonText(
        frames=frames,
        frame=np.array(frame, dtype=np.int64),
        body=np.array(body, dtype=np.int64),
        joints=values.reshape(len(frame), JOINTS, len(_FIELDS)),
    )


def _read_lines(text: bytes, file: str) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Return the lines of 12 fields as a table, and the others with their line numbers."""
    short: list[tuple[int, str]] = []

    def keep(row: csv.InvalidRow) -> str:
        short.append((row.number, row.text))
        return "skip"

    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            # One block and no threads: row numbers are line numbers.
            read_options=csv.ReadOptions(use_threads=False, column_names=_FIELDS, block_size=len(text) + 1),
            parse_options=csv.ParseOptions(
                delimiter=" ", quote_char=False, invalid_row_handler=keep, ignore_empty_lines=False
            ),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(_FIELDS, pa.float32()), null_values=_NAN),
        )
    except pa.ArrowInvalid as error:
        if found := _VALUE_ERROR.search(str(error)):
            raise BadClip(file, f"expected a number, found {found[2]!r}", int(found[1])) from None
        raise BadClip(file, str(error)) from None
    return table, short


class _Walk:
    """Goes through the lines that are not joints, and holds every line to its place."""

    def __init__(self, file: str, short: list[tuple[int, str]], lines: int) -> None:
        self.file = file
        self.short = short
        self.lines = lines
        self.line = 1
        self.at = 0

    def bodies(self) -> tuple[int, list[int], list[int]]:
        """Return the number of frames, and the frame and the id of every body."""
        frame_of: list[int] = []
        ids: list[int] = []
        frames = self.count("the number of frames")
        for frame in range(frames):
            seen: set[int] = set()
            for _ in range(self.count(f"the number of bodies in frame {frame + 1} of {frames}")):
                body = self.body()
                if body in seen:
                    raise self.bad(f"body {body} stands twice in frame {frame + 1}", self.line - 1 - JOINTS - 1)
                seen.add(body)
                frame_of.append(frame)
                ids.append(body)
        if self.line <= self.lines:
            raise self.bad(f"{self.lines - self.line + 1} lines follow the last of {frames} frames", self.line)
        return frames, frame_of, ids

    def body(self) -> int:
        """Pass one body and its joints; return its id."""
        fields = self.take("a body of 10 fields").split(" ")
        if len(fields) != _BODY_FIELDS:
            raise self.bad(f"expected a body of {_BODY_FIELDS} fields, found {len(fields)}", self.line - 1)
        body = self.whole(fields[0], "a body id")
        joints = self.count("the number of joints")
        if joints != JOINTS:
            raise self.bad(f"expected {JOINTS} joints, found {joints}", self.line - 1)
        self.line += JOINTS
        if self.at < len(self.short) and self.short[self.at][0] < self.line:
            number, text = self.short[self.at]
            fields = text.split(" ")
            raise self.bad(f"expected a joint of {len(_FIELDS)} fields, found {len(fields)}", number)
        if self.line > self.lines + 1:
            raise self.bad(f"truncated: the file ends before the last of {JOINTS} joints", self.lines)
        return body

    def count(self, what: str) -> int:
        number = self.whole(self.take(what), what)
        if number < 0:
            raise self.bad(f"expected {what}, found {number}", self.line - 1)
        return number

    def whole(self, text: str, what: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise self.bad(f"expected {what}, found {text[:60]!r}", self.line - 1) from None
        if abs(number) >= 1 << 63:
            raise self.bad(f"{what} does not fit 64 bits: {text[:60]}", self.line - 1)
        return number

    def take(self, what: str) -> str:
        """Return the next line, which must not be a joint's."""
        if self.line > self.lines:
            raise self.bad(f"truncated: expected {what}, and the file ends", self.lines)
        if self.at == len(self.short) or self.short[self.at][0] != self.line:
            raise self.bad(f"expected {what}, found the {len(_FIELDS)} fields of a joint", self.line)
        text = self.short[self.at][1]
        self.at += 1
        self.line += 1
        return text

    def bad(self, reason: str, line: int) -> BadClip:
        return BadClip(self.file, reason, line)
