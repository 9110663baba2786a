"""The loop on real DeepSpeed engines: what must not change the losses, and what must stop a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import run_group, train_once

PHASES = [{"schedule": "linear"}, {"schedule": "cosine"}]


def settings(**changes: Any) -> dict[str, Any]:
    engine = {"zero_stage": 2, "precision": "fp32", **changes.pop("engine", {})}
    return {"phases": PHASES, "engine": engine, "checkpoints": {"every_steps": 2}, **changes}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One worker, eight clips at once, no dropout: the plainest run."""
    directory = tmp_path_factory.mktemp("reference")
    train = settings(micro_batch=8, class_weighting={"scheme": "inverse_frequency"})
    return run_group(1, train_once, str(directory), train, {"dropout": 0.0})[0]


@pytest.mark.parametrize(("workers", "micro_batch"), [(1, 1), (2, 2)])
def test_losses_do_not_depend_on_micro_batch_or_world_size(
    reference: dict[str, Any], tmp_path: Path, workers: int, micro_batch: int
) -> None:
    train = settings(num_workers=workers, micro_batch=micro_batch, class_weighting={"scheme": "inverse_frequency"})
    result = run_group(workers, train_once, str(tmp_path), train, {"dropout": 0.0})[0]
    assert result["losses"].keys() == reference["losses"].keys() == set(range(1, 7))
    for step, loss in reference["losses"].items():
        assert result["losses"][step] == pytest.approx(loss, rel=2e-4)
    assert [m["validation/loss"] for m in result["validation"]] == pytest.approx(
        [m["validation/loss"] for m in reference["validation"]], rel=1e-3
    )


def test_training_lowers_the_loss(reference: dict[str, Any]) -> None:
    losses = reference["losses"]
    assert losses[6] < 0.5 * losses[1]


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_a_stopped_run_resumes_bit_equal_on_two_workers(tmp_path: Path, zero_stage: int) -> None:
    train = settings(num_workers=2, micro_batch=2, engine={"zero_stage": zero_stage})
    whole = run_group(2, train_once, str(tmp_path / "whole"), train)[0]
    first = run_group(2, train_once, str(tmp_path / "cut"), train, None, 20, (), 5)[0]
    assert first["interrupted"]
    second = run_group(2, train_once, str(tmp_path / "cut"), train)[0]
    assert min(second["losses"]) in (4, 5), "at most the checkpoint interval is done again"
    for step, loss in second["losses"].items():
        assert loss == whole["losses"][step]
    for name, values in whole["adapter"].items():
        np.testing.assert_array_equal(values, second["adapter"][name])


def test_the_last_short_batch_of_an_epoch_is_trained_on(tmp_path: Path) -> None:
    result = run_group(2, train_once, str(tmp_path), settings(num_workers=2, micro_batch=2), None, 17)[0]
    assert len(result["losses"]) == 2 * 3, "17 clips are three steps an epoch, the third with one clip"


def test_another_world_size_keeps_the_weights_and_starts_the_optimizer_fresh(tmp_path: Path) -> None:
    run_group(2, train_once, str(tmp_path), settings(num_workers=2, micro_batch=2), None, 20, (), 5)
    resumed = run_group(1, train_once, str(tmp_path), settings(num_workers=1, micro_batch=4))[0]
    assert resumed["position"].phase == 2
    assert min(resumed["losses"]) in (4, 5)
    assert all(np.isfinite(loss) for loss in resumed["losses"].values())


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_a_loss_that_is_no_number_skips_the_step_on_every_rank(tmp_path: Path, zero_stage: int) -> None:
    train = settings(num_workers=2, micro_batch=2, engine={"zero_stage": zero_stage}, max_skipped_steps=2)
    results = run_group(2, train_once, str(tmp_path), train, None, 20, ("train-004",))
    assert results[0]["position"].skipped_steps == 2, "the clip comes once in each of two epochs"
    assert len(results[0]["losses"]) == 4
    assert all(np.isfinite(values).all() for values in results[0]["adapter"].values())


def test_too_many_skipped_steps_stop_the_run_and_keep_a_good_checkpoint(tmp_path: Path) -> None:
    train = settings(num_workers=2, micro_batch=2, max_skipped_steps=0)
    result = run_group(2, train_once, str(tmp_path), train, None, 20, ("train-004",))[0]
    assert "train-004" in result["interrupted"]
    assert "max_skipped_steps=0" in result["interrupted"]
    from moodscale.train.checkpoint import CheckpointStore

    newest = CheckpointStore(tmp_path, 2, "loss").latest()
    assert newest is None or newest.position.skipped_steps == 0


def test_gradient_checkpointing_changes_no_loss(reference: dict[str, Any], tmp_path: Path) -> None:
    train = settings(
        micro_batch=8, engine={"gradient_checkpointing": True}, class_weighting={"scheme": "inverse_frequency"}
    )
    result = run_group(1, train_once, str(tmp_path), train, {"dropout": 0.0})[0]
    assert list(result["losses"].values()) == pytest.approx(list(reference["losses"].values()), rel=1e-4)


def assert_trains_in(precision: str, directory: Path) -> None:
    train = settings(micro_batch=4, engine={"precision": precision})
    result = run_group(1, train_once, str(directory), train)[0]
    assert result["position"].phase == 2
    assert np.isfinite(list(result["losses"].values())).all()


def test_bf16_trains(tmp_path: Path) -> None:
    assert_trains_in("bf16", tmp_path)


def test_fp16_trains_where_the_device_can_compute_in_it_and_names_the_setting_elsewhere(tmp_path: Path) -> None:
    if torch.ops.mkldnn._is_mkldnn_fp16_supported():
        assert_trains_in("fp16", tmp_path)
    else:
        with pytest.raises(RuntimeError, match="precision=fp16: this device cannot"):
            assert_trains_in("fp16", tmp_path)
