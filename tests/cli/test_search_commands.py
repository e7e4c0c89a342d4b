"""What a search refuses before anything is started, and what its commands say of studies that are none."""

import pytest

HEAD = (
    "from dataclasses import replace\n"
    "from coablate_platform.study.domains import *\n"
    "from coablate_platform.study.search import *\n"
    "from coablate_platform.study.space import *\n"
    "from coablate_search_spaces.lambda_r import STUDY as GIVEN\n"
)


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("replace(GIVEN, space=Space({}))", ("it has no factors",)),
        (
            "replace(GIVEN, space=Space({'model.floor': Float(low=0, high=1, when={'model.fusio': ('dsfm',)})}))",
            ("factor model.floor: its condition names 'model.fusio'",),
        ),
        (
            "replace(GIVEN, space=Space({'model.floor': Float(low=0, high=1, log=True)}))",
            ("a logarithmic range must lie above 0",),
        ),
        (
            "replace(GIVEN, space=Space({'model.flor': Float(low=0, high=1)}))",
            ("no field 'flor'", "did you mean 'floor'"),
        ),
        ("replace(GIVEN, space=Space({'model.floor': Float(low=0.6, high=1)}))", ("the base is outside the space",)),
        (
            "replace(GIVEN, space=Space({'model.reduction': Int(low=1, high=16)}), sampler='grid', trials=4)",
            ("more than the 4 configurations",),
        ),
        ("replace(GIVEN, points=({'model.reduction': 3},))", ("model.reduction: 3 is not one of 1, 2, 4, 8, 16",)),
        ("replace(GIVEN, base=None)", ("search lambda_r: base=None: expected RunConfig",)),
    ],
)
def test_a_search_that_makes_no_sense_is_one_clear_line(refused, store, tmp_path, declared, says):
    (tmp_path / "mine.py").write_text(f"{HEAD}STUDY = {declared}\n")
    refused("plan", tmp_path / "mine.py", "--data", store.uri, says=says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "training.metric=acuracy"), ("the base", "no metric 'acuracy'", "did you mean 'accuracy'?")),
        (("--set", "model.floor=0.3"), ("search lambda_r varies model.floor",)),
        (("--set", "data.validation=none"), ("trials are compared on the validation split",)),
        (("--sampler", "tpee"), ("no sampler 'tpee'", "did you mean 'tpe'?")),
        (("--sampler", "grid"), ("factor model.floor is a range of real numbers",)),
        (("--grace", 0), ("--grace",)),
    ],
)
def test_what_a_search_cannot_run_with_is_refused(refused, store, words, says):
    refused("plan", "lambda_r", "--data", store.uri, *words, says=says)


def test_what_hyperband_parts_by_number_cannot_be_warm(refused, store, tmp_path):
    (tmp_path / "mine.py").write_text(f"{HEAD}STUDY = replace(GIVEN, stopping=Stopping(rule='hyperband'))\n")
    words = ("run", tmp_path / "mine.py", "--data", store.uri, "--out", tmp_path / "out", "--warm", "placement")
    refused(*words, says=("--warm: search lambda_r stops trials by hyperband",))


def test_options_of_searches_are_none_of_studies(refused, store):
    for option in ("--trials", "--grace"):
        refused("plan", "smoke", "--data", store.uri, option, 3, says=(f"{option}: this option is for searches",))


def test_where_no_trial_is_given_up_there_is_no_grace(refused, store, tmp_path):
    (tmp_path / "mine.py").write_text(f"{HEAD}STUDY = replace(GIVEN, stopping=Stopping(rule='none'))\n")
    words = ("plan", tmp_path / "mine.py", "--data", store.uri, "--grace", 3)
    refused(*words, says=("--grace: search lambda_r has no grace period",))


def test_a_storage_that_cannot_be_opened_is_one_clear_line(refused, store, tmp_path):
    words = ("run", "lambda_r", "--data", store.uri, "--out", tmp_path / "out", "--storage", "nonsense://x")
    refused(*words, says=("Optuna storage nonsense://x",))


def test_an_earlier_search_must_be_there(refused, store, tmp_path):
    words = ("run", "lambda_r", "--data", store.uri, "--out", tmp_path / "out", "--warm", "placement")
    refused(*words, says=("holds no study",))


def test_what_varies_is_shown(coablate, store):
    answer = coablate("plan", "placement", "--data", store.uri, "--trials", 7, "--grace", 5)
    assert answer.code == 0
    assert "0 to 3 sites over Mixed_3c … Mixed_5c × conv4 … fc7" in answer.out
    assert "7 trials sampled by tpe, stopping rule asha_promotion from epoch 5 on" in answer.out


def test_a_grace_of_the_whole_budget_gives_no_trial_up(coablate, store):
    answer = coablate("plan", "placement", "--data", store.uri, "--trials", 7, "--grace", 1000)
    assert "7 trials sampled by tpe, no trial is pruned; then" in answer.out


@pytest.mark.parametrize("command", ["best", "importance", "report"])
def test_a_folder_without_a_search_has_none_to_show(refused, tmp_path, command):
    refused(command, tmp_path, says=("holds no study",))
