"""The files of the synthetic set: NTU's formats, determinism, and a second call of `generate`."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from coablate_platform.data.synthetic import ACTIONS, SyntheticConfig, generate
from coablate_platform.data.synthetic.write import ClipKey, clip_keys, make_clip, write_clip
from coablate_platform.study.errors import InputError

SMALL = SyntheticConfig(replications=1, size=48, frames=(20, 24))
SOME = [key for number, key in enumerate(clip_keys(SMALL)) if number % 23 == 0]


@dataclass(frozen=True)
class Body:
    """A body in one frame: its id and the fields of its joints (25, 12)."""

    number: int
    joints: np.ndarray


def read_skeleton(data: bytes) -> list[list[Body]]:
    """Parse NTU's text strictly: every count and every number of fields is right, and nothing follows."""
    text = data.decode("ascii")
    newline = "\r\n" if "\r" in text else "\n"
    assert text.endswith(newline)
    lines: Iterator[str] = iter(text[: -len(newline)].split(newline))
    frames = []
    for _ in range(int(next(lines))):
        bodies = []
        for _ in range(int(next(lines))):
            head = next(lines).split(" ")
            assert len(head) == 10
            assert int(next(lines)) == 25
            rows = [next(lines).split(" ") for _ in range(25)]
            assert {len(row) for row in rows} == {12}
            assert {row[11] for row in rows} <= {"1", "2"}
            bodies.append(Body(int(head[0]), np.array(rows, dtype=float)))
        frames.append(bodies)
    assert next(lines, None) is None
    return frames


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    for key in SOME:
        write_clip(folder, SMALL, key)
    return folder


