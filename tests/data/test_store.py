"""The store returns the clips that were written, whatever the sharding; errors are one line."""

import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from coablate_platform.data.formats.clip import ClipRef, FileRef, RawClip
from coablate_platform.data.info import describe_store
from coablate_platform.data.joints import JointLayout
from coablate_platform.data.prepare import finish, metadata_of, read_shards
from coablate_platform.data.protocols import Protocol, Rule, get_protocol
from coablate_platform.data.schema import METADATA, SHARDS
from coablate_platform.data.shard import PrepareOptions, read_shard
from coablate_platform.data.store import Store, read_metadata
from coablate_platform.data.video import VideoError
from coablate_platform.study.errors import InputError


def test_stored_clips_equal_the_clips_that_were_read(store, make_reader):
    reader = make_reader(clips=40)
    for row in (0, 17, 39):
        clip, raw = store.clip(row), reader.read(reader.refs()[row])
        assert (clip.name, clip.label) == (raw.name, raw.label)
        np.testing.assert_array_equal(clip.xyz, raw.xyz)
        np.testing.assert_array_equal(clip.pixels, raw.pixels)
        np.testing.assert_array_equal(clip.valid, raw.valid)
        assert clip.video.size == raw.video.size
        assert len(clip.video.packets) == raw.video.count
        frames, stored = list(raw.video.frames()), clip.video.decode([0, 11, 12, 19])
        for frame, number in zip(stored, [0, 11, 12, 19], strict=True):
            luma = np.abs(frame.mean(-1) - frames[number].mean(-1))
            assert luma.mean() < 3


def test_the_index_is_sorted_by_name(store):
    assert store.names == [f"c{number:03}" for number in range(40)]
    assert store.index["frames"].to_pylist() == [20 + number for number in range(40)]
    assert store.classes == ("wave", "clap", "sit")


def test_arrays_are_read_only_views_of_mapped_memory(store):
    clip = store.clip(3)
    assert not clip.xyz.flags.owndata
    assert not clip.xyz.flags.writeable


def test_fingerprint_does_not_depend_on_sharding_or_order(tmp_path, make_store, make_reader):
    reader = make_reader(clips=7)
    one = make_store(tmp_path / "a", reader, PrepareOptions(shard_clips=3))
    two = make_store(tmp_path / "b", reader, PrepareOptions(shard_clips=7), reverse=True)
    fewer = make_store(tmp_path / "c", make_reader(clips=6), PrepareOptions(shard_clips=3))
    coarser = make_store(tmp_path / "d", reader, PrepareOptions(shard_clips=3, quality=9))
    assert one.fingerprint == two.fingerprint
    assert len({one.fingerprint, fewer.fingerprint, coarser.fingerprint}) == 3
    np.testing.assert_array_equal(one.clip(5).xyz, two.clip(5).xyz)


def test_a_shard_lists_its_bad_clips(tmp_path, make_store, make_reader):
    store = make_store(tmp_path / "s", make_reader(clips=5, bad=frozenset({1, 3})))
    assert store.names == ["c000", "c002", "c004"]
    (shard,) = (tmp_path / "s" / SHARDS).iterdir()
    assert [(clip.name, clip.file, clip.reason) for clip in read_shard(shard).bad] == [
        ("c001", "/nowhere/1:7", "is truncated"),
        ("c003", "/nowhere/3:7", "is truncated"),
    ]


def test_a_store_without_video(skeleton_store):
    clip = skeleton_store.clip(2)
    assert not skeleton_store.has_video
    assert clip.video is None
    assert clip.pixels is None


def test_floats_are_stored_as_byte_streams_and_compressed(store):
    shard = next((Path(store.uri) / SHARDS).iterdir())
    group = pq.ParquetFile(shard).metadata.row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in columns["xyz.list.element"].encodings
    assert columns["xyz.list.element"].compression == "ZSTD"
    assert columns["video"].compression == "UNCOMPRESSED"


def _open(uri: str) -> str:
    return Store.open(uri).clip(4).name


def test_processes_may_open_a_store_at_the_same_time(tmp_path, make_store, make_reader):
    store = make_store(tmp_path / "s", make_reader(clips=6))
    for mapped in (tmp_path / "s" / ".mapped" / store.fingerprint).iterdir():
        mapped.unlink()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_open, [store.uri] * 2, chunksize=1) == ["c004"] * 2


