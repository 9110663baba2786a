"""The benchmark of asking a teacher works: every turn labels everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_quick_run_labels_everything_at_every_concurrency() -> None:
    command = [sys.executable, str(Path(__file__).parent / "bench_teacher.py"), "--quick", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr[-4000:]
    measured = json.loads(finished.stdout.splitlines()[-1])
    assert {name for name in measured["ratios"] if name.endswith("over ideal")} == {
        "concurrency 1 over ideal",
        "concurrency 8 over ideal",
        "concurrency 32 over ideal",
    }
    assert all(0 < ratio["ratio"] <= 1.05 for name, ratio in measured["ratios"].items() if name.endswith("over ideal"))
