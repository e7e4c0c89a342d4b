"""Files from somebody else run no code: each is refused in one line, or read as the plain values that it holds."""

import dataclasses
import hashlib
import io
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_search import KEY, searched

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.storage import to_arrow
from coablate_platform.journal.trials import JournalTrialLog
from coablate_platform.study.errors import InputError
from coablate_platform.train.checkpoint import Checkpoints


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.fixture
def executed(tmp_path):
    """The file that a payload makes; it must not be there at the end."""
    target = tmp_path / "executed"
    yield target
    assert not target.exists()


def test_the_payload_works(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed"))).close()
    assert (tmp_path / "executed").exists()


def test_a_weights_archive_with_code_is_refused(store, tmp_path, executed, refused):
    torch.save({"state_dict": Payload(executed)}, tmp_path / "weights.pt")
    words = ("plan", "smoke", "--data", store.uri, "--set", f"model.weights={tmp_path}/weights.pt")
    refused(*words, says=("weights.pt: holds more than tensors",))


def test_a_checkpoint_with_code_is_refused_though_its_digest_is_right(tmp_path, executed):
    sink = io.BytesIO()
    torch.save({"epoch": 3, "model": Payload(executed)}, sink)
    digest = hashlib.sha256(sink.getvalue()).hexdigest().encode()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(digest + b"\n" + sink.getvalue())
    with pytest.raises(InputError, match=r"run/last\.pt: holds more than tensors") as error:
        Checkpoints(str(tmp_path / "run")).load()
    assert "\n" not in str(error.value)


def with_code(table: pa.Table, target: Path) -> pa.Table:
    """Return a table whose first column claims to be of a type that a pickle in its metadata defines."""
    first, *others = table.schema
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload(target)),
    }
    return table.cast(pa.schema([first.with_metadata(metadata), *others]))


def test_a_store_with_code_in_its_files_is_read_without_running_it(make_store, make_reader, tmp_path, executed):
    folder = tmp_path / "store"
    store = make_store(folder, make_reader())
    for shard in folder.glob("clips/*.parquet"):
        pq.write_table(with_code(pq.read_table(shard), executed), shard)
    for unpacked in folder.glob(".mapped/*/complete.json"):
        unpacked.unlink()
    assert type(store).open(str(folder)).names == store.names


def test_a_store_s_description_with_code_is_refused(make_store, make_reader, tmp_path, executed, refused):
    folder = tmp_path / "store"
    make_store(folder, make_reader())
    (folder / "store.json").write_bytes(pickle.dumps(Payload(executed)))
    refused("data", "info", folder, says=("store.json",))


@pytest.mark.parametrize("command", ["table", "track", "reconcile"])
def test_a_plan_with_code_is_refused(tmp_path, executed, refused, command):
    (tmp_path / "out" / "studies" / "evil-000000").mkdir(parents=True)
    (tmp_path / "out" / "studies" / "evil-000000" / "study.json").write_bytes(pickle.dumps(Payload(executed)))
    refused(command, tmp_path / "out", says=("evil-000000/study.json is damaged or of another version",))


def test_a_journal_with_code_in_its_files_is_read_without_running_it(plan, journal, train, executed):
    train(plan.runs[0], 0.5)
    for file in journal.folder.local.glob("journal/*/000/*.arrow"):
        table = pa.ipc.open_file(file.read_bytes()).read_all()
        file.write_bytes(to_arrow(with_code(table, executed)))
    assert journal.record(plan.runs[0].run_id).metrics == {"accuracy": 0.5}


@pytest.mark.parametrize("field", ["key", "run"])
def test_a_plan_cannot_name_files_outside_of_its_folder(plan, journal, refused, field):
    journal.write_plan(plan)
    file = journal.folder.local / "studies" / plan.key / "study.json"
    values = json.loads(file.read_text())
    if field == "key":
        values["key"] = "../../../elsewhere"
    else:
        values["runs"][0]["run_id"] = "../../../elsewhere"
    file.write_text(json.dumps(values))
    refused("table", journal.folder.local, says=("is damaged or of another version", "../../../elsewhere"))


def test_a_trial_cannot_name_files_outside_of_its_folder(tmp_path):
    _, log, _ = searched(tmp_path, trials=2)
    file = tmp_path / "studies" / KEY / "trials" / "00000.arrow"
    row = pa.ipc.open_file(file.read_bytes()).read_all()
    place = row.schema.get_field_index("run_id")
    file.write_bytes(to_arrow(row.set_column(place, "run_id", pa.array(["../../../elsewhere"]))))
    with pytest.raises(InputError, match=r"'\.\./\.\./\.\./elsewhere' is no run id"):
        JournalTrialLog(Journal(str(tmp_path)), KEY).trials()
    assert log.owner == str(tmp_path)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # SQLAlchemy, within MLflow
def test_what_only_reads_results_imports_no_study_s_file(plan, journal, train, coablate, tmp_path, executed):
    """A study's file is code by design, and `resume` runs it."""
    (tmp_path / "evil.py").write_text(f"open({str(executed)!r}, 'w').close()\n")
    journal.write_plan(dataclasses.replace(plan, command={"study": str(tmp_path / "evil.py"), "data": "/nowhere"}))
    train(plan.runs[0], 0.5)
    for command in ("table", "best", "track"):
        assert "Traceback" not in coablate(command, journal.folder.local).err
