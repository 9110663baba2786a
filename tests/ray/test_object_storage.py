"""A whole experiment on a real S3 endpoint, killed once: what a local one gives, and no secret anywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from upath import UPath

from object_storage import ObjectStorage, leaks
from plugins.faulty_recipe import happened
from synthesised import NewRunner, Whole
from tiny_experiment import losses, tracked, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ADAPTER = Path("checkpoints", "step-00000016", "adapter.safetensors")


def downloaded(place: UPath, to: Path) -> Path:
    place.fs.get(place.path, str(to), recursive=True)
    return to


def test_prepare_train_evaluate_and_register_on_object_storage_give_what_they_give_locally(
    new_runner: NewRunner,
    whole_run: Whole,
    speech_corpus: Path,
    ray_dir: Path,
    object_storage: ObjectStorage,
    bucket: UPath,
    tmp_path: Path,
) -> None:
    bucket.fs.put(str(speech_corpus), (bucket / "corpora" / "daic_woz").path, recursive=True)
    storage = bucket / "runs"
    runner = new_runner(
        "s3",
        environment=object_storage.environment,
        corpus__path=str(bucket / "corpora" / "daic_woz"),
        storage_path=str(storage),
        tracking__uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        recipe__kind="plugins.faulty_recipe",
        recipe__accidents=[{"rank": 0, "call": 11, "what": "hold"}],
        recipe__accidents_dir=str(tmp_path / "accidents"),
    )
    prepared = runner.run("prepare")
    assert prepared.code == 0, prepared.text
    assert prepared.result["hash"] == whole_run.prepared.result["hash"]

    first = runner.start("train")
    wait_for(lambda: happened(tmp_path / "accidents", 0))
    # Up to the last checkpoint and not to the step that was reached.
    before = wait_for(lambda: found if len((found := tracked(tmp_path)).history.get("train/loss", ())) == 9 else None)
    first.kill_driver()
    assert first.gone() == []

    again = runner.run("train")
    assert again.code == 0, again.text
    assert f"the driver that held {storage / 'tiny'} (process {first.process.pid}" in again.err
    assert re.findall(r"resuming after step (\d+) of", again.text) == ["9"]
    assert again.result["best_checkpoint"].startswith(f"{storage / 'tiny' / 'checkpoints'}/step-")
    expected = losses(whole_run.run_dir)
    assert losses(storage / "tiny") == expected, "CPU fp32 losses must be bit-equal to the local run's"
    run = tracked(tmp_path)
    assert (run.run_id, run.status) == (before.run_id, "FINISHED")
    assert run.history["train/loss"] == expected
    assert (storage / "tiny" / ADAPTER).read_bytes() == (whole_run.run_dir / ADAPTER).read_bytes()

    evaluated = runner.run("evaluate")
    assert evaluated.code == 0, evaluated.text
    assert evaluated.result["report"] == str(storage / "tiny" / "report.html")
    assert b"<html" in (storage / "tiny" / "report.html").read_bytes()
    registered = runner.run("register")
    assert registered.code == 0, registered.text
    assert registered.result["model_uri"] == "models:/tiny/1"

    copies = downloaded(bucket, tmp_path / "bucket")
    assert (copies / "runs" / "tiny" / "predictions.parquet").is_file()
    assert any(ray_dir.rglob("*.log"))
    assert leaks(copies, tmp_path, runner.directory, ray_dir) == []