def decode(path: Path) -> tuple[np.ndarray, list[str]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.stack([f.to_ndarray(format="rgb24") for f in frames]), [PictureType(f.pict_type).name for f in frames]


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_names_are_ntus_and_cover_performers_cameras_and_classes() -> None:
    every = list(clip_keys(SMALL))
    parts = [re.fullmatch(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", key.name) for key in every]
    assert all(parts)
    fields = {tuple(int(group) for group in part.groups()) for part in parts if part}
    assert len(fields) == len(every) == 8 * 3 * len(ACTIONS)
    assert {field[1] for field in fields} == {1, 2, 3}
    assert {field[2] for field in fields} == set(range(1, 9))
    assert {field[4] for field in fields} == set(range(1, len(ACTIONS) + 1))


def test_skeletons_follow_the_grammar(written: Path) -> None:
    digits = re.compile(r"-?\d+(\.\d+)?(e-\d+)?")
    for path in written.glob("*.skeleton"):
        frames = read_skeleton(path.read_bytes())
        assert SMALL.frames[0] <= len(frames) <= SMALL.frames[1]
        for token in path.read_text().split():
            assert digits.fullmatch(token), token
            mantissa = token.split("e")[0].lstrip("-").replace(".", "").lstrip("0")
            assert len(mantissa) <= 7 or int(token) > 2**56, token


def test_ids_lie_above_2_to_56_and_collapse_as_floats(written: Path) -> None:
    pairs = 0
    for path in written.glob("*.skeleton"):
        ids = {body.number for frame in read_skeleton(path.read_bytes()) for body in frame}
        assert min(ids) > 2**56
        pairs += len(ids) == 2
        assert len({float(number) for number in ids}) == 1
    assert pairs > 0


def test_both_line_ends_and_empty_frames_occur(written: Path) -> None:
    files = [path.read_bytes() for path in written.glob("*.skeleton")]
    assert {b"\r\n" in data for data in files} == {True, False}
    counts = {len(frame) for data in files for frame in read_skeleton(data)}
    assert counts == {0, 1, 2}


def test_two_people_stand_in_either_order_of_ids(written: Path) -> None:
    orders = set()
    for path in written.glob("*.skeleton"):
        for frame in read_skeleton(path.read_bytes()):
            if len(frame) == 2:
                orders.add(frame[0].number < frame[1].number)
    assert orders == {True, False}


def test_video_has_the_skeletons_frames_and_ntus_coding(written: Path) -> None:
    for path in sorted(written.glob("*.skeleton"))[:6]:
        video = path.with_name(f"{path.stem}_rgb.avi")
        pixels, kinds = decode(video)
        assert pixels.shape == (len(read_skeleton(path.read_bytes())), 48, 48, 3)
        assert [number for number, kind in enumerate(kinds) if kind == "I"] == list(range(0, len(kinds), 12))
        assert "B" not in kinds
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, int(stream.average_rate or 0)) == ("mpeg4", 30)


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, config in (("a", SMALL), ("b", SMALL), ("c", replace(SMALL, seed=1))):
        (tmp_path / name).mkdir()
        for key in SOME[:4]:
            write_clip(tmp_path / name, config, key)
    first, second, other = (digest(tmp_path / name) for name in "abc")
    assert first == second
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_generate_keeps_what_is_there_and_fills_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coablate_platform.data.synthetic.write.clip_keys", lambda _: iter(SOME[:3]))
    seen = []
    generate(tmp_path, SMALL, workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    before = digest(tmp_path)
    description = json.loads((tmp_path / "coablate_set.json").read_text())
    assert description["classes"] == [action.name for action in ACTIONS]
    assert (description["default_protocol"], description["persons"]) == ("synthetic/cs", 2)
    kept = tmp_path / f"{SOME[0].name}.skeleton"
    (tmp_path / f"{SOME[1].name}_rgb.avi").unlink()
    modified = kept.stat().st_mtime_ns
    generate(tmp_path, SMALL, workers=1)
    assert digest(tmp_path) == before
    assert kept.stat().st_mtime_ns == modified


def test_processes_import_nothing_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    for name in ("socket", "random", "queue", "av"):
        (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("coablate_platform.data.synthetic.write.clip_keys", lambda _: iter(SOME[:1]))
    generate(tmp_path / "set", SMALL, workers=1)
    assert len(list((tmp_path / "set").iterdir())) == 3
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_process_that_dies_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: object, function: object, *columns: object, chunksize: int) -> Iterator[None]:
        return submit(self, os._exit, [9], chunksize=chunksize)

    submit = ProcessPoolExecutor.map
    monkeypatch.setattr(ProcessPoolExecutor, "map", killed)
    with pytest.raises(InputError, match="a process that writes clips died"):
        generate(tmp_path, SMALL, workers=1)


def test_another_set_in_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coablate_set.json").write_text(json.dumps({"classes": ["walk"]}))
    with pytest.raises(InputError, match="holds another set"):
        generate(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["coablate_set.json"]


@pytest.mark.parametrize("content", ["{", "[1]", "null", "[" * 100_000, "\xff"])
def test_a_damaged_description_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "coablate_set.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"coablate_set\.json: damaged"):
        generate(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 49),
        ("size", 32),
        ("size", 96.0),
        ("size", 100_000),
        ("seed", True),
        ("frames", (16.0, 20)),
        ("frames", (16, 10**9)),
        ("difficulty", math.nan),
        ("replications", 0),
        ("frames", (40, 20)),
        ("difficulty", -1.0),
        ("difficulty", math.inf),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"synthetic set: {field}\S*=.*: expected "):
        replace(SMALL, **{field: value})  # type: ignore[arg-type]


def test_harder_sets_have_more_inferred_joints() -> None:
    def inferred(difficulty: float) -> int:
        config = replace(SMALL, difficulty=difficulty)
        chosen = [ClipKey(camera=2, performer=performer, replication=1, action=1) for performer in (1, 2, 3)]
        frames = [read_skeleton(make_clip(config, key).skeleton.encode()) for key in chosen]
        return sum(int((body.joints[:, 11] == 1).sum()) for clip in frames for frame in clip for body in frame)

    assert inferred(0.0) == 0
    assert 0 < inferred(1.0) < inferred(4.0)
