"""`prepare` in the environments of ordinary machines: its own Ray, safe imports, and shards that did not come back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coablate_platform.data import write_shards as module
from coablate_platform.data.formats.clip import NO_VIDEO
from coablate_platform.data.prepare import prepare
from coablate_platform.data.schema import SHARDS
from coablate_platform.data.shard import PrepareOptions, write_shard
from coablate_platform.data.store import Store
from coablate_platform.study.errors import InputError

# Ray 2.60 warns of its own defaults when its data context is made.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")]

OPTIONS = PrepareOptions(short_side=48, shard_clips=4)


def _prepare(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder; the environment has no home folder."""
    variables = {name: value for name, value in os.environ.items() if name != "HOME"} | environment
    command = [sys.executable, "-P", "-m", "coablate_platform", "data", "prepare", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.timeout(120)
def test_ray_is_started_here_whatever_the_environment_says(tmp_path, genuine):
    """A cluster and a proxy that do not answer, no home folder, files with the names of modules, relative paths."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("queue", "statistics", "av", "scipy"):
        (here / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    dead = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"), dead)
    (tmp_path / "utd").rename(here / "raw")
    answer = _prepare(here, "utd_mhad", "raw", "s", RAY_ADDRESS="192.0.2.1:6379", **proxies)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "s: 6 clips written, 0 there already, 0 bad, 0 left out" in answer.stdout
    assert len(Store.open(str(here / "s"))) == 6


@pytest.mark.timeout(120)
def test_ray_that_does_not_start_is_said_in_one_line(tmp_path, genuine):
    long = tmp_path / "/".join(["a-folder-of-a-batch-job"] * 5)
    long.mkdir(parents=True)
    answer = _prepare(tmp_path, "utd_mhad", genuine, "s", TMPDIR=str(long))
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("coablate: Ray does not start on this machine (")
    assert line.endswith("; set TMPDIR to a folder with a shorter path")


def _elsewhere(reader, refs, folder, options):
    """Write a shard where the driver does not see it, as a worker on another machine does."""
    other = folder.parents[1] / "elsewhere"
    other.mkdir(exist_ok=True)
    return write_shard(reader, refs, other, options)


def _without_one(reader, refs, folder, options):
    return write_shard(reader, [ref for ref in refs if ref.name != "a2_s1_t1"], folder, options)


def _cut_off(reader, refs, folder, options):
    shard = write_shard(reader, refs, folder, options)
    os.truncate(shard, 100)
    return shard


@pytest.mark.parametrize(("write", "lost"), [(_elsewhere, "6 of 6"), (_without_one, "1 of 6"), (_cut_off, "6 of 6")])
def test_a_store_that_lacks_a_clip_is_not_finished(tmp_path, genuine, cluster, monkeypatch, write, lost):
    monkeypatch.setattr(module, "write_shard", write)
    with pytest.raises(InputError, match=f"{lost} clips did not come back from the workers, the first: a[12]_s1_t1"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    with pytest.raises(InputError, match="did not finish"):
        Store.open(str(tmp_path / "s"))
    monkeypatch.undo()
    for shard in (tmp_path / "s" / SHARDS).glob("*.parquet"):
        shard.unlink()
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).done == 6


def test_a_worker_that_fails_is_said_in_one_line(tmp_path, genuine, cluster, monkeypatch):
    def fail(reader, refs, folder, options):
        raise RuntimeError("something\nthat nobody expects")

    monkeypatch.setattr(module, "write_shard", fail)
    with pytest.raises(InputError, match=r"a worker of the preparation failed \(.*finished shards are kept") as error:
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert "\n" not in str(error.value)


def test_a_store_of_skeletons_alone_is_made_on_purpose(tmp_path, genuine, cluster):
    """Its clips need no video, none is read, and the store takes no video later."""
    depths = sorted((genuine / "Depth").iterdir())
    depths[0].unlink()
    depths[1].write_bytes(b"never read")
    lost = depths[0].name.removesuffix("_depth.mat")
    report = prepare("utd_mhad", genuine, tmp_path / "both", OPTIONS)
    assert (report.done, report.missing, len(report.bad), report.complete) == (4, {lost: NO_VIDEO}, 1, False)
    only = PrepareOptions(short_side=48, shard_clips=4, skeleton_only=True)
    report = prepare("utd_mhad", genuine, tmp_path / "s", only)
    assert (report.done, report.bad, report.missing, report.lacks_video) == (6, [], {}, False)
    assert report.complete
    store = Store.open(str(tmp_path / "s"))
    assert not store.has_video
    assert store.clip(0).video is None
    assert "skeleton_only" not in store.metadata.recipe
    depths[1].unlink()
    assert prepare("utd_mhad", genuine, tmp_path / "s", only).skipped == 6
    with pytest.raises(InputError, match="has_video False in the store, True requested"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)


def test_a_set_in_which_no_clip_has_a_video_says_so(tmp_path, genuine, cluster):
    for depth in (genuine / "Depth").iterdir():
        depth.unlink()
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (report.done, report.missing, report.lacks_video, report.complete) == (6, {}, True, True)
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).lacks_video


@pytest.mark.parametrize(
    ("environment", "given"),
    [
        ({"HOME": "/nowhere"}, True),
        ({"HOME": "{folder}"}, False),
        ({"HOME": "/nowhere", "RAY_AUTH_TOKEN_PATH": "/a/token"}, False),
        ({"HOME": "/nowhere", "RAY_AUTH_TOKEN": "mine"}, False),
    ],
)
def test_without_a_home_folder_ray_gets_a_token_of_this_process(tmp_path, environment, given):
    """Ray keeps its token in the home folder, and does not start without one."""
    names = ("HOME", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    variables |= {name: value.format(folder=tmp_path) for name, value in environment.items()}
    code = "import os, coablate_platform; print(os.environ.get('RAY_AUTH_TOKEN', ''))"
    found = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    token = found.stdout.strip()
    assert (len(token) == 64) == given
    assert given or token == environment.get("RAY_AUTH_TOKEN", "")
