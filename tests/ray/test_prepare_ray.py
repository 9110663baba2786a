"""Preparing on a real local Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from moodscale.config import validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.driver import prepare
from moodscale.prepare.manifest import Manifest
from tiny_daic import people, write_corpus

pytestmark = pytest.mark.slow


@pytest.fixture
def running_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def settings(**changes: Any) -> PrepareConfig:
    return validate(PrepareConfig, {"clip_s": 2, "max_quarantined_fraction": 0.2, **changes})


@pytest.mark.usefixtures("running_ray")
def test_a_cluster_makes_the_manifest_that_one_process_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = people(16, duration_s=20.0)
    sessions[3].audio = b"RIFF"
    write_corpus(tmp_path / "corpus", sessions, archives=True)
    monkeypatch.chdir(tmp_path)
    corpus = DaicWozConfig(path="corpus")
    on_ray = prepare(corpus, settings(), "on_ray")
    assert build_manifest(corpus, settings(), tmp_path / "alone").hash == on_ray.hash
    assert [interview for interview, _ in on_ray.quarantined] == ["503"]
    manifest = Manifest.open(tmp_path / "on_ray")
    manifest.check_people_disjoint()
    assert read_clip(manifest.roots, manifest.clips("train").to_pylist()[0]).shape == (32_000,)
    assert ray.is_initialized()


def test_without_ray_the_driver_starts_one_and_stops_it_and_a_second_run_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "corpus", people(8, duration_s=20.0))))
    assert not ray.is_initialized()
    first = prepare(corpus, settings(num_cpus=1), tmp_path / "m")
    assert not first.reused
    assert not ray.is_initialized()

    def no_ray(*_: Any, **__: Any) -> None:
        raise AssertionError("Ray was started for a run that had nothing to do")

    monkeypatch.setattr(ray, "init", no_ray)
    assert prepare(corpus, settings(), tmp_path / "m").reused
