"""What identifies a run is what its protocol selects; Coablate's own protocols are identified by their names."""

from dataclasses import replace

import numpy as np
import pytest

from coablate_platform.data import protocols
from coablate_platform.data.protocols import Protocol, Rule, get_protocol
from coablate_platform.planning.resolve import prepare_study, resolve, selection
from coablate_platform.study import source
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import run_id
from coablate_search_spaces.smoke import STUDY as SMOKE

FILE = """
from dataclasses import replace
from coablate_platform.data.protocols import Rule, get_protocol

MINE = replace(get_protocol("utd/cs"), name="mine/own", test=Rule(subjects=frozenset({subjects})))
"""


@pytest.fixture(autouse=True)
def forgotten():
    yield
    source.forget()


def planned(store, folder, subjects):
    """The plan of a study by a protocol that a file holds."""
    source.forget()
    (folder / "own_split.py").write_text(FILE.format(subjects=subjects))
    base = replace(SMOKE.base, data=replace(SMOKE.base.data, protocol=f"{folder}/own_split.py:MINE"))
    return prepare_study(resolve(replace(SMOKE, base=base), store), store, {}).plan


def ids(plan):
    return {run.run_id for run in plan.runs}


def test_protocols_of_one_name_share_runs_only_where_they_select_the_same(store, tmp_path):
    one, other = planned(store, tmp_path, {2, 4, 6, 8}), planned(store, tmp_path, {2, 4})
    assert one.protocol == other.protocol == "mine/own"
    assert one.key != other.key
    assert one.data["clips"] != other.data["clips"]
    assert not ids(one) & ids(other)
    again = planned(store, tmp_path, {8, 6, 4, 2})
    assert (again.key, ids(again)) == (one.key, ids(one))


def test_where_the_file_lies_changes_no_identity(store, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    one, other = (planned(store, tmp_path / folder, {2, 4}) for folder in ("a", "b"))
    assert (one.key, ids(one)) == (other.key, ids(other))
    assert one.arms[0].config["data"]["protocol"] == "own_split:MINE"


def test_our_own_protocols_are_identified_by_name_alone(store):
    study = resolve(SMOKE, store)
    plan = prepare_study(study, store, {}).plan
    assert selection(study.base, store) == ()
    assert "clips" not in plan.data
    assert [run.run_id for run in plan.runs] == [
        run_id(study.config(arm), store.fingerprint, (study.seed, 0)) for arm in study.arms
    ]


def test_an_arm_that_brings_data_by_the_same_protocol_is_of_the_same_study(store, tmp_path):
    (tmp_path / "own_split.py").write_text(FILE.format(subjects={2, 4}))
    data = replace(SMOKE.base.data, protocol=f"{tmp_path}/own_split.py:MINE")
    arms = (SMOKE.arms[0], replace(SMOKE.arms[1], changes={"data": replace(data, jitter=0.0)}))
    study = resolve(replace(SMOKE, base=replace(SMOKE.base, data=data), arms=arms), store)
    assert {study.config(arm).data.protocol for arm in study.arms} == {"own_split:MINE"}


def test_a_protocol_may_be_any_code(store, tmp_path):
    """Such as one that goes by names, which no rule expresses."""
    (tmp_path / "own_code.py").write_text(
        "import numpy as np\n"
        "from coablate_platform.data.protocols import Protocol, Rule\n"
        "class ByName(Protocol):\n"
        "    def split(self, rows, *, hold_out=True):\n"
        "        number = np.array([int(str(name)[1:]) for name in rows['name']])\n"
        "        held = (number % 4 == 1) & hold_out\n"
        "        masks = {'train': (number % 2 == 1) & ~held, 'validation': held, 'test': number % 2 == 0}\n"
        "        return {name: np.flatnonzero(mask) for name, mask in masks.items()}\n"
        "NONE = Rule()\n"
        "NAMES = ByName(name='own/names', source='utd_mhad', train=NONE, test=NONE, validation=NONE, rule='r',"
        " description='d')\n"
    )
    base = replace(SMOKE.base, data=replace(SMOKE.base.data, protocol=f"{tmp_path}/own_code.py:NAMES"))
    plan = prepare_study(resolve(replace(SMOKE, base=base), store), store, {}).plan
    assert [plan.data[split] for split in ("train", "validation", "test")] == [10, 10, 20]


def test_a_protocol_for_other_data_is_refused_by_its_own_name(store, tmp_path):
    (tmp_path / "own_split.py").write_text(FILE.format(subjects={2}).replace('name="mine', 'source="ntu", name="mine'))
    base = replace(SMOKE.base, data=replace(SMOKE.base.data, protocol=f"{tmp_path}/own_split.py:MINE"))
    with pytest.raises(InputError, match=r"protocol mine/own divides ntu data; .* holds utd_mhad"):
        resolve(replace(SMOKE, base=base), store)


def test_a_protocol_comes_back_from_plain_values():
    for protocol in protocols.PROTOCOLS.values():
        assert Protocol.from_plain(protocol.to_plain()) == protocol
    empty = replace(get_protocol("utd/cs"), validation=Rule(subjects=frozenset()))
    assert Protocol.from_plain(empty.to_plain()) == empty
    rows = {name: np.array([1, 2]) for name in ("subject", "camera", "setup")}
    assert not len(empty.split(rows)["validation"])
