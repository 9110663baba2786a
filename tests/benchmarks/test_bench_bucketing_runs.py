"""The benchmark of length buckets works: both ways give the same losses, and buckets leave less padding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_quick_run_gives_equal_losses_and_less_padding() -> None:
    command = [sys.executable, str(Path(__file__).parent / "bench_bucketing.py"), "--quick", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-4000:]
    measured = json.loads(finished.stdout.splitlines()[-1])
    assert measured["equal"]
    assert measured["padding"]["bucketed"] < measured["padding"]["plain"]
    assert min(measured["tokens_per_s"].values()) > 0
