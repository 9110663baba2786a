"""A person is forgotten through the real main: shown, then gone; and what is left trains."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from moodscale.prepare.manifest import Manifest
from synthesised import NewRunner, Whole
from tiny_experiment import Runner, contents, losses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run(runner: Runner, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from moodscale.cli import main; main()", "forget", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **runner.environment}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=runner.directory
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


@pytest.fixture(scope="module")
def trained(
    new_runner: NewRunner, whole_run: Whole, speech_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Runner:
    """A copy of the run that nothing interrupted, on a copy of its corpus, with a registered version."""
    corpus = tmp_path_factory.mktemp("own") / "daic_woz"
    shutil.copytree(speech_corpus, corpus)
    runner = new_runner("forget", corpus__path=str(corpus))
    shutil.copytree(whole_run.storage, runner.directory / "runs", symlinks=True)
    client = MlflowClient(f"sqlite:///{runner.directory / 'runs' / 'mlflow.db'}")
    client.create_registered_model("tiny")
    tags = {"moodscale.manifest_hash": whole_run.prepared.result["hash"]}
    client.create_model_version("tiny", str(runner.directory), tags=tags)
    return runner


def test_a_person_who_is_in_no_manifest_is_looked_for_and_not_found(trained: Runner) -> None:
    done = run(trained, "daic:999999", "--runs", str(trained.directory / "runs"), "--yes", "--json")
    assert done.returncode == 1
    assert not result(done)["found"]
    assert "PERSON is nowhere; looked in manifest " in done.stderr
    assert "999999" not in done.stderr
    done = run(trained, "daic:300", "--runs", str(trained.directory / "nowhere"))
    assert done.returncode == 2
    assert "no such folder" in done.stderr


def test_a_person_is_shown_then_gone_and_what_is_left_trains(trained: Runner) -> None:
    storage = trained.directory / "runs"
    manifest = Manifest.open(storage / "tiny" / "manifest")
    person = manifest.people("train")[0]
    number = person.partition(":")[2]
    places = ["--runs", str(storage), "--manifests", str(manifest.path), "--corpus", str(trained.config)]
    before = contents(storage, ignore=(".lock", "mlflow.db"))
    shown = run(trained, person, *places)
    assert shown.returncode == 0, shown.stderr
    assert "would be removed; nothing was changed" in shown.stdout
    assert "models:/tiny/1" in shown.stdout
    assert contents(storage, ignore=(".lock", "mlflow.db")) == before

    done = run(trained, person, *places, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert {one["kind"] for one in result(done)["models"]} == {
        *("run", "checkpoint", "tracked run", "registered version")
    }
    assert result(done)["notes"]
    again = run(trained, person, *places, "--yes", "--json")
    assert (again.returncode, result(again)["actions"]) == (0, [])
    assert result(again)["models"] == result(done)["models"]
    corpus = Path(yaml.safe_load(trained.config.read_text())["corpus"]["path"])
    for folder in (storage, corpus):
        for path in folder.rglob("*"):
            assert f"{number}_" not in path.name
            assert not path.is_file() or person.encode() not in path.read_bytes(), path
    rows = [row for table in corpus.glob("*.csv") for row in table.read_text().splitlines()]
    assert not [row for row in rows if row.startswith(f"{number},")]

    opened = Manifest.open(storage / "tiny" / "manifest")
    assert opened.hash != manifest.hash
    other = trained.run("train", "name=afterwards", f"manifest={opened.path}")
    assert other.code == 0, other.text
    assert losses(storage / "afterwards")
    assert json.loads((storage / "afterwards" / "train.json").read_text())["manifest"] == opened.hash
