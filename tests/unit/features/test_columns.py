"""Columns of feature files: normalised by the training split alone, masked, streamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodscale.features.driver import extract
from moodscale.features.statistics import Moments, Statistics, merge_all
from moodscale.features.store import FeatureStore
from moodscale.schema import CorpusError
from tiny_features import SerialCluster, TinyManifest, config

HZ = 10
COLUMNS = ("x", "y", "z")


def write_face(manifest: TinyManifest, name: str, values: np.ndarray[Any, Any], success: Any = 1) -> dict[str, Any]:
    """An OpenFace table of ten frames a second; returns its line of the manifest."""
    ok = np.broadcast_to(success, len(values))
    lines = ["frame,face_id,timestamp,confidence,success," + ",".join(COLUMNS)]
    lines += [f"{i},0,{i / HZ:.3f},0.9,{ok[i]}," + ",".join(f"{v:.6f}" for v in row) for i, row in enumerate(values)]
    Path(str(manifest.roots["corpus"] / name)).write_text("\n".join(lines) + "\n")
    return {"kind": "openface", "format": "edaic.openface", "root": "corpus", "path": name, "recording": 0}


def draw(num_frames: int, seed: int, shift: float = 0.0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(shift, [1.0, 5.0, 0.1], (num_frames, 3))


@pytest.fixture
def people(manifest: TinyManifest) -> TinyManifest:
    """Two to train on, one to test on, and one without a face."""
    for index, (duration_s, split) in enumerate(((5.0, "train"), (3.0, "train"), (4.5, "test"))):
        face = write_face(manifest, f"{index}.csv", draw(round(duration_s * HZ), index, shift=index))
        manifest.add(duration_s, split=split, features=[face])
    manifest.add(2.0, split="test", missing=["openface"])
    return manifest


def columns(manifest: TinyManifest, store: Path, **changes: Any) -> tuple[Any, FeatureStore, SerialCluster]:
    cluster = SerialCluster()
    summary = extract(manifest, config({"kind": "columns", "columns": "openface"}, **changes), str(store), cluster)
    return summary.extractors[0], FeatureStore(store, summary.extractors[0].key), cluster


def test_columns_are_normalised_by_training_frames_alone(people: TinyManifest, tmp_path: Path) -> None:
    _, store, _ = columns(people, tmp_path / "store")
    train = np.concatenate([draw(50, 0), draw(30, 1, 1)])
    mean, std = train.mean(axis=0), train.std(axis=0)
    hashes = people.hashes()
    found = np.concatenate([store.read(hashes[0], 0, 5)[0], store.read(hashes[1], 0, 3)[0]])
    np.testing.assert_allclose(found, (train - mean) / std, atol=4e-3)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(store.read(hashes[2], 0, 4.5)[0], (draw(45, 2, 2) - mean) / std, atol=2e-2)


def test_another_test_split_leaves_every_training_feature_as_it_is(people: TinyManifest, tmp_path: Path) -> None:
    before, _, _ = columns(people, tmp_path / "one")
    write_face(people, "2.csv", draw(45, 99, shift=1000))
    after, _, _ = columns(people, tmp_path / "two")
    assert after.key == before.key
    assert after.content_hash != before.content_hash
    only_train = columns(people, tmp_path / "three", splits=["train"])[0]
    write_face(people, "0.csv", draw(50, 99))
    assert columns(people, tmp_path / "four", splits=["train"])[0].key != only_train.key


def test_an_extraction_of_the_test_split_alone_is_normalised_by_the_training_split(
    people: TinyManifest, tmp_path: Path
) -> None:
    every, _, _ = columns(people, tmp_path / "store")
    alone, _, _ = columns(people, tmp_path / "store", splits=["test"])
    assert alone.key == every.key
    assert alone.num_computed == 0


def test_an_interview_without_the_file_has_no_part_and_is_named(people: TinyManifest, tmp_path: Path) -> None:
    done, store, _ = columns(people, tmp_path / "store")
    assert done.missing == {"openface": ("tiny:3",)}
    assert done.num_parts == 3 + 2 + 3
    with pytest.raises(CorpusError, match="no such part"):
        store.read(people.hashes()[3], 0, 1)


def test_frames_that_failed_are_zero_and_masked_and_count_for_nothing(manifest: TinyManifest, tmp_path: Path) -> None:
    values = draw(50, 0)
    broken = values.copy()
    broken[10:20] = 1e6
    success = np.ones(50, int)
    success[10:20] = 0
    manifest.add(5.0, features=[write_face(manifest, "0.csv", broken, success)])
    _, store, _ = columns(manifest, tmp_path / "store")
    found, valid = store.read(manifest.hashes()[0], 0, 5)
    assert np.flatnonzero(~valid).tolist() == list(range(10, 20))
    assert not found[~valid].any()
    kept = values[valid]
    np.testing.assert_allclose(found[valid], (kept - kept.mean(axis=0)) / kept.std(axis=0), atol=4e-3)


def test_a_video_that_ends_early_leaves_windows_without_frames_and_a_late_one_is_kept(
    manifest: TinyManifest, tmp_path: Path
) -> None:
    manifest.add(6.0, features=[write_face(manifest, "0.csv", draw(25, 0))])
    manifest.add(4.0, features=[write_face(manifest, "1.csv", draw(47, 1))])
    _, store, _ = columns(manifest, tmp_path / "store")
    early, late = manifest.hashes()
    assert store.read(early, 0, 6)[0].shape == (25, 3)
    assert store.read(early, 4, 6)[0].shape == (0, 3)
    assert store.read(late, 0, 4)[0].shape == (40, 3)


def test_a_second_run_reads_no_file_and_a_changed_file_is_computed_again(people: TinyManifest, tmp_path: Path) -> None:
    first, _, _ = columns(people, tmp_path / "store")
    again, _, cluster = columns(people, tmp_path / "store")
    assert (again.num_computed, cluster.mapped, cluster.num_models) == (0, 0, 0)
    assert again.content_hash == first.content_hash
    write_face(people, "2.csv", draw(44, 5))
    changed, store, cluster = columns(people, tmp_path / "store")
    assert (changed.key, changed.num_computed, cluster.mapped) == (first.key, 3, 0)
    assert store.read(people.hashes()[2], 0, 4.5)[0].shape == (44, 3)


def test_kept_statistics_that_were_damaged_are_computed_again(people: TinyManifest, tmp_path: Path) -> None:
    first, _, _ = columns(people, tmp_path / "store")
    (kept,) = (tmp_path / "store" / "statistics").iterdir()
    content = json.loads(kept.read_text())
    content["statistics"]["std"][0] = 0.0
    kept.write_text(json.dumps(content))
    again, _, cluster = columns(people, tmp_path / "store")
    assert (again.key, cluster.mapped) == (first.key, 2)


def test_files_of_another_width_are_refused_by_name(people: TinyManifest, tmp_path: Path) -> None:
    path = Path(str(people.roots["corpus"] / "2.csv"))
    path.write_text(
        "\n".join(line + ",1" if i else line + ",w" for i, line in enumerate(path.read_text().splitlines()))
    )
    with pytest.raises(CorpusError, match=r"2\.csv: 4 columns, the training files have 3"):
        columns(people, tmp_path / "store")


def test_a_kind_that_no_training_interview_has_is_refused_with_those_there_are(
    people: TinyManifest, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=r"no resnet files.*openface"):
        extract(people, config({"kind": "columns", "columns": "resnet"}), str(tmp_path), SerialCluster())


def test_two_files_of_one_kind_for_one_recording_are_refused(people: TinyManifest, tmp_path: Path) -> None:
    people.rows[0]["features"].append(write_face(people, "other.csv", draw(5, 0)))
    with pytest.raises(CorpusError, match="two files of openface"):
        columns(people, tmp_path / "store")


def test_a_clock_that_goes_back_does_not_break_the_order_of_windows(manifest: TinyManifest, tmp_path: Path) -> None:
    face = write_face(manifest, "0.csv", draw(50, 0))
    path = Path(str(manifest.roots["corpus"] / "0.csv"))
    lines = path.read_text().splitlines()
    lines[26] = lines[26].replace("25,0,2.500", "25,0,0.100")
    path.write_text("\n".join(lines))
    os.utime(path)
    manifest.add(5.0, features=[face])
    _, store, _ = columns(manifest, tmp_path / "store")
    assert store.read(manifest.hashes()[0], 0, 5)[0].shape == (50, 3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2**31), st.floats(-1e6, 1e6))
def test_merged_moments_are_those_of_all_frames(lengths: list[int], seed: int, shift: float) -> None:
    drawn = np.random.default_rng(seed)
    pieces = [drawn.normal(shift, 3.0, (length, 4)) for length in lengths]
    merged = merge_all(Moments.of(piece) for piece in pieces)
    together = np.concatenate(pieces)
    assert merged is not None
    assert merged.count == len(together)
    if len(together):
        np.testing.assert_allclose(merged.mean, together.mean(axis=0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(merged.squares, ((together - together.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-6)
    again = Moments.from_json(merged.to_json())
    np.testing.assert_array_equal(again.squares, merged.squares)


def test_a_column_that_never_moves_becomes_zero_and_not_infinite() -> None:
    statistics = Statistics.of(Moments.of(np.full((9, 2), [3.3, 1e5])))
    assert np.abs(statistics.normalise(np.full((9, 2), [3.3, 1e5], np.float32))).max() < 1e-2
