"""A manifest of noise and a cluster that is this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_features import SerialCluster, TinyManifest


@pytest.fixture
def manifest(tmp_path: Path) -> TinyManifest:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return TinyManifest(folder)


@pytest.fixture
def cluster() -> SerialCluster:
    return SerialCluster()
