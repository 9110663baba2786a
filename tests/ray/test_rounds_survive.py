"""Rounds of pseudo-labels through the real main: whoever is killed and when, the labels and models are the same."""

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

import pytest
import yaml

from moodscale.corpora.synthesize import synthesize
from moodscale.corpora.synthesize.base import SynthesizeConfig
from moodscale.prepare.manifest import Manifest
from moodscale.train.labels import open_labels
from teacher_server import TeacherServer, teacher_server
from tiny_experiment import JOBS, Done, Runner, last_step, losses, wait_for
from tiny_transcripts import SIZES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAME = "talk"
TABLES = ("round-1", "round-2/fold-0", "round-2/fold-1", "round-2")


def settings(root: Path, server: TeacherServer) -> dict[str, Any]:
    return {
        "name": NAME,
        "seed": 2,
        "storage_path": str(root / "runs"),
        "corpus": {"kind": "conversations", "path": str(root.parent / "corpus")},
        "prepare": {
            "transcripts": "as_is",
            "splits": {"kind": "stratified", "validation": 0.2, "test": 0.2, "seed": 0},
            "num_cpus": 2,
        },
        "recipe": {
            "kind": "transcript_severity",
            "model": {"source": "random"},
            "backbone": {"model_type": "llama", "sizes": SIZES["llama"]},
            "instrument": "PHQ-9",
            "context": {"budget_tokens": 128},
            "lora": {"r": 4},
        },
        "optim": {"lr": 5e-3},
        "train": {
            "phases": [{"schedule": "cosine", "epochs": 2}],
            "num_workers": 1,
            "use_gpu": False,
            "cpus_per_worker": 1,
            "data_cpus": 1,
            "effective_batch": 4,
            "micro_batch": 4,
            "engine": {"zero_stage": 2, "precision": "fp32"},
            "checkpoints": {"every_steps": 3},
        },
        "label": {
            "teacher": {
                "kind": "openai_compatible",
                "model": "scripted",
                "base_url": f"{server.url}/v1",
                "api_key_env": None,
                "policy": {"concurrency": 2},
            },
            "folds": 2,
            "rounds": 2,
            "patience": 2,
            "num_orders": 2,
        },
        "tracking": {"kind": "mlflow"},
    }


@dataclass(frozen=True)
class World:
    """A corpus, a prepared and trained experiment, and its rounds that nothing interrupted."""

    root: Path
    server: TeacherServer
    whole: Runner
    done: Done
    asked: dict[str, int]


def runner_in(root: Path, ray_dir: Path, server: TeacherServer) -> Runner:
    root.mkdir(exist_ok=True)
    config = root / "experiment.yaml"
    config.write_text(yaml.safe_dump(settings(root, server)))
    return Runner(root, config, {"RAY_TMPDIR": str(ray_dir)})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, ray_dir: Path) -> Iterator[World]:
    base = tmp_path_factory.mktemp("rounds")
    synthesize(
        "conversations", SynthesizeConfig(out=base / "corpus", num_participants=36, unlabelled_share=0.4, seed=3)
    )
    with teacher_server(latency_s=0.3) as server:
        whole = runner_in(base / "whole", ray_dir, server)
        try:
            for verb in ("prepare", "train"):
                done = whole.run(verb)
                assert done.code == 0, done.text
            shutil.copytree(base / "whole" / "runs", base / "prepared")
            done = whole.run("label")
            assert done.code == 0, done.text
            yield World(base, server, whole, done, server.by_key)
        finally:
            whole.end()


def labels_of(storage: Path) -> dict[str, str]:
    """Hash of every table of labels: rows, their history, and who gave them, models by their weights."""
    manifest = Manifest.open(storage / NAME / "manifest")
    return {name: open_labels(storage / NAME / "label" / name / "labels.parquet", manifest).hash for name in TABLES}


