"""Parses the text of NTU RGB+D's ``.skeleton`` files with Arrow.

The text has three kinds of lines: a joint has 12 fields, a body 10, a count 1. Arrow reads the joints as a table of
float32 and hands over all other lines with their numbers. The counts among these determine the kind of every line, so a
file is either read to its last line or refused with the number of the first wrong line.
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
_HEAD = 4096  # bytes that are searched for trailing blanks
_TRAILING = re.compile(rb"[ \t]+(?=[\r\n])")


@dataclass(frozen=True, kw_only=True)
class SkeletonText:
    """The content of a file, in its order.

    Args:
        frames: number of frames T, including those without a body.
        frame: number of each body's frame (B,), counted from 0.
        body: the sensor's id of each body (B,) int64: ids exceed 2**56, and different ids can be equal as float64.
        joints: the 12 fields of each joint (B, J, 12) float32: x, y, z in metres; x, y in pixels of the depth image;
            x, y in pixels of the colour image; orientation w, x, y, z; tracking state.
    """

    frames: int
    frame: NDArray[np.int64]
    body: NDArray[np.int64]
    joints: NDArray[np.float32]


def parse_skeleton(data: bytes, file: str) -> SkeletonText:
    """Parse the text of one file.

    Args:
        data: the text, with LF or CRLF line ends.
        file: the file's name in error messages.

    Raises:
        BadClip: the text is truncated or malformed.
    """
    text = data.rstrip()
    if _TRAILING.search(text, 0, _HEAD):  # a program that writes trailing blanks writes them from the start
        text = _TRAILING.sub(b"", text)
    if not text:
        raise BadClip(file, "the file is empty")
    if not text.isascii() or b"\0" in text:
        raise BadClip(file, "the file is not text")
    table, others = _read_lines(text, file)
    frames, frame, body = _StructureParser(file, others, table.num_rows + len(others)).bodies()
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
    """Return the lines of 12 fields as a table, and the other lines with their numbers."""
    others: list[tuple[int, str]] = []

    def keep(row: csv.InvalidRow) -> str:
        others.append((row.number, row.text))
        return "skip"

    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            # One block on one thread: only then is a row's number its line number.
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
    return table, others


class _StructureParser:
    """Parses the lines that are not joints, and checks that every line is of the kind that the counts require.

    Args:
        file: the file's name in error messages.
        others: the lines that are not joints, with their numbers.
        lines: number of all lines.
    """

    def __init__(self, file: str, others: list[tuple[int, str]], lines: int) -> None:
        self.file = file
        self.others = others
        self.lines = lines
        self.line = 1  # the next line's number
        self.position = 0  # of the next line among the others

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
                    raise self.error(f"body {body} appears twice in frame {frame + 1}", self.line - 1 - JOINTS - 1)
                seen.add(body)
                frame_of.append(frame)
                ids.append(body)
        if self.line <= self.lines:
            raise self.error(f"{self.lines - self.line + 1} lines follow the last of {frames} frames", self.line)
        return frames, frame_of, ids

    def body(self) -> int:
        """Parse one body, skip its joints and return its id."""
        fields = self.next_line("a body of 10 fields").split(" ")
        if len(fields) != _BODY_FIELDS:
            raise self.error(f"expected a body of {_BODY_FIELDS} fields, found {len(fields)}", self.line - 1)
        body = self.integer(fields[0], "a body id")
        joints = self.count("the number of joints")
        if joints != JOINTS:
            raise self.error(f"expected {JOINTS} joints, found {joints}", self.line - 1)
        self.line += JOINTS
        if self.position < len(self.others) and self.others[self.position][0] < self.line:
            number, text = self.others[self.position]
            fields = text.split(" ")
            raise self.error(f"expected a joint of {len(_FIELDS)} fields, found {len(fields)}", number)
        if self.line > self.lines + 1:
            raise self.error(f"truncated: the file ends before the last of {JOINTS} joints", self.lines)
        return body

    def count(self, what: str) -> int:
        """Parse the next line as a count; ``what`` describes it in error messages."""
        number = self.integer(self.next_line(what), what)
        if number < 0:
            raise self.error(f"expected {what}, found {number}", self.line - 1)
        return number

    def integer(self, text: str, what: str) -> int:
        """Parse an integer of at most 64 bits from the last line."""
        try:
            number = int(text)
        except ValueError:
            raise self.error(f"expected {what}, found {text[:60]!r}", self.line - 1) from None
        if abs(number) >= 1 << 63:
            raise self.error(f"{what} does not fit 64 bits: {text[:60]}", self.line - 1)
        return number

    def next_line(self, what: str) -> str:
        """Return the next line; refuse the file if it has none or the line is a joint."""
        if self.line > self.lines:
            raise self.error(f"truncated: expected {what}, but the file ends", self.lines)
        if self.position == len(self.others) or self.others[self.position][0] != self.line:
            raise self.error(f"expected {what}, found the {len(_FIELDS)} fields of a joint", self.line)
        text = self.others[self.position][1]
        self.position += 1
        self.line += 1
        return text

    def error(self, reason: str, line: int) -> BadClip:
        """Return the exception for a line."""
        return BadClip(self.file, reason, line)
