"""`moodscale extract` on a real local Ray: killed in the middle, resumed, and bit-equal to a run that was not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from moodscale.config import ConfigError
from moodscale.features.driver import extract
from moodscale.features.store import FeatureStore
from moodscale.prepare.manifest import Manifest
from moodscale.schema import CorpusError
from tiny_daic import people, write_corpus
from tiny_experiment import Runner, wait_for, write_config
from tiny_features import SerialCluster, TinyManifest, config, tiny_hubert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NUM_INTERVIEWS = 8
SLOW = tiny_hubert(kind="plugins.slow_hubert", pause_s=0.1)
SETTINGS = {"window_s": 2.0, "context_s": 0.4, "batch_windows": 3, "num_actors": 2}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A prepared corpus of 8 interviews, 22 windows each."""
    directory = tmp_path_factory.mktemp("extract")
    sessions = people(NUM_INTERVIEWS, duration_s=43.0)
    for index, session in enumerate(sessions):
        session.audio = np.random.default_rng(index).normal(0, 0.05, (43 * 16_000, 1)).astype(np.float32)
    write_corpus(directory / "corpus", sessions)
    path = write_config(
        directory / "experiment.yaml",
        corpus__path=str(directory / "corpus"),
        storage_path=str(directory / "runs"),
        features={**SETTINGS, "extractors": [SLOW]},
    )
    runner = Runner(directory, path)
    try:
        prepared = runner.run("prepare")
        assert prepared.code == 0, prepared.text
        yield runner
    finally:
        runner.end()


@pytest.fixture(scope="module")
def expected(runner: Runner) -> dict[str, Any]:
    """The same in one process, without Ray, pauses or interruptions."""
    manifest = Manifest.open(str(runner.directory / "runs" / "tiny" / "manifest"))
    summary = extract(manifest, config(tiny_hubert()), str(runner.directory / "alone"), SerialCluster())
    return summary.to_json()


def parts(store: Path) -> dict[str, tuple[int, int]]:
    """Stored parts; a part that is written anew becomes another file."""
    return {
        str(path.relative_to(store)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in store.rglob("*.arrow")
    }


def actors(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for one in processes:
        try:
            if "MapWorker" in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:
            continue
    return found


def test_a_killed_driver_loses_no_finished_window_and_the_resumed_run_gives_the_same_bits(
    runner: Runner, expected: dict[str, Any]
) -> None:
    store = runner.directory / "killed"
    first = runner.start("extract", f"features.store={store}")
    wait_for(lambda: len(parts(store)) >= 30)
    first.kill_driver()
    assert first.gone() == []
    kept = parts(store)
    num_windows = expected["extractors"][0]["num_parts"]
    assert 30 <= len(kept) < num_windows == NUM_INTERVIEWS * 22

    done = runner.run("extract", f"features.store={store}")
    assert done.code == 0, done.text
    assert done.result["content_hash"] == expected["content_hash"]
    assert done.result["num_computed"] == num_windows - len(kept)
    assert kept.items() <= parts(store).items(), "a finished window was computed again"
    assert f"{num_windows - len(kept)}/{num_windows - len(kept)} windows" in done.err


def test_a_killed_actor_is_replaced_and_the_run_ends_with_the_same_bits(
    runner: Runner, expected: dict[str, Any]
) -> None:
    store = runner.directory / "actor"
    started = runner.start("extract", f"features.store={store}")
    wait_for(lambda: len(parts(store)) >= 10)
    victims = actors(started.ours())
    assert len(victims) == 2
    victims[0].kill()
    done = started.wait()
    assert done.code == 0, done.text
    assert done.result["content_hash"] == expected["content_hash"]
    assert len(parts(store)) == done.result["num_computed"] == expected["extractors"][0]["num_parts"]

    again = runner.run("extract", f"features.store={store}")
    assert (again.code, again.result["num_computed"]) == (0, 0)
    assert "Started a local Ray" not in again.err
    assert again.result["content_hash"] == expected["content_hash"]


def test_no_waveform_and_no_feature_enters_the_object_store_and_features_are_read_by_window(
    runner: Runner, expected: dict[str, Any], tmp_path: Path
) -> None:
    manifest = Manifest.open(str(runner.directory / "runs" / "tiny" / "manifest"))
    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        before = ray.available_resources()["object_store_memory"]
        summary = extract(manifest, config(tiny_hubert(), num_actors=1), str(tmp_path))
        assert ray.is_initialized(), "a cluster that was there before stays"
        assert before - ray.available_resources()["object_store_memory"] < 2**20
    finally:
        ray.shutdown()
    assert context is not None
    assert summary.content_hash == expected["content_hash"], "another number of actors changes no bit"
    record = next(iter(tmp_path.rglob("manifests/*.json")))
    name = min(json.loads(record.read_text())["parts"])
    values, valid = FeatureStore(tmp_path, summary.extractors[0].key).read(name.split("/")[1], 1.5, 2.5)
    assert values.shape == (50, 16)
    assert valid.all()


def test_a_model_that_a_worker_cannot_load_ends_the_run_with_its_own_words(runner: Runner, tmp_path: Path) -> None:
    manifest = Manifest.open(str(runner.directory / "runs" / "tiny" / "manifest"))
    with pytest.raises(ConfigError, match=r"^features\.extractors\.layer=7: the model has hidden states 0 to 2$"):
        extract(manifest, config(tiny_hubert(layer=7), num_actors=1), str(tmp_path))
    assert not ray.is_initialized()


def test_columns_and_their_statistics_are_the_same_on_ray_as_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    manifest = TinyManifest(tmp_path / "corpus")
    draw = np.random.default_rng(0)
    for index in range(4):
        rows = "\n".join(f"{i},0,{i / 10:.1f},1,1,{draw.normal():.5f}" for i in range(50))
        (tmp_path / "corpus" / f"{index}.csv").write_text("frame,face_id,timestamp,confidence,success,x\n" + rows)
        face = {
            "kind": "openface",
            "format": "edaic.openface",
            "root": "corpus",
            "path": f"{index}.csv",
            "recording": 0,
        }
        manifest.add(5.0, split="train" if index else "test", features=[face])
    settings = config({"kind": "columns", "columns": "openface"})
    alone = extract(manifest, settings, str(tmp_path / "alone"), SerialCluster())
    assert extract(manifest, settings, str(tmp_path / "ray")).content_hash == alone.content_hash
    (tmp_path / "corpus" / "1.csv").write_text("frame,face_id,timestamp,confidence,success,x\n0,0,0.0,1,1,word")
    with pytest.raises(CorpusError, match=r"^1\.csv"):
        extract(manifest, settings, str(tmp_path / "ray"))


def test_actors_that_fit_nowhere_are_refused_before_anything_waits(runner: Runner, tmp_path: Path) -> None:
    manifest = Manifest.open(str(runner.directory / "runs" / "tiny" / "manifest"))
    with pytest.raises(ConfigError, match=r"features\.gpus_per_actor=0\.5: the cluster has 0 GPU"):
        extract(manifest, config(tiny_hubert(), gpus_per_actor=0.5), str(tmp_path))
