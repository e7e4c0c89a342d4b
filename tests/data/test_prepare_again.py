"""What a later preparation makes of a store: changed files, other readers, further parts, what is left out."""

import json
import zipfile

import pyarrow.parquet as pq
import pytest

from coablate_platform.data.formats import READERS
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
    """All of a store but the lock and what opening it unpacked."""
    return {path: path.read_bytes() for path in sorted(store.rglob("*.*")) if path.is_file() and path.suffix != ".lock"}


def test_files_that_changed_since_are_noticed_before_anything_is_written(tmp_path, genuine, write_clip, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    before = _content(tmp_path / "s")
    (genuine / "Depth" / "a1_s1_t1_depth.mat").touch()  # copied, say: its content is the same
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).skipped == 6
    write_clip(genuine, 2, 7, frames=9)
    write_clip(genuine, 2, 2, frames=9)
    write_clip(genuine, 3, 1)
    with pytest.raises(InputError) as caught:
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    said = str(caught.value)
    assert "the files of 2 clips have changed since they were stored, the first: " in said
    assert "a2_s2_t1_skeleton.mat has 4520 bytes, it had 3080" in said
    assert said.endswith("prepare them into a new store")
    assert _content(tmp_path / "s") == before


def test_an_edit_that_keeps_the_size_is_noticed(tmp_path, write_walk, cluster):
    path = write_walk(tmp_path / "raw", FIRST)
    prepare("ntu", tmp_path / "raw", tmp_path / "s", OPTIONS)
    path.write_text(path.read_text().replace("1.70000", "1.70001"))
    with pytest.raises(InputError, match=rf"{FIRST}\.skeleton has the size that it had, but another checksum"):
        prepare("ntu", tmp_path / "raw", tmp_path / "s", OPTIONS)


def test_a_member_of_an_archive_is_told_by_its_checksum(tmp_path, write_walk, cluster):
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


def _forget_files(store):
    """Take out of the shards what earlier versions did not write."""
    for path in (store / SHARDS).glob("*.parquet"):
        said = pq.read_metadata(path).metadata
        pq.write_table(pq.read_table(path).replace_schema_metadata({b"coablate.bad": said[b"coablate.bad"]}), path)


def test_a_store_that_does_not_know_its_files_goes_on(tmp_path, genuine, write_clip, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    _forget_files(tmp_path / "s")
    write_clip(genuine, 2, 7, frames=9)
    write_clip(genuine, 3, 1)
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).done == 1
    assert len(Store.open(str(tmp_path / "s"))) == 7


def _edit_recipe(store, **values):
    content = json.loads((store / METADATA).read_text())
    recipe = {name: value for name, value in (content["recipe"] | values).items() if value is not None}
    (store / METADATA).write_text(json.dumps(content | {"recipe": recipe}, indent=2) + "\n")


def test_a_reader_with_another_threshold_is_refused_by_its_name(tmp_path, genuine, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    recipe = Store.open(str(tmp_path / "s")).metadata.recipe
    assert recipe.items() >= {"resize": "crop", "reader": 1, "smooth": 5, "half_range": 800.0}.items()
    _edit_recipe(tmp_path / "s", smooth=3)
    with pytest.raises(InputError, match=r"prepared otherwise \(smooth 3 in the store, 5 asked for\)"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)


def test_a_store_whose_reader_is_unknown_is_opened_but_not_added_to(tmp_path, genuine, write_clip, cluster):
    prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    _edit_recipe(tmp_path / "s", reader=None, smooth=None)
    before = _content(tmp_path / "s")
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).skipped == 6
    write_clip(genuine, 3, 1)
    with pytest.raises(InputError, match=r"did not record reader, smooth; .* prepare into a new store"):
        prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert _content(tmp_path / "s") == before
    assert len(Store.open(str(tmp_path / "s"))) == 6


def test_every_source_says_how_it_reads():
    for source in READERS.values():
        assert isinstance(source.reading["reader"], int)
    assert READERS["ntu"].reading.items() >= {"short_life": 11, "wide": 0.8, "wide_frames": 0.69754}.items()


