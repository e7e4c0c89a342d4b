"""The progress and the options of `coablate data`."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from coablate_platform.cli import app
from coablate_platform.data.formats.clip import NO_VIDEO
from coablate_platform.data.prepare import PrepareReport
from coablate_platform.data.progress import PLAIN_LINES, clip_progress
from coablate_platform.data.shard import BadClipRecord, PrepareOptions
from coablate_platform.data.synthetic import SyntheticConfig
from coablate_platform.screen.views import prepare_view
from coablate_platform.study.errors import InputError


def shown(terminal, counts):
    out = io.StringIO()
    with clip_progress(Console(file=out, force_terminal=terminal, width=80)) as progress:
        for done, total in counts:
            progress(done, total)
    return out.getvalue()


def test_without_a_terminal_a_few_lines_are_printed():
    lines = shown(False, [(done, 1000) for done in range(1001)]).splitlines()
    assert len(lines) == PLAIN_LINES - 1
    assert lines[0].startswith("100 of 1000 clips, 0:00:0")
    assert "about 0:00:0" in lines[0]
    assert shown(False, [(0, 4), (4, 4)]) == ""


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    text = shown(True, [(0, 8), (3, 8)])
    assert "3/8" in text
    assert "━" in text


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert shown(True, [(0, 8), (3, 8)]).startswith("3 of 8 clips")


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_to_do_shows_nothing(terminal):
    assert "clips" not in shown(terminal, [])


def call(*words):
    answer = CliRunner().invoke(app, ["data", *map(str, words)])
    assert answer.exit_code == 0, answer
    return answer.output


def test_prepare_passes_its_options_and_shows_progress(monkeypatch, tmp_path):
    received = {}

    def prepare(source, raw, store, options, progress):
        received["options"] = options
        progress(1, 2)
        return PrepareReport(done=2, skipped=0, bad=[], missing={})

    monkeypatch.setattr("coablate_platform.data.prepare.prepare", prepare)
    output = call("prepare", "ntu", tmp_path, tmp_path / "s", "--short-side", 64, "--resize", "pad")
    assert received["options"] == PrepareOptions(short_side=64, resize="pad")
    assert "the store has no video" not in output
    assert "1 of 2 clips" in output
    call("prepare", "ntu", tmp_path, tmp_path / "s")
    assert received["options"] == PrepareOptions()


def test_generate_passes_its_options_and_shows_progress(monkeypatch, tmp_path):
    received = {}

    def generate(folder, config, *, progress):
        received["config"] = config
        progress(1, 2)

    monkeypatch.setattr("coablate_platform.data.synthetic.generate", generate)
    words = ("--seed", 3, "--replications", 1, "--size", 64, "--frames", 20, 24, "--difficulty", 0.5)
    assert "1 of 2 clips" in call("generate", tmp_path, *words)
    assert received["config"] == SyntheticConfig(seed=3, replications=1, size=64, frames=(20, 24), difficulty=0.5)
    call("generate", tmp_path)
    assert received["config"] == SyntheticConfig()


def test_missing_clips_are_counted_by_reason():
    bad = [BadClipRecord("c3", "/raw/c3.mat", "is cut", "")]
    missing = {"c1": "no skeleton", "c2": "on the list", "c4": "no skeleton"} | {f"v{n}": NO_VIDEO for n in range(5)}
    report = PrepareReport(done=5, skipped=1, bad=bad, missing=missing)
    assert str(prepare_view(report, Path("/s"))).splitlines() == [
        "/s: 5 clips written, 1 there already, 1 bad, 8 left out",
        "  2 left out: no skeleton (c1, c4)",
        "  1 left out: on the list (c2)",
        "  5 left out: no video, though other clips have one (v0, v1, v2, …)",
        "  to keep clips without video, prepare a store of skeletons alone: --skeleton-only",
        "  c3: /raw/c3.mat: is cut",
        "  all of them: /s/report.json",
    ]


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (PrepareReport(done=1, skipped=0, bad=[], missing={"a": "no skeleton"}), 0),
        (PrepareReport(done=1, skipped=0, bad=[], missing={"a": NO_VIDEO}), 1),
        (PrepareReport(done=1, skipped=0, bad=[BadClipRecord("a", "f", "is cut", "")], missing={}), 1),
        (PrepareReport(done=1, skipped=0, bad=[], missing={}, lacks_video=True), 0),
    ],
)
def test_a_store_that_lost_clips_is_no_success(monkeypatch, tmp_path, report, code):
    received = []

    def prepare(source, raw, store, options, progress):
        received.append(options.skeleton_only)
        return report

    monkeypatch.setattr("coablate_platform.data.prepare.prepare", prepare)
    answer = CliRunner().invoke(app, ["data", "prepare", "ntu", str(tmp_path), str(tmp_path / "s"), "--skeleton-only"])
    assert answer.exit_code == code
    assert received == [True]
    assert ("the store has no video" in answer.output) == report.lacks_video


@pytest.mark.parametrize(
    "words",
    [("prepare", "ntu", "s3://bucket/raw", "s"), ("prepare", "ntu", ".", "s3://bucket/s"), ("generate", "gs://b")],
)
def test_a_uri_is_no_folder(monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["data", *words])
    assert isinstance(answer.exception, InputError)
    assert "expected a path; data sets are read from" in str(answer.exception)
    assert list(tmp_path.iterdir()) == []
