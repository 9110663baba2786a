"""The measurement of ``tests/gpu``, on a tiny model here: what it reports is what ran."""

from __future__ import annotations

import math

import pytest

from throughput import PUBLISHED_CLIPS, measure
from tiny import recipe_config, run_group


def test_the_measurement_runs_the_real_loop_and_reports_its_rate() -> None:
    train = {"use_gpu": False, "effective_batch": 4, "micro_batch": 2, "engine": {"precision": "bf16"}}
    [found] = run_group(1, measure, recipe_config().to_json(), train, 3)
    assert len(found.losses) == 2 + 3, "warm-up and measured steps"
    assert all(math.isfinite(loss) for loss in found.losses)
    assert found.clips_per_s > 0
    assert found.epoch_minutes == pytest.approx(PUBLISHED_CLIPS / found.clips_per_s / 60)
    assert found.tflops == pytest.approx(found.clips_per_s * found.tflop_per_clip)
    assert (found.peak_gb, found.device) == (None, "CPU")
    assert found.planned_gb > 0
