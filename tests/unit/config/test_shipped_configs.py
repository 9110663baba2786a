"""Every YAML file that ships is an experiment that could be started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moodscale.config import ConfigError, load_config, validate
from moodscale.experiment import Experiment
from moodscale.train.driver import TrainJob

CONFIGS = Path(__file__).parents[3] / "jobs" / "configs"
RECIPES = sorted((CONFIGS / "recipes").rglob("*.yaml"))


def test_the_shipped_configurations_were_found() -> None:
    assert len(RECIPES) >= 3


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_configuration_validates_and_survives_its_own_record(path: Path) -> None:
    experiment = load_config(Experiment, path)
    assert experiment.name == path.stem, "one file a run: the run is found by the file's name"
    recorded = json.loads(json.dumps(experiment.to_json()))
    assert validate(Experiment, recorded) == experiment
    job = experiment.train_job()
    assert validate(TrainJob, json.loads(json.dumps(job.to_json()))) == job
    assert type(validate(TrainJob, job.to_json()).recipe) is type(experiment.recipe)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_misspelt_section_of_a_shipped_configuration_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trian.*unknown key"):
        load_config(Experiment, path, ["trian.micro_batch=1"])


def test_every_base_file_is_the_parent_of_a_shipped_configuration() -> None:
    bases = {path.name for path in (CONFIGS / "base").glob("*.yaml")}
    named = {line.split("/")[-1] for path in RECIPES for line in path.read_text().splitlines() if "defaults:" in line}
    assert bases == named


@pytest.mark.parametrize("name", ["../escape", "", "a/b", ".hidden", "a b", "x" * 101])
def test_a_name_that_would_leave_the_storage_directory_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        load_config(Experiment, RECIPES[0], [f"name='{name}'"])
