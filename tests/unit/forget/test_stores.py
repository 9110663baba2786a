"""A person's recordings leave the store under every key, and nobody else's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from moodscale.features.driver import extract
from moodscale.forget.stores import find_in_store
from tiny_features import SerialCluster, TinyManifest, config

MEL = {"kind": "log_mel", "num_mels": 8}


@pytest.fixture
def manifest(tmp_path: Path) -> TinyManifest:
    (tmp_path / "corpus").mkdir()
    return TinyManifest(tmp_path / "corpus")


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
    actions = find_in_store(store, mine, [])
    assert [(action.kind, action.number) for action in actions] == [("records", 1), ("features", 4)] * 2
    for action in actions:
        action.do()
    left = [str(path) for path in store.rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if any(digest in path for digest in mine)]
    assert not [path for path in left if any(digest.encode() in UPath(path).read_bytes() for digest in mine)]
    cluster = SerialCluster()
    assert extract(other, config(MEL), str(store), cluster).num_computed == 0
    assert cluster.num_models == 0
    assert find_in_store(store, mine, []) == []


def test_there_is_nothing_to_forget_where_nothing_was_extracted(tmp_path: Path) -> None:
    assert find_in_store(UPath(tmp_path / "none"), ["ab" * 16], ["cd" * 16]) == []
