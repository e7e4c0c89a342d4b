"""The trials of a search in the journal, and how they are named."""

from dataclasses import replace

import pytest
from made_search import SITES, searched

from coablate_platform.journal.trials import parameters_text
from coablate_platform.study.errors import InputError
from coablate_platform.study.space import Space


def test_trials_are_read_as_they_were_written(tmp_path):
    _, log, scheduler = searched(tmp_path)
    assert log.trials() == scheduler.records


def test_a_damaged_trial_is_a_clear_error(tmp_path):
    _, log, _ = searched(tmp_path, trials=2)
    file = next(iter((tmp_path / "studies" / log.key / "trials").iterdir()))
    file.write_bytes(b"broken")
    with pytest.raises(InputError, match=f"{file} is damaged"):
        log.trials()


def test_a_fusion_site_is_written_by_the_stages_that_it_connects(tmp_path):
    _, log, _ = searched(tmp_path, space=Space({"model.placement": SITES}), sampler="random", trials=20)
    trial = next(trial for trial in log.trials() if len(trial.changes["model.placement"]) == 1)
    site = trial.changes["model.placement"][0]
    stages = f"[(rgb {site['rgb']}, skeleton {site['skeleton']}, channels {site['channels']})]"
    assert parameters_text(trial) == f"model.placement={stages}"


def test_a_trial_that_the_model_refused_is_written_by_its_bare_parameters(tmp_path):
    _, log, _ = searched(tmp_path, trials=2)
    refused = replace(
        log.trials()[0], changes={}, params={"training.learning_rate": 0.123456, "model.tiam": True}, config={}
    )
    assert parameters_text(refused) == "training.learning_rate=0.1235, model.tiam=True"
