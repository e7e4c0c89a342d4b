"""A user's mistake is one clear line on stderr and exit code 2, before anything is started."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coablate_platform.data.formats.ntu import Ntu
from coablate_platform.data.shard import PrepareOptions
from coablate_search_spaces.smoke import STUDY as SMOKE

FAULTY = Path(__file__).parents[1] / "helpers" / "faulty_study.py"
CROSSING = json.dumps(
    [
        {"rgb": "Mixed_5c", "skeleton": "conv5", "channels": 64},
        {"rgb": "Mixed_5b", "skeleton": "fc7", "channels": 256},
    ]
)


@pytest.fixture
def folder(tmp_path):
    """A place that nothing can be written below: it is a file."""
    (tmp_path / "file").write_text("not a folder\n")
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("modulse", ("no study named 'modulse'", "did you mean 'modules'?")),
        ("xyz", ("no study named 'xyz'", "known: dc, dc_labels, dc_losses, dsfm_count, joint, lambda_r")),
        ("no.such.study", ("study no.such.study", "no module named 'no'")),
        ("/nowhere/study.py", ("/nowhere/study.py: no such file",)),
    ],
)
def test_an_unknown_study_is_named_with_the_nearest(refused, store, name, says):
    refused("run", name, "--data", store.uri, says=says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("NAME = 1\n", ("defines no STUDY of type Study",)),
        ("x = (\n", ("SyntaxError", "line 1")),
        ("import no_such_module\n", ("no module named 'no_such_module'",)),
        ("raise RuntimeError('one line\\nand another')\n", ("RuntimeError: one line and another",)),
    ],
)
def test_a_study_file_that_cannot_be_read_is_named_with_the_reason(refused, store, tmp_path, text, says):
    (tmp_path / "broken.py").write_text(text)
    refused("plan", tmp_path / "broken.py", "--data", store.uri, says=(str(tmp_path / "broken.py"), *says))


def test_a_model_that_cannot_be_built_is_named_with_the_place(refused, store, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass, replace\n"
        "from coablate_model.cc_dfarm import CCDFARM\n"
        "from coablate_search_spaces.smoke import STUDY as SMOKE\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Mine(CCDFARM):\n"
        "    def build(self, shape):\n"
        "        return {}['conv9']\n"
        "STUDY = replace(SMOKE, base=replace(SMOKE.base, model=Mine()))\n"
    )
    says = (f"arm {SMOKE.arms[0].name!r}: KeyError: 'conv9'", f"({tmp_path / 'mine.py'}:7)")
    refused("plan", tmp_path / "mine.py", "--data", store.uri, says=says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("training.epoch=1", ("training has no field 'epoch'", "did you mean 'epochs'?")),
        ("trainig.epochs=1", ("no field 'trainig'", "did you mean 'training'?")),
        ("training.epochs.x=1", ("'epochs' is a plain value (2)",)),
        ("training.epochs=many", ("training.epochs='many'", "expected a whole number of at least 1")),
        ("training.epochs=1.5", ("training.epochs=1.5", "expected a whole number of at least 1")),
        ("training.optimiser=adan", ("training.optimiser='adan'", "'sgd', 'adam' or 'adamw'")),
        ("training=papre", ("no training preset 'papre'", "did you mean 'paper'?")),
        ("training.epochs", ("--set training.epochs", "expected field=value")),
        ("=5", ("--set =5", "expected field=value")),
        ("data=5", ("data=5", "set field by field")),
        ("model.fusion=mmtm", ("model.fusion", "a factor of study smoke", "arm 'MMTM'")),
        ("model.width=0", ("model.width=0", "expected a number above 0")),
        (f"model.placement={CROSSING}", ("Mixed_5b × fc7 is not behind site Mixed_5c × conv5",)),
        ('model.placement=[{"rgb":"Mixed_9z","skeleton":"fc7","channels":1}]', ("unknown I3D endpoint 'Mixed_9z'",)),
        ("data.protocol=utd/csx", ("no protocol 'utd/csx'", "did you mean 'utd/cs'?")),
    ],
)
def test_a_bad_override_says_field_value_and_what_was_expected(refused, store, change, says):
    refused("plan", "smoke", "--data", store.uri, "--set", change, says=says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("training.epochs=0", ("training.epochs=0", "expected a whole number of at least 1")),
        ("training.batch_size=0", ("training.batch_size=0", "expected a whole number of at least 1")),
        ("training.workers=2", ("training.batch_size=7", "cannot be shared evenly by 2 workers")),
        ("training.learning_rate=NaN", ("training.learning_rate=nan", "expected a number above 0")),
        ("training.selection=5", ("training.selection=5", "an epoch from 1 to 4")),
        ("training.metric=acuracy", ("no metric 'acuracy'", "did you mean 'accuracy'?")),
        ("data.flip=3", ("data.flip=3", "expected a number from 0 to 1")),
        ("data.crop_ratio=0", ("data.crop_ratio=0", "expected a number above 0 and at most 1")),
        ("data.jitter=-1", ("data.jitter=-1", "expected a number of at least 0")),
    ],
)
def test_a_value_that_no_run_can_mean_is_refused_before_it_starts(refused, store, change, says):
    refused("plan", FAULTY, "--data", store.uri, "--set", change, says=says)


def test_selection_by_validation_needs_some(refused, store):
    chosen = ("--set", "training.selection=best", "--set", "data.validation=none")
    refused("plan", FAULTY, "--data", store.uri, *chosen, says=("selection='best'", "needs data.validation='subjects'"))


def test_batches_of_single_clips_are_refused_where_the_network_needs_more(refused, store):
    single = ("--set", "training.batch_size=3", "--set", "training.accumulate=2")
    says = ("training.batch_size=3, training.accumulate=2", "one clip, on which this network cannot train")
    refused("plan", "smoke", "--data", store.uri, *single, says=says)


def test_a_model_that_cannot_make_a_step_is_named_with_the_place(refused, store):
    refused(
        "plan", FAULTY, "--data", store.uri, says=("RuntimeError: the model is broken on purpose", "faulty_study.py:")
    )


def test_missing_weights_are_the_users_mistake(refused, store):
    weights = "model.weights=/nowhere.safetensors"
    refused(
        "plan", "smoke", "--data", store.uri, "--set", weights, says=("arm 'MMTM'", "/nowhere.safetensors: no such")
    )


def test_a_missing_store_is_named(refused, tmp_path):
    refused("run", "smoke", "--data", tmp_path / "gone", says=(str(tmp_path / "gone"), "there is no store here"))
    refused("run", "smoke", "--data", "s4://bucket/store", says=("s4://bucket/store", "this storage cannot be opened"))


@pytest.mark.parametrize("command", [("plan", "smoke", "--data"), ("data", "info")])
def test_a_folder_that_is_no_store_is_named(refused, tmp_path, command):
    refused(*command, tmp_path, says=(str(tmp_path), "not a prepared store", "coablate data prepare"))


@pytest.fixture
def broken_store(tmp_path, make_store, make_reader):
    """A store that a test may damage."""
    return Path(make_store(tmp_path / "store", make_reader(clips=12)).uri)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"format": 99}, ("has format 99", "this version reads 1", "prepare it again")),
        ({"fingerprint": None}, ("its preparation did not finish",)),
        ({"surprise": 1}, ("store.json is damaged", "surprise")),
        (None, ("store.json is damaged",)),
    ],
    ids=["another format", "unfinished", "unknown field", "cut"],
)
def test_a_store_that_cannot_be_used_says_why(refused, broken_store, content, says):
    file = broken_store / "store.json"
    text = file.read_text()
    file.write_text(text[: len(text) // 2] if content is None else json.dumps(json.loads(text) | content))
    refused("plan", "smoke", "--data", broken_store, says=(str(broken_store), *says))


def test_a_corrupt_shard_is_named(refused, broken_store):
    shard = sorted((broken_store / "clips").glob("*.parquet"))[0]
    content = bytearray(shard.read_bytes())
    content[200:260] = bytes(60)
    shard.write_bytes(bytes(content))
    shutil.rmtree(broken_store / ".mapped")
    refused("run", "smoke", "--data", broken_store, says=(str(shard), "cannot be unpacked", "coablate data prepare"))


def test_a_protocol_of_another_source_is_refused_with_those_that_fit(refused, store):
    says = ("protocol ntu60/cs divides ntu data", "holds utd_mhad", "utd/cs, utd/few")
    refused("run", "smoke", "--data", store.uri, "--protocol", "ntu60/cs", says=says)
    refused("run", "smoke", "--data", store.uri, "--protocol", "utd/cx", says=("'utd/cx'", "did you mean 'utd/cs'?"))


@pytest.mark.parametrize(("study", "arm"), [("smoke", "MMTM"), ("streams", "video only")])
def test_a_model_that_reads_video_needs_a_store_with_video(refused, skeleton_store, study, arm):
    says = (f"arm {arm!r}", "the model reads video", f"{skeleton_store.uri} has none")
    refused("run", study, "--data", skeleton_store.uri, says=says)


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/coablate"])
def test_a_results_folder_that_cannot_be_written_is_named(refused, store, folder, out):
    place = folder.parent / out
    refused("run", FAULTY, "--data", store.uri, "--out", place, says=(f"results folder {place}: cannot be written",))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", ("--address 127.0.0.1:1", "no Ray cluster answers there", "refused")),
        ("localhost", ("--address localhost", "expected host:port", "10.0.0.1:6379")),
        (":6379", ("--address :6379", "expected host:port")),
        ("localhost:99999", ("--address localhost:99999", "expected host:port")),
        ("ray://localhost:10001", ("--address ray://localhost:10001", "expected host:port", "--cluster")),
    ],
)
def test_a_cluster_that_does_not_answer_leaves_no_trace(refused, store, tmp_path, address, says, monkeypatch):
    out = tmp_path / "out"
    refused("run", FAULTY, "--data", store.uri, "--out", out, "--address", address, says=says)
    monkeypatch.setenv("RAY_ADDRESS", address)
    by_variable = (says[0].replace("--address ", "RAY_ADDRESS="), *says[1:])
    refused("run", FAULTY, "--data", store.uri, "--out", out, says=by_variable)
    assert not out.exists()


def test_a_tracking_address_that_is_none_leaves_no_trace(refused, store, tmp_path):
    out = tmp_path / "out"
    says = ("tracking URI 'nonsense'", "with one of these schemes: http, https, sqlite")
    refused("run", FAULTY, "--data", store.uri, "--out", out, "--tracking", "nonsense", says=says)
    assert not out.exists()


@pytest.mark.parametrize("command", ["table", "resume", "track"])
def test_an_empty_results_folder_is_named(refused, tmp_path, command):
    refused(command, tmp_path, says=(f"results folder {tmp_path} holds no study",))


def test_there_is_nothing_to_show_before_anything_was_tracked(refused, tmp_path):
    refused("ui", tmp_path, says=(f"results folder {tmp_path} holds no study",))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan", "smoke", "--data", "x", "--sedes", "1"), ("No such option: --sedes", "--seeds")),
        (("plan", "smoke", "--data", "x", "--seeds", "0"), ("--seeds 0", "at least 1")),
        (("plan", "smoke", "--data", "x", "--seeds", "two"), ("'--seeds'", "valid integer")),
        (("plan", "smoke"), ("Missing option '--data'",)),
        (("plan",), ("Missing argument",)),
        (("plna",), ("No such command 'plna'", "plan")),
        (("data", "prepare", "ntux", "/tmp", "/tmp/x"), ("no data source 'ntux'", "did you mean 'ntu'?")),
        (("data", "prepare", "ntu", "/nowhere", "/tmp/x"), ("/nowhere", "no such folder to prepare ntu from")),
        (("data", "prepare", "ntu", "a", "b", "--short-side", "0"), ("'--short-side'", "16")),
        (("ui", "--port", "0"), ("'--port'", "1")),
    ],
)
def test_a_command_that_does_not_parse_says_what_is_wrong(refused, words, says):
    refused(*words, says=says)


def test_without_a_command_there_is_help_and_no_empty_complaint(coablate):
    answer = coablate()
    assert answer.code == 2
    assert "Usage:" in answer.out
    assert "prepare" in coablate("data").out
    assert answer.err == ""


def test_a_synthetic_set_that_cannot_be_written_is_one_line(refused, folder):
    refused("data", "generate", folder / "raw", says=(str(folder / "raw"), "cannot be written here"))


NAMES = ("S001C001P001R001A001", "S001C001P001R001A002", "S001C001P002R001A001", "S001C001P002R001A002")


@pytest.fixture
def raw(tmp_path, write_ntu):
    """Four clips in NTU's formats: one whole, one cut short, one with a video that is none, one empty."""
    place = tmp_path / "raw"
    place.mkdir()
    for name in NAMES:
        write_ntu(place, name)
    cut = place / f"{NAMES[1]}.skeleton"
    cut.write_text("\n".join(cut.read_text().splitlines()[:100]))
    (place / f"{NAMES[2]}_rgb.avi").write_bytes(b"no video at all" * 100)
    (place / f"{NAMES[3]}.skeleton").write_text("")
    return place


