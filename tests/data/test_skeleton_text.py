"""The parser of skeleton files: equal to a slow parser, and strict about malformed files."""

import numpy as np
import pytest

from coablate_platform.data.formats.clip import BadClip
from coablate_platform.data.formats.skeleton_text import SkeletonText, parse_skeleton

BIG = 2**56 + 1


def skeleton(frames, newline="\n", seed=0):
    """Return the text of a file: ``frames`` lists the body ids of every frame."""
    generator = np.random.default_rng(seed)
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += [f"{body} 0 1 1 1 1 0 0.02764709 -0.05745083 2", "25"]
            lines += [" ".join(f"{value:.7g}" for value in generator.normal(size=11)) + " 2" for _ in range(25)]
    return newline.join(lines) + newline


def reference(text: str) -> SkeletonText:
    """Parse a file line by line: slow, but simple."""
    lines = iter(text.splitlines())
    frames, frame, body, joints = int(next(lines)), [], [], []
    for number in range(frames):
        for _ in range(int(next(lines))):
            frame.append(number)
            body.append(int(next(lines).split()[0]))
            joints.append([[np.float32(value) for value in next(lines).split()] for _ in range(int(next(lines)))])
    return SkeletonText(
        frames=frames,
        frame=np.array(frame, dtype=np.int64),
        body=np.array(body, dtype=np.int64),
        joints=np.array(joints, dtype=np.float32).reshape(len(frame), 25, 12),
    )


def assert_same(found: SkeletonText, expected: SkeletonText) -> None:
    assert found.frames == expected.frames
    np.testing.assert_array_equal(found.frame, expected.frame)
    assert found.body.tolist() == expected.body.tolist()
    np.testing.assert_array_equal(found.joints.view(np.int32), expected.joints.view(np.int32))


@pytest.mark.parametrize("newline", ["\n", "\r\n", " \n", "  \r\n"])
def test_equals_the_slow_parser(newline):
    text = skeleton([[BIG], [], [BIG, BIG + 1], [BIG + 1, BIG, 5], []], newline)
    assert_same(parse_skeleton(text.encode(), "a"), reference(text))


def test_reads_without_a_line_end_at_the_end_and_with_blank_lines_there():
    text = skeleton([[1], [1]])
    for variant in (text.rstrip(), text + "\n\n"):
        assert_same(parse_skeleton(variant.encode(), "a"), reference(text))


def test_ids_that_are_equal_as_float64_stay_apart():
    assert float(BIG) == float(BIG + 1)
    assert parse_skeleton(skeleton([[BIG, BIG + 1]]).encode(), "a").body.tolist() == [BIG, BIG + 1]


def test_a_file_without_bodies_keeps_its_frames():
    found = parse_skeleton(b"3\n0\n0\n0\n", "a")
    assert (found.frames, len(found.body), found.joints.shape) == (3, 0, (0, 25, 12))


@pytest.mark.parametrize("word", ["NaN", "nan", "-nan(ind)", "-1.#IND", "1.#QNAN"])
def test_not_a_number_is_read_as_such(word):
    lines = skeleton([[1]]).splitlines()
    lines[4] = " ".join([word, *lines[4].split()[1:]])
    joints = parse_skeleton("\n".join(lines).encode(), "a").joints
    assert np.isnan(joints[0, 0, 0])
    assert np.isnan(joints).sum() == 1


def edited(line, text):
    lines = skeleton([[BIG], [BIG]]).splitlines()
    lines[line - 1] = text(lines[line - 1]) if callable(text) else text
    return "\n".join(lines).encode()


# Lines of the text: 1 frames · 2 bodies · 3 body · 4 joints · 5-29 joints · 30 bodies · 31 body · 32 joints · 33-57
MALFORMED = {
    "empty": (b"", None, "empty"),
    "blank": (b"\n\n", None, "empty"),
    "binary": (b"\xff\xfe\x00\x01", None, "not text"),
    "a zero byte": (b"1\n\0\n", None, "not text"),
    "no frame count": (edited(1, "many"), 1, "number of frames, found 'many'"),
    "a negative count": (edited(1, "-1"), 1, "number of frames, found -1"),
    "an impossible count": (edited(1, "3"), 57, "truncated: expected the number of bodies in frame 3 of 3"),
    "more frames than counted": (edited(1, "1"), 30, "28 lines follow the last of 1 frames"),
    "a fraction of a body": (edited(2, "1.5"), 2, "number of bodies in frame 1 of 2, found '1.5'"),
    "too few bodies counted": (edited(2, "0"), 3, "number of bodies in frame 2 of 2, found '72057594037927937 0"),
    "a body of 9 fields": (edited(3, lambda line: line[:-2]), 3, "a body of 10 fields, found 9"),
    "a body id that is none": (edited(3, lambda line: "x" + line), 3, "a body id, found 'x7205"),
    "a body id beyond 64 bits": (edited(3, lambda line: "9" * 9 + line), 3, "does not fit 64 bits"),
    "another sensor's joints": (edited(4, "20"), 4, "expected 25 joints, found 20"),
    "a joint of 11 fields": (edited(7, lambda line: line[:-2]), 7, "a joint of 12 fields, found 11"),
    "a joint of 13 fields": (edited(7, lambda line: line + " 1"), 7, "a joint of 12 fields, found 13"),
    "a word among numbers": (edited(8, lambda line: "one" + line), 8, "expected a number, found 'one"),
    "a blank line": (edited(9, ""), 9, "expected a number, found ''"),
    "a joint too many": (edited(30, lambda line: "1 2 3 4 5 6 7 8 9 10 11 12\n" + line), 30, "12 fields of a joint"),
    "cut between joints": (b"\n".join(edited(1, "2").split(b"\n")[:40]), 40, "ends before the last of 25 joints"),
    "cut within a joint": (edited(1, "2")[:-60], None, ""),
    "cut after a count": (b"2\n1", 2, "truncated: expected a body of 10 fields"),
    "comma separated": (edited(6, lambda line: line.replace(" ", ",")), 6, "a joint of 12 fields, found 1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_with_its_line_and_reason(case):
    data, line, reason = MALFORMED[case]
    with pytest.raises(BadClip) as caught:
        parse_skeleton(data, "S001.skeleton")
    assert caught.value.file == "S001.skeleton"
    assert reason in caught.value.reason
    if line is not None:
        assert caught.value.line == line


def test_a_body_twice_in_a_frame_is_refused():
    with pytest.raises(BadClip, match="body 7 appears twice in frame 2") as caught:
        parse_skeleton(skeleton([[7], [7, 7]]).encode(), "a")
    assert caught.value.line == 58


def test_every_truncation_is_refused():
    text = skeleton([[BIG], [], [BIG, 3]]).rstrip().encode()
    for length in range(0, len(text) - 2, 7):  # a text cut in its last two bytes may still be complete
        with pytest.raises(BadClip):
            parse_skeleton(text[:length], "a")


@pytest.mark.data
def test_genuine_files_equal_the_slow_parser(genuine_data):
    files = sorted((genuine_data / "ntu").glob("*.skeleton"))
    assert len(files) == 7
    for file in files:
        data = file.read_bytes()
        assert_same(parse_skeleton(data, str(file)), reference(data.decode()))
