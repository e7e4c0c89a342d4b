"""A later call of `prepare`: changed files, other readers, further parts of a data set, bad and missing clips."""

import json
import zipfile

import pyarrow.parquet as pq
import pytest

from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.clip import NO_VIDEO
from coablate_platform.data.formats.ntu import missing_names
from coablate_platform.data.prepare import REPORT, prepare
from coablate_platform.data.schema import METADATA, SHARDS
from coablate_platform.data.shard import PrepareOptions
from coablate_platform.data.store import Store
from coablate_platform.study.errors import InputError

# Ray 2.60 warns of its own defaults when its data context is made.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")]

OPTIONS = PrepareOptions(short_side=48, shard_clips=4)
FIRST, SECOND = "S001C001P001R001A001", "S018C001P041R001A061"


def _content(store):
    """Return the files of a store by path, without the lock and the unpacked shards."""
    return {path: path.read_bytes() for path in sorted(store.rglob("*.*")) if path.is_file() and path.suffix != ".lock"}


def test_changed_files_are_refused_before_anything_is_written(tmp_path, genuine, write_clip, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    before = _content(tmp_path / "s")
    (genuine / "Depth" / "a1_s1_t1_depth.mat").touch()  # as after copying: the content is the same
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).skipped == 6
    write_clip(genuine, 2, 7, frames=9)
    write_clip(genuine, 2, 2, frames=9)
    write_clip(genuine, 3, 1)
    with pytest.raises(InputError) as caught:
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    message = str(caught.value)
    assert "the files of 2 clips have changed since they were stored, the first: " in message
    assert "a2_s2_t1_skeleton.mat has 4520 bytes, it had 3080" in message
    assert message.endswith("prepare them into a new store")
    assert _content(tmp_path / "s") == before


def test_an_edit_that_keeps_the_size_is_noticed(tmp_path, write_walk, cluster):
    path = write_walk(tmp_path / "raw", FIRST)
    prepare("ntu", tmp_path / "raw", tmp_path / "s", OPTIONS)
    path.write_text(path.read_text().replace("1.70000", "1.70001"))
    with pytest.raises(InputError, match=rf"{FIRST}\.skeleton has the same size, but another checksum"):
        prepare("ntu", tmp_path / "raw", tmp_path / "s", OPTIONS)


def test_a_changed_member_of_an_archive_has_another_checksum(tmp_path, write_walk, cluster):
    def pack(text):
        with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
            archive.writestr(f"skeletons/{FIRST}.skeleton", text)

    text = write_walk(tmp_path / "raw", FIRST).read_text()
    pack(text)
    prepare("ntu", tmp_path / "raw.zip", tmp_path / "s", OPTIONS)
    assert prepare("ntu", tmp_path / "raw", tmp_path / "s", OPTIONS).skipped == 1  # unpacked
    pack(text.replace("1.70000", "1.70001"))
    with pytest.raises(InputError, match=rf"1 clips .*raw\.zip!skeletons/{FIRST}\.skeleton has .* another checksum"):
        prepare("ntu", tmp_path / "raw.zip", tmp_path / "s", OPTIONS)


def _forget_fingerprints(store):
    """Remove from the shards what earlier versions did not write: the fingerprints of files."""
    for path in (store / SHARDS).glob("*.parquet"):
        metadata = pq.read_metadata(path).metadata
        pq.write_table(pq.read_table(path).replace_schema_metadata({b"coablate.bad": metadata[b"coablate.bad"]}), path)


def test_clips_can_be_added_to_a_store_without_fingerprints(tmp_path, genuine, write_clip, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    _forget_fingerprints(tmp_path / "s")
    write_clip(genuine, 2, 7, frames=9)
    write_clip(genuine, 3, 1)
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).done == 1
    assert len(Store.open(str(tmp_path / "s"))) == 7


def _edit_recipe(store, **values):
    content = json.loads((store / METADATA).read_text())
    recipe = {name: value for name, value in (content["recipe"] | values).items() if value is not None}
    (store / METADATA).write_text(json.dumps(content | {"recipe": recipe}, indent=2) + "\n")


