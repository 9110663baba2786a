"""Parts: what is written is what is read, or it is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from moodscale.features.plan import part_name
from moodscale.features.store import DamagedPartError, FeatureStore, Part
from moodscale.schema import CorpusError

HASH = "ab" * 16
FACTS = {"kind": "test", "model": "m", "revision": "r", "layer": 3}
HZ = 50.0


def part(num_frames: int, start: int = 0, dim: int = 4) -> Part:
    values = np.arange(num_frames * dim, dtype=np.float32).reshape(num_frames, dim) + start * dim
    return Part.of(values, HZ, start)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A recording of 5.3 s in windows of 2 s."""
    store = FeatureStore(tmp_path / "store", "k" * 32)
    store.describe({**FACTS, "window_samples": 32_000, "context_samples": 640})
    for index, frames in enumerate((100, 100, 65)):
        store.write(part_name(HASH, index), part(frames, 100 * index), FACTS)
    return store


def path_of(store: FeatureStore, index: int) -> Path:
    return Path(str(store.directory / part_name(HASH, index)))


def test_a_part_says_on_its_own_what_it_is(store: FeatureStore) -> None:
    with pa.ipc.open_file(str(path_of(store, 1))) as reader:
        assert reader.schema.field("features").type == pa.list_(pa.float16(), 4)
        meta = json.loads(reader.schema.metadata[b"moodscale"])
    assert FACTS.items() <= meta.items()
    assert (meta["frame_hz"], meta["start_frame"], meta["num_frames"], meta["dim"]) == (50.0, 100, 100, 4)
    assert meta["sha256"] == store.load(part_name(HASH, 1)).sha256()


@pytest.mark.parametrize(
    ("start_s", "stop_s", "first", "last"),
    [(0.0, 5.3, 0, 265), (0.5, 0.9, 25, 45), (1.5, 4.5, 75, 225), (2.0, 4.0, 100, 200), (1.999, 2.001, 100, 101)],
)
def test_a_stretch_is_read_frame_by_frame_over_the_edges_of_windows(
    store: FeatureStore, start_s: float, stop_s: float, first: int, last: int
) -> None:
    values, valid = store.read(HASH, start_s, stop_s)
    expected = np.arange(first * 4, last * 4, dtype=np.float32).reshape(-1, 4)
    assert values.dtype == np.float16
    np.testing.assert_array_equal(values, expected)
    assert valid.shape == (last - first,)
    assert valid.all()


def test_only_the_windows_that_a_stretch_touches_are_read(store: FeatureStore) -> None:
    path_of(store, 0).write_bytes(b"damaged")
    path_of(store, 2).unlink()
    assert store.read(HASH, 2.0, 4.0)[0].shape == (100, 4)
    with pytest.raises(DamagedPartError):
        store.read(HASH, 1.9, 4.0)
    with pytest.raises(DamagedPartError, match="no such part; run 'moodscale extract'"):
        store.read(HASH, 2.0, 4.1)


def test_what_is_not_finite_is_masked_and_what_fp16_cannot_hold_is_its_largest() -> None:
    values = np.array([[1.0, np.nan], [np.inf, 0.0], [1e6, -1e6], [1.0, 2.0]])
    made = Part.of(values, HZ, 0, valid=np.array([True, True, True, False]))
    assert made.valid.tolist() == [False, False, True, False]
    assert made.values.tolist() == [[0, 0], [0, 0], [65504, -65504], [0, 0]]


def test_frames_with_times_of_their_own_are_found_by_them(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "k")
    store.describe({"window_samples": 32_000})
    times_s = np.array([0.1, 0.5, 1.9])
    store.write(part_name(HASH, 0), Part.of(np.ones((3, 2)), 0.0, 0, times_s=times_s), FACTS)
    store.write(part_name(HASH, 1), Part.of(np.zeros((0, 2)), 0.0, 3, times_s=np.zeros(0)), FACTS)
    assert store.read(HASH, 0.5, 1.9)[0].shape == (1, 2)
    assert store.read(HASH, 0.0, 4.0)[0].shape == (3, 2)
    assert store.read(HASH, 2.0, 4.0)[0].shape == (0, 2)


def flip(data: bytes) -> bytes:
    # The first value's low byte: the values begin after the schema, aligned, with what part() wrote there.
    at = data.index(part(100, 100).values.tobytes()[:64])
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        flip,
        lambda data: b"x" * len(data),
    ],
    ids=["cut at the end", "cut in half", "emptied", "a bit flipped", "overwritten"],
)
def test_a_damaged_part_is_named_and_never_read(store: FeatureStore, damage: Any) -> None:
    path = path_of(store, 1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedPartError, match=r"00001\.arrow.*features\.verify=true"):
        store.load(part_name(HASH, 1))


def test_a_pickle_in_place_of_a_part_is_refused_and_does_not_run(store: FeatureStore, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    path_of(store, 1).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DamagedPartError):
        store.load(part_name(HASH, 1))
    assert not marker.exists()


@pytest.mark.parametrize(
    "table",
    [
        {"features": pa.array([[1.0]], pa.list_(pa.float32(), 1)), "valid": pa.array([True])},
        {"features": pa.array([None], pa.list_(pa.float16(), 1)), "valid": pa.array([True])},
        {"valid": pa.array([True])},
    ],
    ids=["another type", "nulls", "no features"],
)
def test_an_arrow_file_that_is_no_part_is_refused(store: FeatureStore, table: dict[str, pa.Array]) -> None:
    batch = pa.RecordBatch.from_pydict(table).replace_schema_metadata({b"moodscale": b'{"sha256": ""}'})
    with pa.ipc.new_file(str(path_of(store, 1)), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(DamagedPartError):
        store.load(part_name(HASH, 1))


def test_the_listing_shows_parts_and_nothing_that_was_left_half_written(store: FeatureStore) -> None:
    path_of(store, 1).with_name(".00009.arrow.77.partial").write_bytes(b"x")
    assert sorted(store.sizes()) == [part_name(HASH, index) for index in range(3)]
    assert store.sizes()[part_name(HASH, 0)] == path_of(store, 0).stat().st_size


def test_a_hash_of_content_does_not_depend_on_what_stands_beside_it(store: FeatureStore) -> None:
    again = store.write(part_name(HASH, 7), part(100, 100), {"written": "elsewhere"}, stamp="later")
    assert again.sha256 == store.check(part_name(HASH, 1)).sha256
    assert store.write(part_name(HASH, 8), part(100, 101), FACTS).sha256 != again.sha256


def test_a_store_without_this_extractor_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="run 'moodscale extract'"):
        FeatureStore(tmp_path, "k").read(HASH, 0.0, 1.0)
