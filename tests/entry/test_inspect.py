"""`moodscale inspect` as people start it: a process of its own, exit codes, the last line of stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tiny_manifests import prepared, sessions


def moodscale(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from moodscale.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_report_is_written_beside_the_manifest_and_counted_as_a_read(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "m", sessions(8))
    done = moodscale("inspect", manifest.path, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["page"] == str(tmp_path / "m" / "inspect.html")
    assert result["num_findings"]["doubtful"] == sum(one["level"] == "doubtful" for one in result["findings"])
    assert (tmp_path / "m" / "inspect.html").read_text().startswith("<!doctype html>")
    assert manifest.num_test_reads() == 1
    # What was written does not make the manifest another one.
    assert type(manifest).open(manifest.path).hash == manifest.hash