def test_another_threshold_of_the_reader_is_refused_by_its_name(tmp_path, genuine, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    recipe = Store.open(str(tmp_path / "s")).metadata.recipe
    assert recipe.items() >= {"resize": "crop", "reader": 2, "smooth": 5, "half_range": 800.0}.items()
    _edit_recipe(tmp_path / "s", smooth=3)
    with pytest.raises(InputError, match=r"prepared with other settings \(smooth 3 in the store, 5 requested\)"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)


def test_a_store_with_unrecorded_settings_opens_but_takes_no_clips(tmp_path, genuine, write_clip, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    _edit_recipe(tmp_path / "s", reader=None, smooth=None)
    before = _content(tmp_path / "s")
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).skipped == 6
    write_clip(genuine, 3, 1)
    with pytest.raises(InputError, match=r"did not record reader, smooth; .* prepare into a new store"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert _content(tmp_path / "s") == before
    assert len(Store.open(str(tmp_path / "s"))) == 6


def test_every_reader_has_a_version():
    for reader in READERS.values():
        assert isinstance(reader.reading["reader"], int)
    assert READERS["ntu"].reading.items() >= {"short_life": 11, "wide": 0.8, "wide_frames": 0.69754}.items()


def test_a_file_that_the_system_could_not_read_is_tried_again(tmp_path, genuine, cluster):
    path = genuine / "Skeleton" / "a2_s2_t1_skeleton.mat"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to(path)  # a loop: it cannot be opened, which is no fault of its content
    for total in (6, 1):
        seen = []
        report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS, lambda *counts, seen=seen: seen.append(counts))
        assert seen[-1] == (total, total)
        assert [bad.name for bad in report.bad] == ["a2_s2_t1"]
        assert "symbolic links" in report.bad[0].reason
    path.unlink()
    path.write_bytes(content)
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (report.done, report.bad) == (1, [])


def test_a_clip_without_depth_is_listed_and_the_others_are_kept(tmp_path, genuine, cluster):
    (genuine / "Depth" / "a2_s2_t1_depth.mat").unlink()
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (report.done, report.bad, report.missing) == (5, [], {"a2_s2_t1": NO_VIDEO})


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_ntu_120_may_be_prepared_in_its_two_parts(tmp_path, write_walk, cluster, order):
    for name in order:
        write_walk(tmp_path / name, name)
        prepare("ntu", tmp_path / name, tmp_path / "parts", OPTIONS)
    (tmp_path / "whole").mkdir()
    for name in order:
        (tmp_path / name).rename(tmp_path / "whole" / name)
    prepare("ntu", tmp_path / "whole", tmp_path / "s", OPTIONS)
    parts, whole = (Store.open(str(tmp_path / name)) for name in ("parts", "s"))
    assert parts.fingerprint == whole.fingerprint
    assert parts.metadata == whole.metadata
    assert (len(parts.classes), parts.default_protocol, parts.labels.tolist()) == (120, "ntu120/csub", [0, 60])
    before = _content(tmp_path / "parts")
    assert prepare("ntu", tmp_path / "whole" / FIRST, tmp_path / "parts", OPTIONS).skipped == 1
    assert _content(tmp_path / "parts") == before


def test_a_part_with_only_bad_clips_adds_no_classes(tmp_path, write_walk, cluster):
    write_walk(tmp_path / "a", FIRST)
    prepare("ntu", tmp_path / "a", tmp_path / "s", OPTIONS)
    write_walk(tmp_path / "b", SECOND).write_text("3\n")
    assert [bad.name for bad in prepare("ntu", tmp_path / "b", tmp_path / "s", OPTIONS).bad] == [SECOND]
    store = Store.open(str(tmp_path / "s"))
    assert (len(store.classes), store.default_protocol) == (60, "ntu60/cs")


def test_a_bad_file_that_was_removed_is_forgotten_with_its_own_input(tmp_path, write_walk, cluster):
    for folder, good, bad in (("a", FIRST, "S001C001P001R001A003"), ("b", "S001C001P001R001A002", SECOND)):
        write_walk(tmp_path / folder, good)
        write_walk(tmp_path / folder, bad).write_text("3\n")
        prepare("ntu", tmp_path / folder, tmp_path / "s", OPTIONS)
    (tmp_path / "b" / f"{SECOND}.skeleton").unlink()
    assert len(prepare("ntu", tmp_path / "a", tmp_path / "s", OPTIONS).bad) == 2
    assert [bad.name for bad in prepare("ntu", tmp_path / "b", tmp_path / "s", OPTIONS).bad] == ["S001C001P001R001A003"]


def test_other_classes_are_refused_with_a_short_message(tmp_path, write_walk, cluster):
    description = {"classes": [f"class {number}" for number in range(60)], "default_protocol": "ntu60/cs", "persons": 2}
    for name in ("genuine", "generated"):
        write_walk(tmp_path / name, FIRST)
    (tmp_path / "generated" / "coablate_set.json").write_text(json.dumps(description))
    prepare("ntu", tmp_path / "genuine", tmp_path / "s", OPTIONS)
    with pytest.raises(InputError, match=r"\(60 classes in the store, 60 others requested\)") as caught:
        prepare("ntu", tmp_path / "generated", tmp_path / "s", OPTIONS)
    assert len(str(caught.value)) < 300


def test_the_report_keeps_the_missing_clips_of_other_inputs(tmp_path, write_walk, cluster):
    listed = missing_names()[0]
    for folder, name, lost in (("a", FIRST, listed), ("b", "S001C001P001R001A002", missing_names()[1])):
        write_walk(tmp_path / folder, name)
        write_walk(tmp_path / folder, lost)
        report = prepare("ntu", tmp_path / folder, tmp_path / "s", OPTIONS)
    assert list(report.missing) == sorted(missing_names()[:2])
    assert json.loads((tmp_path / "s" / REPORT).read_text())["missing"] == report.missing
    (tmp_path / "s" / REPORT).write_text("{")  # damaged: it is written again from what is known
    assert list(prepare("ntu", tmp_path / "b", tmp_path / "s", OPTIONS).missing) == [missing_names()[1]]


def test_a_missing_clip_that_was_added_is_not_in_the_report(tmp_path, genuine, cluster):
    skeleton = genuine / "Skeleton" / "a1_s1_t1_skeleton.mat"
    content = skeleton.read_bytes()
    skeleton.unlink()
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).missing == {"a1_s1_t1": "no skeleton"}
    skeleton.write_bytes(content)
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (report.done, report.missing) == (1, {})
