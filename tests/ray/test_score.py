"""Scoring on a real local Ray: killed in the middle, resumed, and equal to a run that was not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import ray
import torch

from moodscale.config import ConfigError, validate
from moodscale.evaluate.table import read_predictions
from moodscale.registry.config import RegistryConfig
from moodscale.registry.judgement import Judgement
from moodscale.registry.package import MODEL_FILE
from moodscale.registry.register import pack_job
from moodscale.registry.score import score
from moodscale.registry.score_parts import Part
from moodscale.registry.score_worker import Line, Work, Worker
from moodscale.registry.serving.base import serving_for
from moodscale.train.driver import TrainJob
from moodscale.train.predict_job import best_checkpoint
from plugins.slow_transcripts import SlowTranscriptsConfig
from tiny_experiment import SUPPORT, Done, Started, wait_for
from tiny_registry import write_checkpoint
from tiny_severity import (
    CANARY,
    NUM_LABELLED,
    NUM_UNLABELLED,
    RECIPE,
    chat_manifest,
    score_with,
    severity_job,
    write_chats,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NUM_INTERVIEWS = NUM_LABELLED + NUM_UNLABELLED
BATCH = 2
NUM_PARTS = -(-NUM_INTERVIEWS // BATCH)
_SCRIPT = """
import json, logging, sys
logging.basicConfig(level=logging.INFO)
from moodscale.registry.score import score
print(json.dumps(score(**json.loads(sys.argv[1])).to_json()))
"""


class Jobs:
    """A package of a slow model beside a manifest, and processes that score it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = chat_manifest(directory / "run" / "manifest", write_chats(directory / "corpus"))
        self.package = directory / "package"
        self.started: list[Started] = []
        job = self._job()
        self._pack(job, score_with(job, write_checkpoint(job, 3, scale=0.3), directory / "predictions.parquet"))

    def _job(self) -> TrainJob:
        job = severity_job(self.directory / "run", self.directory / "run" / "manifest")
        slow = validate(SlowTranscriptsConfig, {**RECIPE, "kind": "plugins.slow_transcripts"})
        return job.model_copy(update={"recipe": slow})

    def _pack(self, job: TrainJob, version: str) -> None:
        recipe = job.recipe.build()
        name, serving = serving_for(recipe)
        judgement = Judgement("pass", (), (version,), target="total")
        point = serving.operating_point(
            judgement, read_predictions(self.directory / "predictions.parquet"), RegistryConfig()
        )
        self.package.mkdir()
        best = best_checkpoint(job)
        pack_job(job, recipe, best, self.manifest, judgement, version, name, serving, point, self.package)

    def arguments(self, out: Path, **more: Any) -> dict[str, Any]:
        return {
            "model": str(self.package), "tracking_uri": "", "manifest_dir": str(self.manifest.path), "out": str(out),
            "batch": BATCH, "num_workers": 2, **more,
        }  # fmt: skip

    def start(self, out: Path) -> Started:
        number = len(self.started)
        mark = hashlib.sha256(f"{self.directory}{number}{time.time_ns()}".encode()).hexdigest()[:16]
        stdout, stderr = self.directory / f"{number}.out", self.directory / f"{number}.err"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
        with stdout.open("wb") as written, stderr.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", _SCRIPT, json.dumps(self.arguments(out))],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=said,
                env={**kept, "OMP_NUM_THREADS": "1", "MOODSCALE_TEST_RUN": mark, "PYTHONPATH": str(SUPPORT)},
                cwd=self.directory,
                start_new_session=True,
            )
        self.started.append(Started(process, stdout, stderr, mark))
        return self.started[-1]

    def run(self, out: Path) -> Done:
        return self.start(out).wait()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    with pytest.MonkeyPatch.context() as patch:
        # Workers of a Ray that a test starts look for the plug-in there.
        patch.setenv("PYTHONPATH", str(SUPPORT))
        made = Jobs(tmp_path_factory.mktemp("score"))
        try:
            yield made
        finally:
            for one in made.started:
                one.end()


