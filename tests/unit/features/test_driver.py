"""Only what is missing is computed, whatever happened before, and the content hash says that it is the same."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from moodscale.config import ConfigError
from moodscale.features.driver import ExtractSummary, extract
from moodscale.features.store import FeatureStore
from moodscale.schema import CorpusError
from tiny_features import SerialCluster, TinyManifest, config, tiny_hubert

MEL = {"kind": "log_mel", "num_mels": 8}


@pytest.fixture
def people(manifest: TinyManifest) -> TinyManifest:
    manifest.add(7.3)
    manifest.add(5.0, 0.5, split="test")
    manifest.add(4.01, split="validation", rate_hz=8_000)
    return manifest


def run(
    manifest: TinyManifest, store: Path, cluster: SerialCluster | None = None, *, extractor: Any = MEL, **changes: Any
) -> ExtractSummary:
    return extract(manifest, config(extractor, **changes), str(store), cluster or SerialCluster())


def parts(store: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(store.rglob("*.arrow"))}


def test_every_window_of_every_recording_is_stored_with_a_record_written_last(
    people: TinyManifest, tmp_path: Path
) -> None:
    summary = run(people, tmp_path / "store")
    (one,) = summary.extractors
    assert (one.num_parts, one.num_computed, one.num_present) == (4 + 3 + 1 + 3, 11, 0)
    record = json.loads((tmp_path / "store" / one.key / "manifests" / f"{people.hash}.json").read_text())
    assert len(record["parts"]) == 11
    assert record["content_hash"] == one.content_hash
    store = FeatureStore(tmp_path / "store", one.key)
    for row in people.rows:
        for recording in row["recordings"]:
            duration_s = recording["num_samples"] / recording["sample_rate_hz"]
            values, valid = store.read(recording["audio_hash"], 0.0, duration_s)
            assert values.shape == (int(duration_s * 100), 8)
            assert valid.all()


def test_a_second_run_computes_nothing_builds_nothing_and_changes_no_file(people: TinyManifest, tmp_path: Path) -> None:
    first = run(people, tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    cluster = SerialCluster()
    second = run(people, tmp_path / "store", cluster)
    assert cluster.num_models == 0
    assert (second.num_computed, second.content_hash) == (0, first.content_hash)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}


@pytest.mark.parametrize("extractor", [MEL, tiny_hubert()], ids=["log_mel", "hubert"])
@pytest.mark.parametrize("stop_after", [0, 1, 4, 10])
def test_a_run_cut_off_anywhere_is_resumed_to_the_same_bits_and_keeps_what_it_had(
    people: TinyManifest, tmp_path: Path, stop_after: int, extractor: Any
) -> None:
    whole = run(people, tmp_path / "whole", extractor=extractor)
    with pytest.raises(KeyboardInterrupt):
        run(people, tmp_path / "cut", SerialCluster(stop_after), extractor=extractor)
    kept = parts(tmp_path / "cut")
    assert not list((tmp_path / "cut").rglob("manifests/*.json"))
    resumed = run(people, tmp_path / "cut", extractor=extractor)
    assert resumed.content_hash == whole.content_hash
    assert resumed.num_computed == 11 - len(kept)
    assert kept.items() <= parts(tmp_path / "cut").items(), "a finished part is never written again"


def test_a_group_with_anything_missing_is_computed_whole_and_no_other(people: TinyManifest, tmp_path: Path) -> None:
    first = run(people, tmp_path / "store")
    gone = Path(sorted(parts(tmp_path / "store"))[0])
    gone.unlink()
    cluster = SerialCluster()
    again = run(people, tmp_path / "store", cluster)
    (group,) = cluster.groups
    assert str(gone).endswith(group.wanted[0])
    assert len(group.wanted) == 1
    assert (again.num_computed, again.content_hash) == (1, first.content_hash)


@pytest.mark.parametrize(("verify", "noticed"), [(False, False), (True, True)])
def test_a_flipped_bit_is_found_and_repaired_when_asked_to_verify(
    people: TinyManifest, tmp_path: Path, verify: bool, noticed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first = run(people, tmp_path / "store")
    path = Path(sorted(parts(tmp_path / "store"))[3])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    again = run(people, tmp_path / "store", verify=verify)
    assert (again.extractors[0].num_damaged, again.num_computed) == (int(noticed), int(noticed))
    assert again.content_hash == first.content_hash
    if noticed:
        assert path.name in caplog.text
        assert run(people, tmp_path / "store", verify=True).num_computed == 0


@pytest.mark.parametrize("recorded", [True, False], ids=["after a finished run", "after a killed one"])
def test_a_truncated_part_is_found_without_being_asked(people: TinyManifest, tmp_path: Path, recorded: bool) -> None:
    first = run(people, tmp_path / "store")
    path = Path(sorted(parts(tmp_path / "store"))[3])
    path.write_bytes(path.read_bytes()[:-1])
    if not recorded:
        next((tmp_path / "store").rglob("manifests/*.json")).unlink()
    again = run(people, tmp_path / "store")
    assert (again.extractors[0].num_damaged, again.num_computed) == (1, 1)
    assert again.content_hash == first.content_hash


def test_a_damaged_record_costs_a_check_and_no_computing(people: TinyManifest, tmp_path: Path) -> None:
    first = run(people, tmp_path / "store")
    record = next((tmp_path / "store").rglob("manifests/*.json"))
    record.write_text(record.read_text().replace('"num_bytes": ', '"num_bytes": 1'))
    cluster = SerialCluster()
    assert run(people, tmp_path / "store", cluster).content_hash == first.content_hash
    assert cluster.num_models == 0


def test_another_manifest_with_some_of_the_audio_computes_the_rest(people: TinyManifest, tmp_path: Path) -> None:
    run(people, tmp_path / "store")
    kept = parts(tmp_path / "store")
    larger = TinyManifest(people.roots["corpus"], people.rows, hash="b" * 32)
    larger.add(2.5)
    summary = run(larger, tmp_path / "store")
    assert (summary.extractors[0].num_present, summary.num_computed) == (11, 2)
    assert kept.items() <= parts(tmp_path / "store").items()


def test_splits_are_extracted_one_by_one_into_the_same_store(people: TinyManifest, tmp_path: Path) -> None:
    assert run(people, tmp_path / "store", splits=["train"]).num_computed == 4
    assert run(people, tmp_path / "store").num_computed == 7


def test_a_recording_that_is_gone_costs_its_windows_and_the_run_says_which(
    people: TinyManifest, tmp_path: Path
) -> None:
    gone = Path(str(people.roots["corpus"] / "1_0.wav"))
    data = gone.read_bytes()
    gone.unlink()
    with pytest.raises(CorpusError, match=r"(?s)could not be read.*1_0\.wav") as refused:
        run(people, tmp_path / "store", batch_windows=1)
    assert "8 windows are stored" in str(refused.value)
    assert not list((tmp_path / "store").rglob("manifests/*.json"))
    gone.write_bytes(data)
    assert run(people, tmp_path / "store", batch_windows=1).num_computed == 3


def test_interviews_that_were_never_recorded_are_named(people: TinyManifest, tmp_path: Path) -> None:
    people.add()
    (one,) = run(people, tmp_path / "store").extractors
    assert one.missing == {"audio": ("tiny:3",)}
    assert one.num_parts == 11


def test_progress_shows_counts_and_nothing_of_a_recording(
    people: TinyManifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "moodscale"):
        run(people, tmp_path / "store")
    assert "11/11 windows" in caplog.text
    assert not [digest for digest in people.hashes() if digest in caplog.text]


def test_a_run_without_extractors_is_refused_with_an_example(people: TinyManifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"features\.extractors.*log_mel"):
        extract(people, config(), str(tmp_path), SerialCluster())


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"context_s": 0.41}, "context_s"), ({"gpus_per_actor": 1.5}, "gpus_per_actor"), ({"splits": []}, "splits")],
)
def test_settings_that_cannot_work_are_refused_by_name(changes: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        config(MEL, **changes)
