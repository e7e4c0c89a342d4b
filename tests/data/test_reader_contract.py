"""The contract of a reader, held by ours on small sets in their formats."""

import json
from pathlib import Path

import numpy as np
import pytest
from listed_sets import write_jhmdb, write_pku, write_pku_lists

from coablate_platform.conformance.reader import CLIPS, READER, ReaderSubject
from coablate_platform.conformance.suite import name_of
from coablate_platform.data.formats import READERS


@pytest.fixture
def folders(genuine, tmp_path, write_ntu) -> dict[str, Path]:
    """A set of each format, in which somebody trains and somebody tests."""
    ntu, ucla = tmp_path / "ntu", tmp_path / "ucla"
    ntu.mkdir()
    ucla.mkdir()
    for performer in (1, 3):
        for action in (1, 2):
            write_ntu(ntu, f"S001C001P{performer:03}R001A{action:03}")
    draw = np.random.default_rng(0)
    for view in (1, 2, 3):
        skeletons = draw.normal([0, 0, 2.5], 0.3, (6, 20, 3)).tolist()
        file = ucla / f"a01_s01_e00_v{view:02}.json"
        file.write_text(json.dumps({"label": 1, "skeletons": skeletons}))
    jhmdb, pku = tmp_path / "jhmdb", tmp_path / "pku"
    write_jhmdb(jhmdb, {f"catch/{title}_catch_u_cm_np1_fr_goo_0": "112" for title in "abc"})
    write_jhmdb(jhmdb, {f"clap/{title}_clap_u_cm_np1_fr_goo_0": "221" for title in "def"})
    walk = draw.normal([0, 0, 2.5], 0.3, (20, 2, 25, 3))
    write_pku(pku, {f"A{subject:02}N01-L": ["3,1,9,2", "51,10,20,2"] for subject in (1, 2, 3)}, walk)
    write_pku_lists(pku, ["A01N01-L", "A02N01-L"], ["A03N01-L"])
    return {"utd_mhad": genuine, "ntu": ntu, "nw_ucla": ucla, "jhmdb": jhmdb, "pku_mmd": pku}


@pytest.mark.parametrize("check", [*READER.checks, *CLIPS.checks], ids=name_of)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_does_what_every_reader_must(name, check, folders):
    check(ReaderSubject(reader=READERS[name], folder=folders[name]))


@pytest.mark.parametrize("check", READER.checks, ids=name_of)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_can_be_checked_without_its_data(name, check):
    check(ReaderSubject(reader=READERS[name]))