@pytest.fixture(scope="module")
def expected(jobs: Jobs) -> dict[str, dict[str, Any]]:
    """The same in one process, without Ray or interruptions."""

    def here(work: Work, parts: list[Part]) -> Iterator[Line]:
        worker = Worker(work)
        worker.model.loaded.recipe.config = worker.model.facts.recipe.model_copy(update={"pause_s": 0.0})  # type: ignore[attr-defined]
        return (worker.run(part) for part in parts)

    threads = torch.get_num_threads()
    score(**jobs.arguments(jobs.directory / "alone", run=here))
    torch.set_num_threads(threads)
    return rows_of(jobs.directory / "alone")


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    """Scores by interview; an interview that is there twice fails."""
    rows = [row for path in sorted((out / "parts").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    found = {row["interview_id"]: {**row, "scored_at": ""} for row in rows}
    assert len(found) == len(rows)
    return found


def parts(out: Path) -> dict[str, tuple[int, int]]:
    """Stored parts; one that is written anew becomes another file."""
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.glob("parts/part-*.parquet")}


def actors(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for one in processes:
        try:
            if "MapWorker" in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:
            continue
    return found


def test_a_killed_driver_loses_no_finished_part_and_the_resumed_run_gives_the_same_scores(
    jobs: Jobs, expected: dict[str, dict[str, Any]]
) -> None:
    out = jobs.directory / "killed"
    first = jobs.start(out)
    wait_for(lambda: len(parts(out)) >= 3 or first.process.poll() is not None)
    first.kill_driver()
    assert first.gone() == []
    kept = parts(out)
    assert 3 <= len(kept) < NUM_PARTS
    assert not (out / "score.json").exists()

    done = jobs.run(out)
    assert done.code == 0, done.text
    assert done.result["num_computed"] == NUM_PARTS - len(kept)
    assert kept.items() <= parts(out).items(), "a finished part was scored again"
    assert_same(rows_of(out), expected)
    assert CANARY not in done.text
    assert "conv:u" not in done.text

    before = parts(out)
    again = jobs.run(out)
    assert (again.code, again.result["already_finished"], again.result["num_computed"]) == (0, True, 0)
    assert parts(out) == before
    assert "Started a local Ray" not in again.err


def test_a_killed_actor_is_replaced_and_every_interview_is_scored_once(
    jobs: Jobs, expected: dict[str, dict[str, Any]]
) -> None:
    out = jobs.directory / "actor"
    started = jobs.start(out)
    wait_for(lambda: len(parts(out)) >= 2 or started.process.poll() is not None)
    victims = actors(started.ours())
    assert len(victims) == 2
    victims[0].kill()
    done = started.wait()
    assert done.code == 0, done.text
    assert done.result["num_scored"] == NUM_INTERVIEWS
    assert_same(rows_of(out), expected)


def test_what_a_worker_refuses_and_what_fits_nowhere_ends_the_run_with_its_own_words(
    jobs: Jobs, tmp_path: Path
) -> None:
    package = Path(shutil.copytree(jobs.package, tmp_path / "package"))
    facts = json.loads((package / MODEL_FILE).read_text())
    facts["recipe"]["model"]["init_seed"] = 9
    (package / MODEL_FILE).write_text(json.dumps(facts))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(ConfigError, match=r"^the base model's weights are not those that severe@"):
            score(**jobs.arguments(tmp_path / "out", model=str(package)))
        with pytest.raises(ConfigError, match=r"gpus_per_worker=0\.5: the cluster has 0 GPU"):
            score(**jobs.arguments(tmp_path / "other", gpus_per_worker=0.5))
        assert ray.is_initialized(), "a cluster that was there before stays"
    finally:
        ray.shutdown()


def assert_same(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> None:
    assert found.keys() == expected.keys()
    for name, row in found.items():
        for column, value in row.items():
            wanted = expected[name][column]
            assert value == (pytest.approx(wanted, abs=1e-4) if isinstance(value, float | list) else wanted), column