def test_a_store_in_a_read_only_folder_is_unpacked_among_temporary_files(
    tmp_path, make_store, make_reader, monkeypatch
):
    uri = make_store(tmp_path / "s", make_reader(clips=3)).uri
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert Store.open(uri).clip(2).name == "c002"
    assert list((tmp_path / "temporary").glob("coablate-*/*/*.arrow"))


def test_a_store_opens_by_uri(store):
    assert Store.open(f"file://{store.uri}").fingerprint == store.fingerprint


def _fresh(tmp_path, make_store, make_reader) -> Path:
    """Return the folder of a store that the test may damage."""
    return Path(make_store(tmp_path / "s", make_reader(clips=6)).uri)


def _edit(folder: Path, **values: object) -> None:
    content = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps(content | values))


def test_another_format_is_refused_with_both_versions(tmp_path, make_store, make_reader):
    folder = _fresh(tmp_path, make_store, make_reader)
    _edit(folder, format=7)
    with pytest.raises(InputError, match=r"has format 7, this version reads 1") as error:
        Store.open(str(folder))
    assert "\n" not in str(error.value)


def test_an_unfinished_store_is_refused(tmp_path, make_store, make_reader):
    folder = _fresh(tmp_path, make_store, make_reader)
    _edit(folder, fingerprint=None)
    with pytest.raises(InputError, match="did not finish"):
        Store.open(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 1, "colour": "blue"}', "[" * 100_000])
def test_damaged_metadata_is_refused(tmp_path, content):
    (tmp_path / METADATA).write_text(content)
    with pytest.raises(InputError, match="damaged"):
        Store.open(str(tmp_path))


@pytest.mark.parametrize(
    "values",
    [
        {"persons": "2"},
        {"persons": True},
        {"classes": "abc"},
        {"classes": [1, 2]},
        {"has_video": "yes"},
        {"recipe": []},
        {"versions": None},
        {"source": 3},
        {"layout": "kinect_v3"},
        {"fingerprint": "../../somewhere"},
        {"fingerprint": 7},
    ],
)
def test_metadata_with_a_value_of_another_kind_is_refused(tmp_path, make_store, make_reader, values):
    folder = _fresh(tmp_path, make_store, make_reader)
    _edit(folder, **values)
    (name,) = values
    with pytest.raises(InputError, match=rf"store\.json is damaged: .*{name}") as error:
        Store.open(str(folder))
    assert "\n" not in str(error.value)


def test_metadata_that_cannot_be_read_is_refused(tmp_path, make_store, make_reader):
    folder = _fresh(tmp_path, make_store, make_reader)
    (folder / METADATA).unlink()
    (folder / METADATA).mkdir()
    with pytest.raises(InputError, match="the store cannot be read") as error:
        Store.open(str(folder))
    assert "\n" not in str(error.value)


