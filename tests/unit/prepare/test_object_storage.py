"""A corpus and its manifest on a real S3 endpoint over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.corpora.base import CorpusConfig
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest, prepare_serially
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import PreparedInterview
from moodscale.prepare.manifest import Manifest
from moodscale.schema import CorpusError
from moodscale.storage import location
from object_storage import KEY_ID, SECRET
from tiny_daic import people, write_corpus

SETTINGS = validate(PrepareConfig, {"clip_s": 2})


@pytest.fixture(params=[False, True], ids=["folders", "archives"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", people(8, duration_s=20.0), archives=request.param)


def upload(folder: Path, bucket: UPath) -> UPath:
    for path in folder.rglob("*"):
        if path.is_file():
            (bucket / "corpus" / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())
    return bucket / "corpus"


def everything_in(folder: UPath) -> dict[str, bytes]:
    return {name: folder.fs.cat_file(name) for name in folder.fs.find(folder.path)}


def test_a_manifest_on_object_storage_is_the_local_one_and_its_clips_decode_alike(local: Path, bucket: UPath) -> None:
    here = build_manifest(DaicWozConfig(path=str(local)), SETTINGS, location(local.parent / "m"))
    corpus = DaicWozConfig(path=str(upload(local, bucket)))
    there = build_manifest(corpus, SETTINGS, bucket / "m")
    assert there.hash == here.hash
    assert build_manifest(corpus, SETTINGS, bucket / "m").reused
    one, other = Manifest.open(local.parent / "m"), Manifest.open(str(bucket / "m"))
    for row in one.clips("train").to_pylist()[:3]:
        assert (read_clip(one.roots, row) == read_clip(other.roots, row)).all()
    assert not [
        name for name, data in everything_in(bucket / "m").items() if SECRET.encode() in data or KEY_ID.encode() in data
    ]


def test_what_a_killed_job_left_is_no_manifest_and_is_written_over(local: Path, bucket: UPath) -> None:
    corpus = DaicWozConfig(path=str(local))

    def dies(
        corpus: CorpusConfig, config: PrepareConfig, ids: Sequence[str], out: UPath
    ) -> Iterator[PreparedInterview]:
        yield from prepare_serially(corpus, config, ids[:3], out)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_manifest(corpus, SETTINGS, bucket / "m", dies)
    with pytest.raises(CorpusError, match="no manifest"):
        Manifest.open(bucket / "m")
    made = build_manifest(corpus, SETTINGS, bucket / "m")
    assert Manifest.open(bucket / "m").hash == made.hash
    assert not [name for name in everything_in(bucket / "m") if name.endswith(".unfinished")]


def test_a_folder_of_something_else_and_another_manifest_are_left_alone(local: Path, bucket: UPath) -> None:
    corpus = DaicWozConfig(path=str(local))
    (bucket / "taken" / "thesis.txt").write_bytes(b"mine")
    with pytest.raises(CorpusError, match="is no manifest"):
        build_manifest(corpus, SETTINGS, bucket / "taken")
    build_manifest(corpus, SETTINGS, bucket / "m")
    before = everything_in(bucket / "m")
    with pytest.raises(CorpusError, match=r"other settings \(prepare.clip_s\)"):
        build_manifest(corpus, validate(PrepareConfig, {"clip_s": 3}), bucket / "m")
    assert everything_in(bucket / "m") == before


def test_reads_of_the_test_split_are_counted_there_too(local: Path, bucket: UPath) -> None:
    build_manifest(DaicWozConfig(path=str(local)), SETTINGS, bucket / "m")
    manifest = Manifest.open(bucket / "m")
    assert manifest.num_test_reads() == 0
    manifest.clips("test", reader="evaluate")
    manifest.interviews("test", reader="inspect")
    assert Manifest.open(bucket / "m").num_test_reads() == 2
    lines: list[dict[str, Any]] = [
        json.loads(data) for name, data in everything_in(bucket / "m" / "test_reads").items()
    ]
    assert {line["reader"] for line in lines} == {"evaluate", "inspect"}


@pytest.mark.parametrize("place", ["s3://key:canary@bucket/corpus", "s3://bucket/corpus?secret=canary"])
def test_credentials_in_a_uri_are_refused_and_not_shown(place: str) -> None:
    with pytest.raises(ConfigError, match="set them in the environment") as error:
        DaicWozConfig(path=place).open()
    assert "canary" not in str(error.value)
