"""Where an experiment's files lie, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moodscale.config import ConfigError, validate
from moodscale.experiment import Experiment
from moodscale.verbs.training import run_key
from tiny_experiment import SETTINGS


def experiment(**changes: Any) -> Experiment:
    corpus = {**SETTINGS["corpus"], "path": "corpus"}
    return validate(Experiment, {**SETTINGS, "corpus": corpus, **changes})


def test_local_paths_are_absolute_and_keep_their_runs_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = experiment(storage_path="runs")
    assert str(relative.run_dir) == str(tmp_path / "runs" / "tiny")
    assert str(relative.manifest_dir) == str(tmp_path / "runs" / "tiny" / "manifest")
    assert run_key(relative) == run_key(experiment(storage_path=str(tmp_path / "runs")))
    assert relative.train_job().run_dir == str(tmp_path / "runs" / "tiny")


def test_uris_reach_the_workers_as_they_are() -> None:
    remote = experiment(storage_path="s3://bucket/runs", manifest="s3://shared/manifests/all")
    job = remote.train_job()
    assert (job.run_dir, job.manifest) == ("s3://bucket/runs/tiny", "s3://shared/manifests/all")
    assert str(job.directory) == job.run_dir


@pytest.mark.parametrize("field", ["storage_path", "manifest"])
def test_credentials_in_a_uri_are_refused_when_the_configuration_is_read_and_not_quoted(field: str) -> None:
    with pytest.raises(ConfigError, match="may not hold credentials") as caught:
        experiment(**{field: "s3://id:canary@bucket/runs"})
    assert "canary" not in str(caught.value)