def _rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write the shards anew, as another program would; nothing stays unpacked."""
    for shard in (folder / SHARDS).iterdir():
        pq.write_table(change(pq.read_table(shard)), shard)
    shutil.rmtree(folder / ".mapped")


def _set(name: str, values: Callable[[pa.Table], list[object]]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        field = table.schema.field(name)
        return table.set_column(table.schema.get_field_index(name), field, pa.array(values(table), field.type))

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop_columns(["xyz"]), "cannot be unpacked"),
        (lambda table: table.rename_columns([f"{name}2" for name in table.column_names]), "cannot be unpacked"),
        (_set("label", lambda table: [3] * len(table)), "has a wrong label, expected 0 to 2"),
        (_set("label", lambda table: [-1] * len(table)), "has a wrong label, expected 0 to 2"),
        (_set("frames", lambda table: [0] * len(table)), "has a wrong frames, expected at least 1"),
        (_set("bodies", lambda table: [3] * len(table)), "has a wrong bodies, expected 1 to 2"),
        (_set("bodies", lambda table: [1] * len(table)), "has a wrong length of xyz"),
        (_set("pixels", lambda table: [[0.0]] * len(table)), "has a wrong length of pixels"),
        (_set("valid", lambda table: [[True]] * len(table)), "has a wrong length of valid"),
        (_set("packets", lambda table: [[1]] * len(table)), "has a wrong length of packets"),
        (_set("packets", lambda table: [None] * len(table)), "has a wrong length of packets"),
        (_set("video_frames", lambda table: [0] * len(table)), "has a wrong video"),
    ],
)
def test_shards_of_another_program_are_refused(tmp_path, make_store, make_reader, change, reason):
    folder = _fresh(tmp_path, make_store, make_reader)
    _rewrite(folder, change)
    with pytest.raises(InputError, match=reason) as error:
        Store.open(str(folder))
    assert str(folder / SHARDS) in str(error.value)
    assert "\n" not in str(error.value)
    assert {file.name for file in (folder / ".mapped").glob("*/*")} <= {"lock"}


@pytest.mark.parametrize("keep", [0, 100, -10])
def test_a_shard_that_was_cut_off_is_named(tmp_path, make_store, make_reader, keep):
    folder = _fresh(tmp_path, make_store, make_reader)
    shard = sorted((folder / SHARDS).iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:keep])
    shutil.rmtree(folder / ".mapped")
    with pytest.raises(InputError, match=shard.name):
        Store.open(str(folder))
    with pytest.raises(InputError, match=rf"{shard.name}: the shard is damaged"):
        read_shards(folder)


def test_a_clip_that_is_stored_twice_is_refused(tmp_path, make_store, make_reader):
    folder = _fresh(tmp_path, make_store, make_reader)
    shard = sorted((folder / SHARDS).iterdir())[0]
    metadata = read_metadata(fs.LocalFileSystem(), str(folder), str(folder))
    shutil.copy(shard, folder / SHARDS / "copy.parquet")
    with pytest.raises(InputError, match=r"clips are in two shards of clips/, the first: c00\d"):
        finish(folder, metadata, read_shards(folder), {})
    (folder / SHARDS / "copy.parquet").unlink()
    table = pq.read_table(shard)
    pq.write_table(pa.concat_tables([table, table]), shard)
    with pytest.raises(InputError, match=r"the shard is damaged \(\d+ rows hold \d different clips\)"):
        read_shards(folder)


@pytest.mark.parametrize("entry", ["{", "[1]", "[[1]]", "3"])
def test_a_shard_with_a_broken_list_of_bad_clips_is_damaged(tmp_path, make_store, make_reader, entry):
    folder = _fresh(tmp_path, make_store, make_reader)
    shard = sorted((folder / SHARDS).iterdir())[0]
    pq.write_table(pq.read_table(shard).replace_schema_metadata({b"coablate.bad": entry.encode()}), shard)
    with pytest.raises(InputError, match=rf"{shard.name}: the shard is damaged"):
        read_shards(folder)


def test_a_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Store.open(str(tmp_path / "none"))
    with pytest.raises(InputError, match="not a prepared store"):
        Store.open(str(tmp_path))
    with pytest.raises(InputError, match="storage cannot be opened"):
        Store.open("ftq://host/store")


def test_a_damaged_shard_is_named(tmp_path, make_store, make_reader):
    folder = _fresh(tmp_path, make_store, make_reader)
    shard = sorted((folder / SHARDS).iterdir())[0]
    content = bytearray(shard.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = b"\0" * 8
    shard.write_bytes(content)
    (next((folder / ".mapped").iterdir()) / "complete.json").unlink()
    with pytest.raises(InputError, match=shard.name):
        Store.open(str(folder))


def test_a_missing_shard_is_refused(tmp_path, make_store, make_reader):
    folder = _fresh(tmp_path, make_store, make_reader)
    sorted((folder / SHARDS).iterdir())[0].unlink()
    (next((folder / ".mapped").iterdir()) / "complete.json").unlink()
    with pytest.raises(InputError, match="do not match the fingerprint"):
        Store.open(str(folder))


def test_a_damaged_video_names_its_clip(store):
    video = store.clip(8).video
    content = bytearray(memoryview(video.data))
    content[40:400] = bytes(360)
    with pytest.raises(VideoError, match="c008"):
        type(video)(name=video.name, data=bytes(content), packets=video.packets, size=video.size).decode([0, 5])


OWN_JOINTS = JointLayout(
    name="stick",
    joints=("middle", "left", "right"),
    bones=((1, 0), (2, 0)),
    official_bones=((1, 0), (2, 0)),
    centre=0,
    mirror=(0, 2, 1),
)
OWN_PROTOCOL = replace(
    get_protocol("utd/cs"), name="stick/half", source="stick", train=Rule(subjects=frozenset({1, 2}))
)


class ByCode(Protocol):
    """A protocol whose rules say nothing."""


class StickReader:
    """Three joints that are no sensor's, and a protocol that nobody published."""

    name, layout, persons, classes, has_video = "stick", OWN_JOINTS, 1, ("wave", "clap", "sit"), False
    default_protocol, reading = OWN_PROTOCOL, {"reader": 1}

    def refs(self):
        return [ClipRef(name=f"c{number}", skeleton=FileRef(uri=f"/nowhere/{number}")) for number in range(8)]

    def read(self, ref):
        number = int(ref.name[1:])
        xyz = np.full((5, 1, 3, 3), number + 1, np.float32)
        numbers = {"label": number % 3, "subject": number + 1, "camera": 1, "setup": 1, "replication": 1}
        return RawClip(name=ref.name, **numbers, xyz=xyz, pixels=None, valid=np.ones((5, 1), bool), video=None)


