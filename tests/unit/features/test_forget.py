"""A person's recordings leave the store under every key, and nobody else's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from moodscale.features.driver import extract
from moodscale.features.forget import forget_recordings
from tiny_features import SerialCluster, TinyManifest, config

MEL = {"kind": "log_mel", "num_mels": 8}


@pytest.mark.parametrize("remote", [False, True], ids=["local", "object storage"])
def test_forgotten_recordings_are_gone_under_every_key_and_the_others_stay(
    manifest: TinyManifest, tmp_path: Path, remote: bool, request: pytest.FixtureRequest
) -> None:
    store: Any = request.getfixturevalue("bucket") if remote else UPath(tmp_path / "store")
    manifest.add(4.1, 2.0)
    manifest.add(3.0)
    other = TinyManifest(manifest.roots["corpus"], manifest.rows[1:], hash="b" * 32)
    for one in (manifest, other):
        extract(one, config(MEL, {**MEL, "clamp": False}), str(store), SerialCluster())
    mine = [recording["audio_hash"] for recording in manifest.rows[0]["recordings"]]
    assert forget_recordings(store, mine) == 2 * (3 + 1)
    left = [str(path) for path in store.rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if any(digest in path for digest in mine)]
    assert not [path for path in left if any(digest.encode() in UPath(path).read_bytes() for digest in mine)]
    cluster = SerialCluster()
    assert extract(other, config(MEL), str(store), cluster).num_computed == 0
    assert cluster.num_models == 0
    assert forget_recordings(store, mine) == 0


def test_there_is_nothing_to_forget_where_nothing_was_extracted(tmp_path: Path) -> None:
    assert forget_recordings(tmp_path / "none", ["ab" * 16]) == 0