def test_what_the_system_did_not_hand_over_is_asked_for_again(tmp_path, genuine, cluster):
    path = genuine / "Skeleton" / "a2_s2_t1_skeleton.mat"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to(path)  # a loop: nobody can open it, and nothing is said of the file
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
    assert report.done == 5
    assert [(bad.name, bad.reason) for bad in report.bad] == [
        ("a2_s2_t1", "has no video beside it, as other clips have")
    ]


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_ntu_120_may_come_in_its_two_parts(tmp_path, write_walk, cluster, order):
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


def test_a_part_of_which_nothing_could_be_read_brings_no_classes(tmp_path, write_walk, cluster):
    write_walk(tmp_path / "a", FIRST)
    prepare("ntu", tmp_path / "a", tmp_path / "s", OPTIONS)
    write_walk(tmp_path / "b", SECOND).write_text("3\n")
    assert [bad.name for bad in prepare("ntu", tmp_path / "b", tmp_path / "s", OPTIONS).bad] == [SECOND]
    store = Store.open(str(tmp_path / "s"))
    assert (len(store.classes), store.default_protocol) == (60, "ntu60/cs")


def test_a_bad_file_that_was_taken_away_is_forgotten_with_its_own_input(tmp_path, write_walk, cluster):
    for folder, good, bad in (("a", FIRST, "S001C001P001R001A003"), ("b", "S001C001P001R001A002", SECOND)):
        write_walk(tmp_path / folder, good)
        write_walk(tmp_path / folder, bad).write_text("3\n")
        prepare("ntu", tmp_path / folder, tmp_path / "s", OPTIONS)
    (tmp_path / "b" / f"{SECOND}.skeleton").unlink()
    assert len(prepare("ntu", tmp_path / "a", tmp_path / "s", OPTIONS).bad) == 2
    assert [bad.name for bad in prepare("ntu", tmp_path / "b", tmp_path / "s", OPTIONS).bad] == ["S001C001P001R001A003"]


def test_other_classes_are_refused_in_a_short_line(tmp_path, write_walk, cluster):
    said = {"classes": [f"class {number}" for number in range(60)], "default_protocol": "ntu60/cs", "persons": 2}
    for name in ("genuine", "generated"):
        write_walk(tmp_path / name, FIRST)
    (tmp_path / "generated" / "coablate_set.json").write_text(json.dumps(said))
    prepare("ntu", tmp_path / "genuine", tmp_path / "s", OPTIONS)
    with pytest.raises(InputError, match=r"\(60 classes in the store, 60 others asked for\)") as caught:
        prepare("ntu", tmp_path / "generated", tmp_path / "s", OPTIONS)
    assert len(str(caught.value)) < 300


def test_the_report_keeps_what_other_inputs_left_out(tmp_path, write_walk, cluster):
    listed = missing_names()[0]
    for folder, name, lost in (("a", FIRST, listed), ("b", "S001C001P001R001A002", missing_names()[1])):
        write_walk(tmp_path / folder, name)
        write_walk(tmp_path / folder, lost)
        report = prepare("ntu", tmp_path / folder, tmp_path / "s", OPTIONS)
    assert list(report.missing) == sorted(missing_names()[:2])
    assert json.loads((tmp_path / "s" / REPORT).read_text())["missing"] == report.missing
    (tmp_path / "s" / REPORT).write_text("{")  # damaged: written anew, with what is known
    assert list(prepare("ntu", tmp_path / "b", tmp_path / "s", OPTIONS).missing) == [missing_names()[1]]


def test_what_was_left_out_and_came_to_be_is_not_in_the_report(tmp_path, genuine, cluster):
    skeleton = genuine / "Skeleton" / "a1_s1_t1_skeleton.mat"
    content = skeleton.read_bytes()
    skeleton.unlink()
    assert prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS).missing == {"a1_s1_t1": "no skeleton"}
    skeleton.write_bytes(content)
    report = prepare("utd_mhad", genuine, tmp_path / "s", OPTIONS)
    assert (report.done, report.missing) == (1, {})