def listed(answer, raw):
    """Check that the three bad clips stand in the answer, each on a line with its file and a reason."""
    lines = answer.out.splitlines()
    assert "1 clips written" in lines[0] or "1 there already" in lines[0]
    assert "3 bad" in lines[0]
    for name, file in ((NAMES[1], ".skeleton"), (NAMES[2], "_rgb.avi"), (NAMES[3], ".skeleton")):
        [line] = [line for line in lines if line.strip().startswith(name)]
        reason = line.partition(f"{raw / name}{file}")[2]
        assert len(reason) > 10, line


def test_bad_files_are_listed_and_the_rest_is_kept(coablate, raw, tmp_path, make_store):
    """The store is made without Ray; the command has nothing left to do but to tell."""
    source = Ntu().at(str(raw))
    refs = source.list_clips(str(raw))
    listing = type("Listing", (Ntu,), {"refs": lambda _: refs})
    options = PrepareOptions(short_side=48)
    made = make_store(tmp_path / "store", listing(classes=source.classes, default_protocol="ntu60/cs"), options)
    assert made.names == [NAMES[0]]
    answer = coablate("data", "prepare", "ntu", raw, tmp_path / "store", "--short-side", "48")
    assert answer.code == 1
    assert answer.err == ""
    listed(answer, raw)


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # Ray 2.60 warns of its own defaults
def test_bad_files_do_not_stop_a_preparation(coablate, raw, tmp_path):
    answer = coablate("data", "prepare", "ntu", raw, tmp_path / "store", "--short-side", "48")
    assert answer.code == 1
    listed(answer, raw)


def test_a_folder_without_clips_is_the_users_mistake(refused, tmp_path):
    says = (str(tmp_path), "expected NTU RGB+D files named like S001")
    refused("data", "prepare", "ntu", tmp_path, tmp_path / "s", says=says)


def test_from_a_shell_a_mistake_is_one_line_too():
    command = [sys.executable, "-m", "coablate_platform", "plan", "modulse", "--data", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "coablate: no study named 'modulse' (did you mean 'modules'?)\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys, time; sys.argv = ['coablate', '--help']; start = time.process_time()\n"
        "from coablate_platform.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pyarrow', 'numpy', 'scipy', 'optuna', 'av'} & sys.modules.keys()\n"
        "sys.exit(f'{heavy} {time.process_time() - start:.2f} s' if heavy or time.process_time() - start > 1 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: coablate" in done.stdout
