"""The contract that every shipped study and search satisfies, and the studies that are refused."""

import dataclasses

import pytest

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.placement import PAPER_PLACEMENT
from coablate_platform.conformance.study import STUDY, StudySubject
from coablate_platform.conformance.suite import name_of
from coablate_platform.study.component import Component
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.designs import add_one_in, full_factorial, leave_one_out, with_components
from coablate_platform.study.errors import InputError
from coablate_platform.study.load import load_study, shipped
from coablate_platform.study.search import Search
from coablate_platform.study.study import Arm, Study
from coablate_platform.study.trends import Trend

BASE = RunConfig(model=CCDFARM(width=0.125), data=DataConfig(), training=TrainingConfig())
COMPONENTS = (
    Component(name="TIAM", on={"model.tiam": "st"}, off={"model.tiam": "none"}),
    Component(name="MFFM", on={"model.mffm": True}, off={"model.mffm": False}),
)


def study(**changes):
    values = {
        "name": "s",
        "title": "t",
        "base": BASE,
        "arms": (Arm(name="a", changes={}), Arm(name="b", changes={"model.tiam": "none"})),
        "reference": "a",
    }
    return Study(**(values | changes))


SHIPPED = {name: load_study(name) for name in shipped()}
STUDIES = [name for name, found in SHIPPED.items() if isinstance(found, Study)]
SEARCHES = [name for name, found in SHIPPED.items() if isinstance(found, Search)]


@pytest.mark.parametrize("check", STUDY.checks, ids=name_of)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_passes_the_conformance_suite(name, check):
    check(StudySubject(study=SHIPPED[name]))


@pytest.mark.parametrize("name", SEARCHES)
class TestEveryShippedSearch:
    def test_has_the_name_of_its_file_and_a_title(self, name):
        assert SHIPPED[name].name == name
        assert len(SHIPPED[name].title) > 5

    def test_tries_the_base_first(self, name):
        found = SHIPPED[name]
        base = found.config(found.space.decode(found.enqueued[0]))
        assert base == found.base
        if isinstance(base.model, CCDFARM):
            self.check_paper_s_configuration(base)

    def check_paper_s_configuration(self, base):
        assert base.model.fusion == "dsfm"
        assert [(site.rgb, site.skeleton) for site in base.model.placement] == [
            (site.rgb, site.skeleton) for site in PAPER_PLACEMENT
        ]

    def test_fields_that_all_trials_share_can_be_overridden(self, name):
        assert SHIPPED[name].override({"training.epochs": 1}, seeds=1).base.training.epochs == 1


@pytest.mark.parametrize("name", STUDIES)
class TestEveryShippedStudy:
    def test_has_the_name_of_its_file_and_a_title(self, name):
        found = load_study(name)
        assert found.name == name
        assert len(found.title) > 5

    def test_fields_that_all_arms_share_can_be_overridden(self, name):
        assert load_study(name).override({"training.epochs": 1}, seeds=1).base.training.epochs == 1


def test_the_paper_s_tables_4_and_5_have_the_same_full_model():
    modules, count, streams = (load_study(name) for name in ("modules", "dsfm_count", "streams"))
    full = modules.config(modules.arm("all"))
    assert full == count.config(count.arm("both")) == streams.config(streams.arm("fused"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ()}, "it has no arms"),
        ({"arms": (Arm(name="a", changes={}),) * 2}, "two are 'a'"),
        ({"reference": "aa"}, "reference 'aa' is not an arm"),
        ({"seeds": 0}, "study s: seeds=0: expected a whole number of at least 1"),
        ({"arms": (Arm(name="a", changes={}), Arm(name="b", changes={}))}, "are the same configuration"),
        ({"arms": (Arm(name="a", changes={"model.tima": 1}),)}, "did you mean 'tiam'?"),
        (
            {"arms": (Arm(name="a", changes={"training.workers": 2}),)},
            "arm 'a' changes training.workers, which all arms",
        ),
        ({"arms": (Arm(name="a", changes={"training": "msaf"}),)}, "arm 'a' changes training.epochs, which all arms"),
        ({"arms": (Arm(name="a", changes={"data.protocol": "utd/few"}),)}, "arm 'a' changes data.protocol, which"),
    ],
)
def test_an_invalid_study_is_refused(changes, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        study(**changes)


def test_arms_that_differ_only_in_a_whole_number_and_a_float_are_the_same_configuration():
    base = dataclasses.replace(BASE, training=dataclasses.replace(BASE.training, weight_decay=0))
    arms = (Arm(name="none", changes={}), Arm(name="zero", changes={"training.weight_decay": 0.0}))
    with pytest.raises(InputError, match="arms 'none' and 'zero' are the same configuration"):
        study(base=base, arms=arms, reference="none")


def test_a_factor_cannot_be_overridden():
    with pytest.raises(InputError, match=r"model\.tiam: a factor of study s \(arm 'b'"):
        study().override({"model.tiam": "channel"})
    with pytest.raises(InputError, match="a factor"):
        study().override({"model": CCDFARM()})


def test_designs_have_the_arms_that_they_describe():
    assert [arm.name for arm in full_factorial(COMPONENTS)] == ["none", "MFFM", "TIAM", "TIAM+MFFM"]
    assert [arm.name for arm in leave_one_out(COMPONENTS)] == ["all", "all −TIAM", "all −MFFM"]
    assert [arm.name for arm in add_one_in(COMPONENTS)] == ["none", "+TIAM", "+MFFM"]
    assert leave_one_out(COMPONENTS)[1].changes == {"model.tiam": "none", "model.mffm": True}
    with pytest.raises(InputError, match="no component 'TIMA'"):
        with_components(COMPONENTS, ["TIMA"])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (Component(name="TIAM", on={"model.mffm": True}, off={"model.mffm": False}), "two components are named 'TIAM'"),
        (
            Component(name="site", on={"model.tiam": "channel"}, off={}),
            "components 'TIAM' and 'site' both set model.tiam",
        ),
        (Component(name="m", on={"model": "x"}, off={}), "components 'TIAM' and 'm' both set model.tiam"),
    ],
)
def test_components_that_undo_each_other_are_refused(second, message):
    with pytest.raises(InputError, match=message):
        full_factorial((COMPONENTS[0], second))