def rounds_of(storage: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((storage / NAME / "label" / "rounds.json").read_text())
    return {key: value for key, value in found.items() if key in ("rounds", "best_round", "best_run", "stopped")}


def test_every_round_has_its_labels_its_model_and_its_run(world: World) -> None:
    from mlflow import MlflowClient

    storage = world.whole.directory / "runs"
    result = world.done.result
    assert [one["round"] for one in result["rounds"]] == [0, 1, 2]
    assert result["teacher"]["num_requests"] == result["teacher"]["num_transcripts"]
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    parents = {run.info.run_name: run.data.tags.get("mlflow.parentRunId") for run in runs}
    assert {name for name, parent in parents.items() if parent == result["run_id"]} == {
        f"{NAME}-round-1", f"{NAME}-round-2", f"{NAME}-round-2-fold-0", f"{NAME}-round-2-fold-1",
    }  # fmt: skip
    assert {run.info.status for run in runs} == {"FINISHED"}
    [parent] = [run for run in runs if run.info.run_id == result["run_id"]]
    assert {"validation/mae", "label/num_pseudo"} <= set(parent.data.metrics)


def test_killed_with_the_teacher_between_rounds_and_in_a_fold_it_pays_once_and_ends_the_same(
    world: World, ray_dir: Path
) -> None:
    root = world.root / "killed"
    root.mkdir()
    shutil.copytree(world.root / "prepared", root / "runs")
    asked_before = world.server.by_key
    runner = runner_in(root, ray_dir, world.server)
    label_dir = root / "runs" / NAME / "label"
    fold = label_dir / "round-2" / "fold-0"
    stored: set[Path] = set()
    try:
        for reached in (
            lambda: len(list((root / "runs" / "answers").rglob("*.answer.json"))) >= 4,
            lambda: (fold / "labels.parquet").is_file(),
            lambda: last_step(fold) >= 4,
        ):
            started = runner.start("label")
            wait_for(lambda reached=reached, started=started: reached() or started.process.poll() is not None)
            assert started.process.poll() is None, started.wait().text
            stored = stored or set((root / "runs" / "answers").rglob("*.answer.json"))
            started.kill_driver()
            assert started.gone() == [], "what it started is gone too"
        done = runner.run("label")
        assert done.code == 0, done.text
    finally:
        runner.end()
    assert labels_of(root / "runs") == labels_of(world.whole.directory / "runs")
    assert rounds_of(root / "runs") == rounds_of(world.whole.directory / "runs")
    for model in (f"{NAME}-round-1", f"{NAME}-round-2", f"{NAME}/label/round-2/fold-0"):
        assert losses(root / "runs" / model) == losses(world.whole.directory / "runs" / model)
    assert_paid_once(world.server.by_key, asked_before, len(stored))


def assert_paid_once(by_key: dict[str, int], before: dict[str, int], num_stored: int) -> None:
    """Both runs asked the same questions: each once a run, but for the two that were on their way at the first kill."""
    again = {key: count - before[key] for key, count in by_key.items()}
    assert num_stored >= 4
    assert sum(again.values()) - len(again) <= 2
    assert set(again.values()) <= {1, 2}
    assert sum(count == 1 for count in again.values()) >= num_stored


def test_finished_it_says_so_and_asks_nobody(world: World) -> None:
    before = world.server.by_key
    done = world.whole.run("label")
    assert done.code == 0, done.text
    assert done.result["already_finished"]
    assert world.server.by_key == before


def test_models_of_true_and_of_pseudo_labels_become_one_that_scores_whoever_is_given(world: World) -> None:
    import pyarrow.parquet as pq

    whole, storage = world.whole, world.whole.directory / "runs"
    manifest = f"manifest={storage / NAME / 'manifest'}"
    for overrides in ((), (f"name={NAME}-round-2", manifest)):
        done = whole.run("evaluate", *overrides)
        assert done.code == 0, done.text
        assert {one["name"] for one in done.result["baselines"]} >= {
            "training mean",
            "training median",
            "TF-IDF + ridge",
        }
    members = f"ensemble={{members: [runs:/{NAME}, runs:/{NAME}-round-2], name: both}}"
    done = whole.run("ensemble", members)
    assert done.code == 0, done.text
    result = done.result
    assert [one["weight"] for one in result["ensemble"]["members"]] == [0.5, 0.5]
    assert [(one["first"], one["second"]) for one in result["comparisons"]] == [("ensemble", NAME)]
    page = Path(result["report"]).read_text()
    assert "Pseudo-label rounds" in page
    assert "https://" not in page
    again = whole.run("ensemble", members)
    assert again.code == 0, again.text
    assert (again.result["already_registered"], again.result["version"]) == (True, result["version"])
    out = world.root / "scores"
    arguments = ["models:/both@candidate", "--manifest", str(storage / NAME / "manifest"), "--out", str(out)]
    arguments += ["--tracking-uri", result["tracking_uri"], "--split", "unlabelled", "--json"]
    scored = subprocess.run(
        [sys.executable, str(JOBS / "score.py"), *arguments],
        env={**os.environ, **whole.environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert scored.returncode == 0, scored.stderr
    rows = pq.read_table(sorted(out.rglob("part-*.parquet"))[0]).to_pylist()
    assert {row["model_version"] for row in rows} == {result["model_version"]}
    assert all(0 <= row["low"] <= row["score"] <= row["high"] <= 27 for row in rows)
    total = json.loads(scored.stdout.splitlines()[-1])
    assert total["num_scored"] == len(Manifest.open(storage / NAME / "manifest").unlabelled())


def test_a_test_person_among_the_pseudo_rows_is_refused_before_training(world: World) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    storage = world.whole.directory / "runs"
    manifest = Manifest.open(storage / NAME / "manifest")
    table = pq.read_table(storage / NAME / "label" / "round-1" / "labels.parquet")
    rows = table.to_pylist()
    person = manifest.people("test")[0]
    [victim] = [row for row in rows if row["provenance"] == "pseudo"][:1]
    path = world.root / "leaking.parquet"
    pq.write_table(pa.Table.from_pylist([*rows, {**victim, "person": person}], table.schema), path)
    done = world.whole.run("train", "name=leaking", f"manifest={manifest.path}", f"labels={path}")
    assert done.code == 2, done.text
    assert victim["interview_id"] in done.err
    assert not (storage / "leaking" / "checkpoints").exists()
