"""The full-size model, randomly initialised, on a real GPU: clips/s, share of the peak, minutes an epoch, memory."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from moodscale.config import load_config
from moodscale.experiment import Experiment
from moodscale.train.plan import A800, H100
from throughput import Throughput, measure_on_gpu

RECIPES = Path(__file__).parents[2] / "jobs" / "configs" / "recipes"
NEEDED_GB = 60
PEAKS = {"H100": H100, "H200": H100, "A800": A800, "A100": A800}
"""Chips by a part of their name; each pair shares its dense 16-bit peak."""


def memory_gb() -> float:
    return torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0.0


pytestmark = [
    pytest.mark.skipif(memory_gb() < NEEDED_GB, reason=f"needs a CUDA GPU with at least {NEEDED_GB} GB"),
    pytest.mark.slow,
]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("qwen2_audio_daic_woz", []),
        # On one GPU, with what the file itself recommends there.
        ("qwen2_audio_daic_woz_fast", ["train.num_workers=1", "train.micro_batch=8", "train.engine.zero_stage=0"]),
    ],
)
def test_a_shipped_configuration_trains_at_full_size(
    name: str, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = RECIPES / f"{name}.yaml"
    experiment = load_config(Experiment, path, ["recipe.model.source=random", *overrides])
    found = measure_on_gpu(experiment.recipe.to_json(), experiment.train.to_json(), num_steps=10)
    with capsys.disabled():
        print(f"\n{name}: {describe(found, experiment.train.engine.precision)}")
    assert found.peak_gb is not None
    # The plan is what decides whether a job is started: more than it says would be out of memory where it says "fits".
    assert found.peak_gb <= 1.1 * found.planned_gb
    if experiment.train.engine.precision == "bf16":
        assert all(math.isfinite(loss) for loss in found.losses)


def describe(found: Throughput, precision: str) -> str:
    chip = next((gpu for part, gpu in PEAKS.items() if part in found.device), None)
    share = "no known peak" if chip is None else f"{found.tflops / chip.tflops(precision):.1%} of the peak"
    assert found.peak_gb is not None
    ratio = found.peak_gb / found.planned_gb
    return (
        f"{found.clips_per_s:.2f} clips/s on {found.device}, {found.tflops:.0f} TFLOP/s ({share}), "
        f"{found.epoch_minutes:.1f} min an epoch of 7,244 clips; "
        f"memory {found.peak_gb:.1f} GB, planned {found.planned_gb:.1f} GB (ratio {ratio:.2f})"
    )
