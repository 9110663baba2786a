"""The store on object storage is the local one: same names, same bits, read by window over HTTP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from moodscale.features.driver import extract
from moodscale.features.plan import part_name
from moodscale.features.store import DamagedPartError, FeatureStore
from object_storage import KEY_ID, SECRET
from tiny_features import SerialCluster, TinyManifest, config

MEL = {"kind": "log_mel", "num_mels": 8}


def test_corpus_and_store_on_object_storage_give_the_local_content_hash(
    manifest: TinyManifest, tmp_path: Path, bucket: UPath
) -> None:
    manifest.add(7.3)
    manifest.add(5.0, rate_hz=8_000, split="test")
    local = extract(manifest, config(MEL), str(tmp_path / "store"), SerialCluster())
    remote = TinyManifest(bucket / "corpus", manifest.rows)
    for path in (tmp_path / "corpus").iterdir():
        (bucket / "corpus" / path.name).write_bytes(path.read_bytes())
    place = str(bucket / "features")
    with pytest.raises(KeyboardInterrupt):
        extract(remote, config(MEL), place, SerialCluster(stop_after=3))
    resumed = extract(remote, config(MEL), place, SerialCluster())
    assert resumed.content_hash == local.content_hash
    assert 0 < resumed.extractors[0].num_present < 7
    cluster = SerialCluster()
    again = extract(remote, config(MEL), place, cluster)
    assert (again.num_computed, cluster.num_models, again.content_hash) == (0, 0, local.content_hash)

    here, there = (FeatureStore(where, local.extractors[0].key) for where in (tmp_path / "store", place))
    assert here.sizes() == there.sizes()
    first = manifest.hashes()[0]
    np.testing.assert_array_equal(there.read(first, 1.5, 6.5)[0], here.read(first, 1.5, 6.5)[0])
    stored = "".join(str(path.read_bytes()) for path in (tmp_path / "store").rglob("*") if path.is_file())
    stored += "".join(str(content) for content in bucket.fs.cat(bucket.fs.find(bucket.path)).values())
    assert SECRET not in stored
    assert KEY_ID not in stored


def test_only_touched_windows_are_fetched_and_a_damaged_one_is_named(manifest: TinyManifest, bucket: UPath) -> None:
    manifest.add(6.0)
    summary = extract(manifest, config(MEL), str(bucket), SerialCluster())
    store = FeatureStore(bucket, summary.extractors[0].key)
    (first,) = manifest.hashes()
    (store.directory / part_name(first, 0)).write_bytes(b"damaged")
    assert store.read(first, 2.0, 6.0)[0].shape == (400, 8)
    with pytest.raises(DamagedPartError, match=r"s3://.*00000\.arrow"):
        store.read(first, 0.0, 1.0)
    assert extract(manifest, config(MEL), str(bucket), SerialCluster()).num_computed == 1
    assert store.read(first, 0.0, 1.0)[0].shape == (100, 8)