@pytest.mark.parametrize("design", [full_factorial, leave_one_out, add_one_in])
def test_every_design_makes_a_valid_study(design):
    arms = design(COMPONENTS)
    assert study(arms=arms, reference=arms[0].name).arms == arms


def test_a_study_is_found_by_name_module_or_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from coablate_search_spaces.modules import STUDY\n")
    assert load_study("modules") == load_study("coablate_search_spaces.modules") == load_study(str(file))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("moduls", "no study named 'moduls' (did you mean 'modules'?)"),
        ("nowhere.at_all", "no module named 'nowhere'"),
        ("missing.py", "no such file"),
        ("json.decoder", "defines no STUDY"),
    ],
)
def test_a_missing_study_is_named(reference, message):
    with pytest.raises(InputError) as error:
        load_study(reference)
    assert message in str(error.value)


def test_a_broken_study_file_is_named(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("STUDY = undefined\n")
    with pytest.raises(InputError, match=r"broken\.py: NameError"):
        load_study(str(file))


def test_a_field_within_a_part_that_an_arm_sets_cannot_be_overridden():
    """The arm would replace the whole part, and with it the override."""
    same = dataclasses.replace(BASE.training, learning_rate=0.5)
    declared = study(arms=(Arm(name="a", changes={}), Arm(name="b", changes={"training": same})))
    for path in ("training.batch_size", "training.learning_rate", "training"):
        with pytest.raises(InputError, match=rf"{path}: a factor of study .* \(arm 'b' sets training\)"):
            declared.override({path: 1})
    assert declared.override({"data.flip": 0.5}).base.data.flip == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no GPU here')", "RuntimeError: no GPU here"),
        ("import no_such_package", "no module named 'no_such_package'"),
    ],
)
@pytest.mark.parametrize("as_module", [True, False])
def test_an_exception_in_a_study_s_code_is_reported_in_one_line(tmp_path, monkeypatch, text, message, as_module):
    (tmp_path / "failing_study.py").write_text(text)
    (tmp_path / "failing_package").mkdir()
    (tmp_path / "failing_package" / "study.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    reference = "failing_package.study" if as_module else str(tmp_path / "failing_study.py")
    with pytest.raises(InputError) as error:
        load_study(reference)
    assert str(error.value) == f"study {reference}: {message}"


@pytest.mark.parametrize("reference", ["./modules", ".modules", "studies/mine"])
def test_a_path_that_does_not_end_in_py_is_refused(reference):
    with pytest.raises(InputError, match=r"expected a shipped name, package\.module, or a path that ends in \.py"):
        load_study(reference)


def test_a_study_file_may_have_dots_in_its_name(tmp_path):
    (tmp_path / "v1.2.py").write_text("from coablate_search_spaces.smoke import STUDY")
    assert load_study(str(tmp_path / "v1.2.py")).name == "smoke"


def test_a_trend_of_an_unknown_arm_is_refused():
    with pytest.raises(InputError, match="trend 'noise': 'c' is not an arm"):
        study(trends=(Trend(axis="noise", lines={"one": {0.0: "a", 1.0: "c"}}),))
    assert study(trends=(Trend(axis="noise", lines={"one": {0.0: "a", 1.0: "b"}}),)).trends
