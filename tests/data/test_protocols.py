"""The splits of protocols, and the joint layouts."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from coablate_platform.conformance.protocol import PROTOCOL, ProtocolSubject
from coablate_platform.conformance.suite import name_of
from coablate_platform.data.formats import READERS
from coablate_platform.data.formats.ntu import missing_names
from coablate_platform.data.joints import KINECT_V1, KINECT_V2
from coablate_platform.data.protocols import PROTOCOLS, for_source, get_protocol
from coablate_platform.study.errors import InputError


def grid(subjects, cameras, setups):
    subject, camera, setup = np.array(list(itertools.product(subjects, cameras, setups))).T
    return {"subject": subject, "camera": camera, "setup": setup}


ROWS = grid(range(1, 107), (1, 2, 3), range(1, 33))


@pytest.mark.parametrize("check", PROTOCOL.checks, ids=name_of)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_passes_the_conformance_suite(name, check):
    check(ProtocolSubject(protocol=get_protocol(name), rows=ROWS))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_published_protocol_has_a_validation_split(name):
    assert len(get_protocol(name).split(ROWS)["validation"])


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"utd/few"}))
def test_validation_rows_are_taken_from_training(name):
    held, whole = get_protocol(name).split(ROWS), get_protocol(name).split(ROWS, hold_out=False)
    assert np.union1d(held["train"], held["validation"]).tolist() == whole["train"].tolist()
    assert held["test"].tolist() == whole["test"].tolist()


@pytest.mark.parametrize("name", ["ntu60/cs", "ntu120/csub", "utd/cs", "utd/few", "synthetic/cs"])
def test_nobody_is_in_two_splits_of_a_cross_subject_protocol(name):
    parts = [set(ROWS["subject"][part]) for part in get_protocol(name).split(ROWS).values()]
    assert sum(len(part) for part in parts) == len(set().union(*parts))


def test_published_rules():
    cs = get_protocol("ntu60/cs").split(ROWS, hold_out=False)
    train = [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38]
    assert sorted(set(ROWS["subject"][cs["train"]])) == train
    assert sorted(set(ROWS["subject"][cs["test"]])) == sorted(set(range(1, 41)) - set(train))
    assert set(ROWS["setup"][np.concatenate([cs["train"], cs["test"]])]) == set(range(1, 18))
    cv = get_protocol("ntu60/cv").split(ROWS)
    assert (set(ROWS["camera"][cv["train"]]), set(ROWS["camera"][cv["test"]])) == ({2, 3}, {1})
    csub = get_protocol("ntu120/csub").split(ROWS, hold_out=False)
    more = [45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89]
    more += [91, 92, 93, 94, 95, 97, 98, 100, 103]
    assert sorted(set(ROWS["subject"][csub["train"]])) == train + more
    assert len(set(ROWS["subject"][csub["test"]])) == 53
    cset = get_protocol("ntu120/cset").split(ROWS, hold_out=False)
    assert set(ROWS["setup"][cset["train"]]) == set(range(2, 33, 2))
    assert set(ROWS["setup"][cset["test"]]) == set(range(1, 33, 2))


PUBLISHED = {
    "ntu60/cs": (40_091, 16_487),
    "ntu60/cv": (37_646, 18_932),
    "ntu120/csub": (63_026, 50_919),
    "ntu120/cset": (54_468, 59_477),
}
# A performer in a setup was recorded in a block of 3 cameras, 2 replications and 60 actions. Together with the official
# lists of missing samples, the published sizes are whole numbers of such blocks. Here are the numbers of blocks by
# (setup 1-17, training performer, even setup). The published sizes determine their sums over the second and over the
# third part; how these two are combined is not published and does not change the sizes.
BLOCKS = {
    (True, True, True): 56,
    (True, True, False): 56,
    (True, False, True): 20,
    (True, False, False): 26,
    (False, True, True): 30,
    (False, True, False): 34,
    (False, False, True): 46,
    (False, False, False): 50,
}


def ntu_names():
    """Generate the names of a complete data set, including the missing samples."""
    trains = set(ROWS["subject"][get_protocol("ntu120/csub").split(ROWS, hold_out=False)["train"]])
    known = {(int(name[1:4]), int(name[9:12])) for name in missing_names()}
    for (first, train, even), count in BLOCKS.items():
        setups, performers = (range(1, 18), range(1, 41)) if first else (range(18, 33), range(1, 107))
        blocks = [
            (setup, performer)
            for setup, performer in itertools.product(setups, performers)
            if (performer in trains) == train and (setup % 2 == 0) == even
        ]
        blocks.sort(key=lambda block: block not in known)
        assert not known & set(blocks[count:])
        for (setup, performer), camera, replication, action in itertools.product(
            blocks[:count], (1, 2, 3), (1, 2), range(1, 61)
        ):
            yield f"S{setup:03}C{camera:03}P{performer:03}R{replication:03}A{action + 60 * (not first):03}"


def test_published_sizes_follow_from_names_and_missing_lists():
    generated = set(ntu_names())
    assert len(generated) == 114_480
    assert set(missing_names()) < generated
    names = np.array(sorted(generated - set(missing_names())))
    rows = {
        column: np.array([int(name[start : start + 3]) for name in names])
        for column, start in {"setup": 1, "camera": 5, "subject": 9}.items()
    }
    for protocol, sizes in PUBLISHED.items():
        parts = get_protocol(protocol).split(rows, hold_out=False)
        assert (len(parts["train"]), len(parts["test"])) == sizes, protocol


def test_rows_may_be_an_arrow_table():
    table = pa.table({name: pa.array(values, pa.int16()) for name, values in ROWS.items()})
    for name, part in get_protocol("ntu60/cs").split(table).items():
        np.testing.assert_array_equal(part, get_protocol("ntu60/cs").split(ROWS)[name])


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"no protocol 'ntu60/xsub' \(did you mean 'ntu"):
        get_protocol("ntu60/xsub")


def test_every_reader_has_its_protocols():
    for name, reader in READERS.items():
        assert reader.default_protocol in {protocol.name for protocol in for_source(name)}
    assert {protocol.source for protocol in PROTOCOLS.values()} == set(READERS)


def test_the_two_trees_of_ntu_differ_in_the_hands():
    one_based = {(child + 1, parent + 1) for child, parent in KINECT_V2.bones}
    assert {(22, 23), (23, 8), (24, 25), (25, 12)} <= one_based
    official = {(child + 1, parent + 1) for child, parent in KINECT_V2.official_bones}
    assert official - one_based == {(22, 8), (24, 12)}
    assert KINECT_V1.official_bones == KINECT_V1.bones
    assert KINECT_V2.joints[KINECT_V2.centre] == "middle of spine"
