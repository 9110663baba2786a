"""Each training benchmark works: on a tiny model it gives finite ratios and equal results. Nothing here measures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "num_ratios", "compared"),
    [
        ("bench_step.py", 6, "losses"),
        ("bench_trainer.py", 2, "losses"),
        ("bench_encoder.py", 1, "encoder"),
        ("bench_stream.py", 4, "features"),
    ],
)
def test_a_quick_run_gives_finite_ratios_and_equal_results(script: str, num_ratios: int, compared: str) -> None:
    command = [sys.executable, str(HERE / script), "--quick", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr[-4000:]
    summary = json.loads(finished.stdout.splitlines()[-1])
    assert len(summary["ratios"]) == num_ratios
    assert all(0 < ratio["ratio"] < math.inf for ratio in summary["ratios"].values())
    assert summary["equal"] is True
    assert summary["differences"].keys() == {compared}