def test_a_store_remembers_joints_and_a_protocol_that_came_with_its_reader(tmp_path, make_store):
    opened = make_store(tmp_path / "s", StickReader())
    assert opened.layout == OWN_JOINTS
    assert (opened.default_protocol, opened.own_protocol) == ("stick/half", OWN_PROTOCOL)
    assert opened.clip(2).xyz.shape == (5, 1, 3, 3)
    assert [protocol.name for protocol in describe_store(opened).protocols] == ["stick/half"]
    content = json.loads((tmp_path / "s" / "store.json").read_text())
    assert (content["layout"], content["joints"]["joints"]) == ("stick", ["middle", "left", "right"])
    assert content["protocol"]["train"] == {"subjects": [1, 2], "cameras": None, "setups": None}


def test_a_store_of_known_joints_and_protocol_says_them_by_name_as_ever(store):
    content = json.loads((Path(store.uri) / "store.json").read_text())
    assert sorted(content) == [
        *("classes", "default_protocol", "fingerprint", "format", "has_video", "layout", "persons", "recipe"),
        *("source", "versions"),
    ]
    assert (content["layout"], content["default_protocol"]) == ("kinect_v1", "utd/cs")


@pytest.mark.parametrize("changed", ["joints", "protocol"])
def test_what_a_store_remembers_is_part_of_how_it_was_prepared(tmp_path, make_store, changed):
    make_store(tmp_path / "s", StickReader())
    other, options = StickReader(), PrepareOptions(short_side=48, shard_clips=5)
    assert metadata_of(other, options, tmp_path / "s").own_protocol == OWN_PROTOCOL
    if changed == "joints":
        other.layout = replace(OWN_JOINTS, centre=1)
    else:
        other.default_protocol = replace(OWN_PROTOCOL, train=Rule(subjects=frozenset({3})))
    with pytest.raises(InputError, match=rf"prepared with other settings \(other {changed}\)"):
        metadata_of(other, options, tmp_path / "s")


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (replace(OWN_PROTOCOL, name="utd/cs"), "its protocol must not have the name 'utd/cs' of ours"),
        (ByCode(**vars(OWN_PROTOCOL)), "a store can remember a Protocol, not a ByCode"),
    ],
)
def test_a_protocol_that_no_store_can_remember_is_refused(tmp_path, protocol, message):
    reader = StickReader()
    reader.default_protocol = protocol
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError, match=message):
        metadata_of(reader, PrepareOptions(), tmp_path / "s")


@pytest.mark.parametrize("content", [{"joints": {"name": "x"}}, {"protocol": {"name": "x"}}, {"joints": 3}])
def test_joints_or_a_protocol_that_are_none_are_damage(tmp_path, make_store, content):
    make_store(tmp_path / "s", StickReader())
    _edit(tmp_path / "s", **content)
    with pytest.raises(InputError, match=r"store\.json is damaged"):
        Store.open(str(tmp_path / "s"))
