"""What becomes of a typed command that is to run on a cluster."""

from pathlib import Path

import pytest
from typer.main import get_group

from coablate_platform.cli import app
from coablate_platform.cluster.travel import typed_options, with_folder
from coablate_platform.study.errors import InputError

NOWHERE = "http://127.0.0.1:9"


def test_words_without_files_stay_as_they_are():
    words = ["modules", "--set", "model.width=1", "--seeds", "3"]
    assert with_folder(words) == (words, None)


def test_files_become_relative_to_the_folder_that_holds_them_all(tmp_path):
    for name in ("a/study.py", "a/b/sampler.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    study, sampler = f"{tmp_path}/a/study.py", f"{tmp_path}/a/b/sampler.py"
    words = [study, "--sampler", f"{sampler}:patient", "--set", f"model={study}:Net"]
    moved, folder = with_folder(words)
    assert moved == ["study.py", "--sampler", "b/sampler.py:patient", "--set", "model=study.py:Net"]
    assert folder == tmp_path / "a"


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match=r"gone\.py: no such file"):
        with_folder([f"{tmp_path}/gone.py"])


@pytest.mark.parametrize("out", ["here", "s3://bucket/results"])
def test_typed_options_go_on_with_absolute_paths_and_uris_as_they_are(out):
    typed = [
        "smoke",
        "--data",
        "s3://bucket/store",
        "--out",
        out,
        "--seeds",
        "2",
        "--set",
        "a=1",
        "--set",
        "b=2",
        "--mixed",
    ]
    words = typed_options(get_group(app).commands["run"].make_context("run", typed))
    options = {word: words[place + 1 : place + 2] for place, word in enumerate(words) if word.startswith("--")}
    assert options["--out"] == [out if "://" in out else str(Path.cwd() / out)]
    assert options["--data"] == ["s3://bucket/store"]
    assert (words.count("--set"), words.count("--mixed"), options["--seeds"]) == (2, 1, ["2"])
    assert "--tracking" not in words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), ("--out: say where the results go", "a job's own folder goes with it")),
        (("--out", "/o", "--address", "a:1"), ("--address: leave it out with --cluster",)),
    ],
)
def test_options_that_make_no_sense_there_are_refused(refused, words, says):
    refused("run", "smoke", "--data", "/s", "--cluster", NOWHERE, *words, says=says)


@pytest.mark.parametrize(
    "words",
    [("attach",), ("logs",), ("stop",), ("run", "smoke", "--data", "/s", "--out", "/o")],
)
def test_a_cluster_that_does_not_answer_is_one_line_and_exit_code_1(coablate, words):
    answer = coablate(*words, "--cluster", NOWHERE)
    assert (answer.code, answer.out) == (1, "")
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith(f"coablate: the job server at {NOWHERE}: ConnectionError: Failed to connect to Ray at")
