"""`prepare` and `extract` on a real S3 endpoint, each killed by SIGKILL: the bits of a local run that was not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from upath import UPath

from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.features.driver import ExtractSummary, extract
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.schema import CorpusError
from object_storage import ObjectStorage, leaks
from tiny_daic import people, write_corpus
from tiny_experiment import SETTINGS, SUPPORT, Runner, Started, wait_for, write_config
from tiny_features import SerialCluster, config, tiny_hubert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NUM_INTERVIEWS = 8
NUM_WINDOWS = NUM_INTERVIEWS * 12
SLOW = tiny_hubert(kind="plugins.slow_hubert", pause_s=0.1)
WINDOWS = {"window_s": 2.0, "context_s": 0.4, "batch_windows": 3, "num_actors": 2}


@dataclass(frozen=True)
class Local:
    """One process, no Ray, no pause, nothing killed."""

    folder: Path
    manifest_hash: str
    features: ExtractSummary

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    def made_of_recordings(self) -> dict[str, bytes]:
        """What a manifest holds beside its own facts (where the corpus lies, when it was made)."""
        return contents(UPath(self.folder / "manifest"), ".parquet", ".wav")

    def parts(self) -> dict[str, bytes]:
        return contents(UPath(self.folder / "features"), ".arrow")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    """Archives whose recordings are unpacked beside the manifest, a manifest, features."""
    folder = tmp_path_factory.mktemp("local")
    sessions = people(NUM_INTERVIEWS, duration_s=23.0)
    for index, session in enumerate(sessions):
        session.audio = np.random.default_rng(index).normal(0, 0.05, (23 * 16_000, 1)).astype(np.float32)
    write_corpus(folder / "corpus", sessions, archives=True)
    settings = PrepareConfig.model_validate(SETTINGS["prepare"])
    made = build_manifest(DaicWozConfig(path=str(folder / "corpus")), settings, UPath(folder / "manifest"))
    manifest = Manifest.open(str(folder / "manifest"))
    features = extract(manifest, config(tiny_hubert()), str(folder / "features"), SerialCluster())
    assert features.num_computed == NUM_WINDOWS
    return Local(folder, made.hash, features)


@pytest.fixture(scope="module")
def cluster(object_storage: ObjectStorage, ray_dir: Path) -> Iterator[dict[str, str]]:
    """One that outlives the drivers that are killed, as what a driver needs to join it.

    Its nodes have the storage's credentials in their own environment.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**object_storage.environment, "PYTHONPATH": str(SUPPORT)}.items():
            patch.setenv(name, value)
        options = {"include_dashboard": False, "log_to_driver": False, "_temp_dir": str(ray_dir)}
        context = ray.init(address="local", num_cpus=2, **options)
        # Ray turns its token on for a cluster of its own; whoever joins must be told.
        token = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH_")}
        yield {"RAY_ADDRESS": context.address_info["gcs_address"], **token}
        ray.shutdown()


@pytest.fixture
def runner(
    local: Local, bucket: UPath, object_storage: ObjectStorage, cluster: dict[str, str], tmp_path: Path
) -> Iterator[Runner]:
    """The command line on a corpus and a storage in the bucket; credentials come from the environment alone."""
    bucket.fs.put(str(local.corpus), (bucket / "corpora" / "daic_woz").path, recursive=True)
    path = write_config(
        tmp_path / "experiment.yaml",
        corpus={"kind": "plugins.slow_daic_woz", "path": str(bucket / "corpora" / "daic_woz")},
        storage_path=str(bucket / "runs"),
        tracking__uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        features={**WINDOWS, "extractors": [SLOW]},
    )
    runner = Runner(tmp_path, path, {**object_storage.environment, **cluster})
    try:
        yield runner
    finally:
        runner.end()


def contents(folder: UPath, *suffixes: str) -> dict[str, bytes]:
    """Bytes of the files below, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.name.endswith(suffixes)
    }


def objects(folder: UPath, suffix: str) -> dict[str, tuple[Any, Any]]:
    """Objects below, by key; one that is uploaded anew has another time, whatever its bytes."""
    found = folder.fs.find(folder.path, detail=True)
    return {key: (one["LastModified"], one["ETag"]) for key, one in found.items() if key.endswith(suffix)}


def kill_when(driver: Started, half_done: Callable[[], bool]) -> None:
    """SIGKILL, and whatever worked for it is gone: from here on nothing is written any more."""
    wait_for(lambda: half_done() or driver.process.poll() is not None, 120.0, fail=False)
    assert half_done(), driver.err.read_text(errors="replace")
    assert driver.process.poll() is None, "it ended before it could be killed"
    assert working()
    driver.kill_driver()
    wait_for(lambda: not working(), 60.0)


def working() -> list[str]:
    """Titles of the cluster's tasks and actors that read a corpus or hold a model."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and "Map" in title:
            found.append(title)
    return found


def test_prepare_and_extract_killed_on_object_storage_end_with_the_bits_of_an_uninterrupted_local_run(
    local: Local, runner: Runner, bucket: UPath, ray_dir: Path, tmp_path: Path
) -> None:
    manifest, store = bucket / "runs" / "tiny" / "manifest", bucket / "runs" / "features"

    first = runner.start("prepare", "corpus.pause_s=0.5")
    kill_when(first, lambda: len(objects(manifest, ".wav")) >= 2)
    assert 2 <= len(objects(manifest, ".wav")) < NUM_INTERVIEWS
    with pytest.raises(CorpusError, match="no manifest"):
        Manifest.open(str(manifest))
    prepared = runner.run("prepare")
    assert prepared.code == 0, prepared.text
    assert prepared.result["hash"] == local.manifest_hash
    assert contents(manifest, ".parquet", ".wav") == local.made_of_recordings()

    first = runner.start("extract")
    kill_when(first, lambda: len(objects(store, ".arrow")) >= 15)
    kept = objects(store, ".arrow")
    assert 15 <= len(kept) < NUM_WINDOWS
    extracted = runner.run("extract", "features.extractors.0.pause_s=0.0")
    assert extracted.code == 0, extracted.text
    assert extracted.result["content_hash"] == local.features.content_hash
    assert extracted.result["num_computed"] == NUM_WINDOWS - len(kept)
    assert kept.items() <= objects(store, ".arrow").items(), "a finished window was computed again"
    assert contents(store, ".arrow") == local.parts()

    bucket.fs.get(bucket.path, str(tmp_path / "bucket"), recursive=True)
    assert (tmp_path / "bucket" / "runs" / "tiny" / "manifest" / "manifest.json").is_file()
    assert any(ray_dir.rglob("*.log"))
    assert leaks(tmp_path, ray_dir) == []
