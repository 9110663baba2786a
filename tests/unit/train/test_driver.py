"""The driver's own decisions, without workers: whose a run directory is, and when a run is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.train.checkpoint import CheckpointStore, Position
from moodscale.train.driver import CHECKPOINTS, JOB_FILE, TrainJob, _claim_directory, _committed, train
from tiny import recipe_config

MANIFEST_HASH = "aaaa"


def job(
    directory: Path, seed: int = 0, lr: float = 1e-3, recipe: dict[str, Any] | None = None, **train: Any
) -> TrainJob:
    return validate(
        TrainJob,
        {
            "name": "test",
            "seed": seed,
            "run_dir": str(directory / "run"),
            "manifest": str(directory / "manifest"),
            "recipe": recipe_config(**(recipe or {})).to_json(),
            "optim": {"lr": lr},
            "train": {"use_gpu": False, "phases": [{"schedule": "linear"}, {"schedule": "cosine"}], **train},
        },
    )


def commit(made: TrainJob, step: int, phase: int) -> Path:
    store = made.store()
    (store.prepare(step) / "adapter.safetensors").write_bytes(b"x")
    return store.commit(Position(step, phase, 0, 0, made.seed, 1), {})


def test_a_job_survives_the_trip_to_the_workers(tmp_path: Path) -> None:
    made = job(tmp_path, sampling={"class_balanced": True})
    again = validate(TrainJob, json.loads(json.dumps(made.to_json())), source="train_loop_config")
    assert again == made
    assert again.recipe.to_json()["sizes"] == made.recipe.to_json()["sizes"], "the subclass' own fields came along"


def test_the_first_job_claims_the_directory_and_the_same_one_may_come_back(tmp_path: Path) -> None:
    _claim_directory(job(tmp_path), MANIFEST_HASH)
    before = (tmp_path / "run" / JOB_FILE).read_bytes()
    _claim_directory(job(tmp_path), MANIFEST_HASH)
    assert (tmp_path / "run" / JOB_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 1}, "job.seed"),
        ({"lr": 2e-3}, "job.optim.lr"),
        ({"recipe": {"dropout": 0.5}}, "job.recipe.lora.dropout"),
        ({"effective_batch": 16}, "job.train.effective_batch"),
        ({"phases": [{"schedule": "linear"}]}, "job.train.phases"),
        ({"sampling": {"class_balanced": True}}, "job.train.sampling.class_balanced"),
        ({"engine": {"zero_stage": 3}}, "job.train.engine.zero_stage"),
    ],
)
def test_other_settings_in_the_same_directory_are_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    _claim_directory(job(tmp_path), MANIFEST_HASH)
    with pytest.raises(ConfigError, match="Choose another name, or remove the directory") as caught:
        _claim_directory(job(tmp_path, **changes), MANIFEST_HASH)
    assert str(tmp_path / "run") in str(caught.value)
    assert f"{field} differ" in str(caught.value)


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    _claim_directory(job(tmp_path), MANIFEST_HASH)
    with pytest.raises(ConfigError, match="manifest differ"):
        _claim_directory(job(tmp_path), "bbbb")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_workers": 2},
        {"micro_batch": 4},
        {"num_workers": 4, "micro_batch": 2, "cpus_per_worker": 1, "data_cpus": 1},
        {"max_failures": 9},
        {"log_every_s": 60},
        {"use_gpu": True},
    ],
)
def test_what_does_not_change_results_may_change_under_a_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    _claim_directory(job(tmp_path), MANIFEST_HASH)
    _claim_directory(job(tmp_path, **changes), MANIFEST_HASH)


def test_a_moved_run_directory_is_still_the_same_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    _claim_directory(job(tmp_path / "a"), MANIFEST_HASH)
    (tmp_path / "a").rename(tmp_path / "b")
    _claim_directory(job(tmp_path / "b"), MANIFEST_HASH)


def test_a_run_is_finished_once_its_last_phase_is(tmp_path: Path) -> None:
    made = job(tmp_path)
    assert not made.is_finished()
    commit(made, step=3, phase=1)
    assert not made.is_finished()
    path = commit(made, step=6, phase=2)
    assert made.is_finished()
    (path / "adapter.safetensors").write_bytes(b"y")
    assert not made.is_finished(), "a broken last checkpoint is trained again from the one before"


def test_the_committed_step_is_the_newest_directorys(tmp_path: Path) -> None:
    made = job(tmp_path)
    assert _committed(made) == -1
    commit(made, step=3, phase=0)
    commit(made, step=12, phase=1)
    CheckpointStore(tmp_path / "run" / CHECKPOINTS, 2, "loss").prepare(20)
    assert _committed(made) == 12, "a staged one is not committed"


def test_a_job_without_a_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="moodscale prepare"):
        train(job(tmp_path), tracker=None, spec=None)  # type: ignore[arg-type]  refused before either is touched
    assert not (tmp_path / "run" / JOB_FILE).exists(), "a job that cannot start claims nothing"


def test_a_run_on_object_storage_is_claimed_finished_and_refused_as_on_local_disk(bucket: UPath) -> None:
    made = job(Path("unused")).model_copy(update={"run_dir": str(bucket / "runs" / "test")})
    _claim_directory(made, MANIFEST_HASH)
    _claim_directory(made, MANIFEST_HASH)
    with pytest.raises(ConfigError, match=r"s3://.*/runs/test holds a run with other settings: job\.seed differ"):
        _claim_directory(made.model_copy(update={"seed": 1}), MANIFEST_HASH)
    assert (_committed(made), made.is_finished()) == (-1, False)
    store = made.store()
    (store.prepare(6) / "adapter.safetensors").write_bytes(b"x")
    store.commit(Position(6, 2, 0, 0, made.seed, 1), {}, store.publish(6))
    assert (_committed(made), made.is_finished()) == (6, True)
    again = validate(TrainJob, json.loads(json.dumps(made.to_json())), source="train_loop_config")
    assert again.directory == made.directory == bucket / "runs" / "test"
