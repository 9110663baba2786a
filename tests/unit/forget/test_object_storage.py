"""Everything on a real S3 endpoint over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.features.plan import part_name
from moodscale.features.store import FeatureStore, Part
from moodscale.forget import manifests
from moodscale.forget.forget import Places, forget
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.storage import write_bytes, write_table
from tiny_daic import people, write_corpus


@pytest.mark.parametrize("pseudonymise", [False, True])
def test_a_person_goes_from_objects_as_from_files(
    tmp_path: Path, bucket: UPath, monkeypatch: pytest.MonkeyPatch, pseudonymise: bool
) -> None:
    monkeypatch.setenv("MOODSCALE_PSEUDONYM_KEY", bytes(range(32)).hex())
    sessions = people(8, duration_s=12.0)
    for index, session in enumerate(sessions):
        session.id = f"76{index}4183"
        session.audio = np.random.default_rng(index).uniform(-0.4, 0.4, (192_000, 1)).astype(np.float32)
    local = write_corpus(tmp_path / "corpus", sessions, archives=True)
    for path in local.rglob("*"):
        if path.is_file():
            write_bytes(bucket / "corpus" / path.relative_to(local).as_posix(), path.read_bytes())
    corpus = DaicWozConfig(path=str(bucket / "corpus"))
    run = bucket / "runs" / "tiny"
    settings = validate(PrepareConfig, {"clip_s": 2, "pseudonymise": pseudonymise})
    hash_ = build_manifest(corpus, settings, run / "manifest").hash
    manifest = Manifest.open(str(run / "manifest"))
    row = next(one for one in manifest.interviews("train").to_pylist() if pseudonymise or "4183" in one["person"])
    person = row["person"]
    write_bytes(run / "train.json", json.dumps({"job": {}, "manifest": hash_}).encode())
    write_table(run / "predictions.parquet", pa.table({"person": [person, "daic:1"], "score": [0.5, 0.5]}))
    store = FeatureStore(bucket / "store", "key")
    store.describe({"window_samples": 16_000})
    audio_hash = row["recordings"][0]["audio_hash"]
    for name in (audio_hash, "ab" * 16):
        store.write(part_name(name, 0), Part.of(np.ones((4, 2)), 100.0, 0), {})
    own = person if pseudonymise else "daic:7604183"
    places = Places(
        manifests=(str(run / "manifest"),),
        runs=(str(bucket / "runs"),),
        features=(str(bucket / "store"),),
        corpus=None if pseudonymise else corpus,
    )
    result = forget(own, places, really=True)
    assert {"features", "predictions", "copied files", "manifest"} <= {action.kind for action in result.actions}
    assert [(model.kind, model.split) for model in result.models] == [("run", "train")]
    left = {name: run.fs.cat_file(name) for name in run.fs.find(bucket.path)}
    assert [name for name, data in left.items() if own.encode() in data] == []
    assert pseudonymise or [name for name in left if "7604183" in name] == []
    assert store.sizes().keys() == {part_name("ab" * 16, 0)}
    opened = Manifest.open(str(run / "manifest"))
    assert opened.hash != hash_
    assert read_clip(opened.roots, opened.clips("train").to_pylist()[0]).shape == (32_000,)
    again = forget(own, places, really=True)
    assert (again.found, again.actions, again.models) == (True, (), result.models)


def test_a_bucket_that_is_not_there_is_no_clean_place(bucket: UPath) -> None:
    with pytest.raises(ConfigError, match="there is no bucket"):
        forget("daic:300", Places(manifests=("s3://no-such-bucket-here/m",)))


class Killed(BaseException):
    """As SIGKILL would: no handler of an ordinary error runs."""


def test_killed_at_any_object_and_run_again_it_ends_the_same(
    tmp_path: Path, bucket: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "corpus", people(8, duration_s=12.0))))
    made = tmp_path / "manifest"
    before = build_manifest(corpus, validate(PrepareConfig, {"clip_s": 2}), made).hash
    person = Manifest.open(made).people("train")[0]
    expected, num_killed = set(), 0
    for at in range(1, 20):
        place = bucket / str(at)
        for path in made.iterdir():
            write_bytes(place / path.name, path.read_bytes())
        countdown = at

        def dying(write: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal countdown
                countdown -= 1
                if countdown == 0:
                    raise Killed
                return write(*arguments, **named)

            return call

        places = Places(manifests=(str(place),))
        with monkeypatch.context() as patch:
            patch.setattr(manifests, "write_bytes", dying(manifests.write_bytes))
            patch.setattr(manifests, "write_table", dying(manifests.write_table))
            try:
                forget(person, places, really=True)
            except Killed:
                num_killed += 1
        again = forget(person, places, really=True)
        assert again.found
        assert not (place / manifests.UNDER_WAY_FILE).exists()
        (line,) = (place / manifests.FORGOTTEN_FILE).read_text().splitlines()
        assert json.loads(line)["old_hash"] == before
        assert [name for name in place.fs.find(place.path) if person.encode() in place.fs.cat_file(name)] == []
        expected.add(Manifest.open(str(place)).hash)
        if countdown > 0:
            break
    assert len(expected) == 1
    assert before not in expected
    assert num_killed == 9
