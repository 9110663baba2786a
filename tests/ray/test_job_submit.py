"""`ray job submit` against the local cluster with its token: killed once, submitted again, failed for good."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from plugins.faulty_recipe import happened
from synthesised import Whole
from tiny_experiment import EVERY_STEPS, SUPPORT, last_step, losses, tracked, wait_for, write_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "cluster" / "local" / "cluster.py"


@dataclass
class Cluster:
    environment: dict[str, str]
    clone: Path

    def ray(self, *arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ray", *arguments],
            cwd=self.clone,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def submit(self, config: Path, *options: str) -> subprocess.CompletedProcess[str]:
        job = ("--working-dir", ".", "--runtime-env", "jobs/runtime_env.yaml", *options)
        return self.ray("job", "submit", *job, "--", "python", "jobs/train.py", str(config), "--json")

    def left_over(self, patience_s: float = 60.0) -> list[str]:
        """Actors that live and placement groups that hold resources, once they had time to go."""

        def found() -> list[str]:
            actors = [name for one in self._listed("actors", "ALIVE") if not of_ray_data(name := one["class_name"])]
            return actors + [one["placement_group_id"] for one in self._listed("placement-groups", "CREATED")]

        wait_for(lambda: not found(), patience_s, fail=False)
        return found()

    def _listed(self, what: str, state: str) -> list[dict[str, Any]]:
        done = self.ray("list", what, "--format", "json", "--limit", "1000", "--filter", f"state={state}")
        assert done.returncode == 0, done.stdout + done.stderr
        if done.stdout.startswith("No resource"):
            return []
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


def of_ray_data(class_name: str) -> bool:
    """Ray Data keeps one of each for the whole cluster, whatever jobs come and go."""
    return class_name == "_StatsActor" or class_name.endswith("CoordinatorActor")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    clean["OMP_NUM_THREADS"] = "1"
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    command = [sys.executable, str(CLUSTER)]
    options = ["--nodes", "1", "--cpus-per-node", "3", "--object-store-mib", "200", "--directory", str(directory)]
    subprocess.run([*command, "up", *options], env=clean, check=True, capture_output=True)
    try:
        sourced = f"set -a; . {directory}/env.sh; env -0"
        lines = subprocess.run(["bash", "-c", sourced], env=clean, capture_output=True, text=True, check=True)
        environment = dict(line.split("=", 1) for line in lines.stdout.split("\0") if "=" in line)
        # What is submitted is a clone, with the tests' plug-in where a user's own would lie.
        clone = tmp_path_factory.mktemp("clone")
        shutil.copytree(REPOSITORY / "platform", clone / "platform", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(REPOSITORY / "jobs", clone / "jobs")
        shutil.copytree(SUPPORT / "plugins", clone / "platform" / "plugins")
        yield Cluster(environment, clone)
    finally:
        subprocess.run([*command, "down", "--directory", str(directory)], check=False, capture_output=True)


def config_with(directory: Path, whole: Whole, accidents: list[dict[str, Any]], **changes: Any) -> Path:
    return write_config(
        directory / "experiment.yaml",
        corpus__path="unused",
        manifest=str(whole.manifest),
        storage_path=str(directory / "runs"),
        recipe__kind="plugins.faulty_recipe",
        recipe__accidents=accidents,
        recipe__accidents_dir=str(directory / "accidents"),
        **changes,
    )


def drivers(config: Path) -> list[psutil.Process]:
    """The submitted driver itself, not the shell around it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if (
            str(config) in command
            and any(part.endswith("jobs/train.py") for part in command)
            and "submit" not in command
        ):
            found.append(process)
    return found


def test_a_submitted_job_that_is_killed_continues_when_it_is_submitted_again(
    cluster: Cluster, whole_run: Whole, tmp_path: Path
) -> None:
    config = config_with(tmp_path, whole_run, [{"rank": 0, "call": 12, "what": "hold"}])
    storage = tmp_path / "runs"
    submitted = cluster.submit(config, "--no-wait", "--submission-id", "first")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    wait_for(lambda: happened(tmp_path / "accidents", 0))
    before = wait_for(lambda: found if (found := tracked(storage)).history.get("train/loss") else None)
    (driver,) = drivers(config)
    driver.kill()
    wait_for(lambda: "Job 'first' failed" in (said := cluster.ray("job", "status", "first")).stdout + said.stderr, 120)
    assert cluster.left_over() == []

    done = cluster.submit(config, "--submission-id", "second")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after step 9 of 16" in done.stdout
    assert EVERY_STEPS >= 11 - 9
    expected = losses(whole_run.run_dir)
    assert losses(storage / "tiny") == expected
    run = tracked(storage)
    assert (run.run_id, run.status) == (before.run_id, "FINISHED")
    assert run.history["train/loss"] == expected
    assert cluster.left_over() == []


def test_a_job_that_fails_too_often_ends_with_its_first_cause_and_leaves_nothing_on_the_cluster(
    cluster: Cluster, whole_run: Whole, tmp_path: Path
) -> None:
    accidents = [{"rank": rank, "call": 5, "what": "raise"} for rank in (1, 0)]
    config = config_with(tmp_path, whole_run, accidents, train__max_failures=1)
    done = cluster.submit(config)
    assert done.returncode != 0
    assert "the worker group failed: rank 1: ArithmeticError: accident 0 on rank 1" in done.stdout
    assert "error: the workers failed 2 time(s), train.max_failures=1" in done.stdout
    assert "rank 0: ArithmeticError: accident 1 on rank 0" in done.stdout
    run = tracked(tmp_path / "runs")
    assert run.status == "FAILED"
    assert last_step(tmp_path / "runs" / "tiny") >= 3
    assert set(run.history["train/loss"]) <= set(losses(tmp_path / "runs" / "tiny")), "what was committed is tracked"
    assert cluster.left_over() == []
