"""Features in the plan's order, cached or not; errors that name the clip and show nothing of it."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from upath import UPath

from moodscale.recipes.clips import ClipLoader
from moodscale.schema import CLIP_SCHEMA, CorpusError
from moodscale.train.stream import LocalStream, decode_block, unpack_block
from tiny import clip_table, recipe_config

RATE_HZ = 16_000


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        sound = rng.normal(size=20 * RATE_HZ).astype(np.float32) * 0.05
        soundfile.write(corpus / f"{number}.wav", sound, RATE_HZ, subtype="FLOAT")
    return {"corpus": corpus}


def table(num_clips: int) -> pa.Table:
    """Clips of 2 s out of three recordings."""
    rows = clip_table(num_clips).to_pylist()
    for index, row in enumerate(rows):
        start_s = 2.0 * (index // 3)
        row |= {"path": f"{index % 3}.wav", "segments": [{"start_s": start_s, "stop_s": start_s + 2.0}]}
    return pa.Table.from_pylist(rows, schema=CLIP_SCHEMA)


class Mean:
    """A light transform: what a clip is recognised by. ``slow`` waits longer the earlier the clip."""

    def __init__(self, slow: bool = False) -> None:
        self.slow = slow
        self.calls = 0

    def __call__(self, waveform: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.calls += 1
        if self.slow:
            time.sleep(0.05 if self.calls % 4 == 1 else 0.0)
        return np.array([[waveform.mean(), waveform.std()]], dtype=np.float32)


def test_a_local_stream_keeps_the_rows_order_whatever_finishes_first(roots: dict[str, Path]) -> None:
    rows = table(20)
    loader = ClipLoader(roots, Mean())
    expected = [loader(row) for row in rows.to_pylist()]
    found = list(LocalStream(ClipLoader(roots, Mean(slow=True)), prefetch=6, num_threads=4).features(rows))
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_a_stream_runs_ahead_by_its_prefetch_and_no_further(roots: dict[str, Path]) -> None:
    transform = Mean()
    stream = LocalStream(ClipLoader(roots, transform), prefetch=4, num_threads=2).features(table(20))
    next(stream)
    time.sleep(0.3)
    assert transform.calls <= 5
    stream.close()  # type: ignore[attr-defined]


def test_a_stream_can_be_read_again_in_the_next_epoch(roots: dict[str, Path]) -> None:
    stream, rows = LocalStream(ClipLoader(roots, Mean())), table(5)
    first, second = list(stream.features(rows)), list(stream.features(rows))
    assert len(first) == 5
    np.testing.assert_array_equal(np.stack(first), np.stack(second))
    assert list(stream.features(rows.slice(0, 0))) == []


def test_the_first_epoch_of_a_cache_rounds_as_the_later_ones_do(roots: dict[str, Path], tmp_path: Path) -> None:
    """Were the first epoch unrounded, a resumed run would not see what the uninterrupted one saw."""
    recipe = recipe_config().build()
    rows = table(4)
    plain = list(LocalStream(ClipLoader(roots, recipe.features())).features(rows))
    cached = ClipLoader(roots, recipe.features(), str(tmp_path / "features"))
    first, second = (list(LocalStream(cached).features(rows)) for _ in range(2))
    for exact, once, again in zip(plain, first, second, strict=True):
        assert once.dtype == again.dtype == np.float32
        np.testing.assert_array_equal(once, again)
        np.testing.assert_array_equal(once, exact.astype(np.float16).astype(np.float32))


def test_a_cached_clip_is_neither_decoded_nor_transformed_again(roots: dict[str, Path], tmp_path: Path) -> None:
    transform = Mean()
    loader = ClipLoader(roots, transform, str(tmp_path / "features"))
    rows = table(4)
    first = list(LocalStream(loader).features(rows))
    for wav in roots["corpus"].glob("*.wav"):
        wav.unlink()
    np.testing.assert_array_equal(np.stack(list(LocalStream(loader).features(rows))), np.stack(first))
    assert transform.calls == 4
    left = [path.name for path in (tmp_path / "features").rglob("*") if "partial" in path.name]
    assert left == []


def test_a_cached_file_that_is_a_pickle_is_refused(roots: dict[str, Path], tmp_path: Path) -> None:
    loader = ClipLoader(roots, Mean(), str(tmp_path / "features"))
    [row] = table(1).to_pylist()
    loader(row)
    [path] = (tmp_path / "features").rglob("*.npy")
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.mkdir, (str(ran),)

    np.save(path, np.array([Payload()], dtype=object), allow_pickle=True)
    np.load(path, allow_pickle=True)
    assert ran.is_dir(), "the payload is live"
    ran.rmdir()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        loader(row)
    assert not ran.exists()


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_a_recording_that_cannot_be_decoded_names_file_and_clip_and_shows_no_sound(
    roots: dict[str, Path], damage: str
) -> None:
    rows = table(3)
    path = roots["corpus"] / "1.wav"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:4000])
    else:
        path.write_bytes(b"not a recording" * 100)
    features = LocalStream(ClipLoader(roots, Mean())).features(rows)
    next(features)
    with pytest.raises(CorpusError, match=r"1\.wav") as caught:
        next(features)
    message = str(caught.value)
    assert damage == "missing" or "train-001" in message
    assert "array" not in message
    assert len(message) < 300


def test_a_clip_the_recipe_cannot_take_is_named(roots: dict[str, Path]) -> None:
    [row] = table(1).to_pylist()
    row |= {"segments": [{"start_s": 0.0, "stop_s": 0.01}], "duration_s": 0.01}
    with pytest.raises(CorpusError, match=r"clip train-000: 0\.010 s long, but the encoder takes"):
        ClipLoader(roots, recipe_config().build().features())(row)


@pytest.mark.parametrize("path", ["../corpus/0.wav", "/etc/passwd", "0.wav\0"])
def test_a_path_that_leaves_its_root_is_never_opened(roots: dict[str, Path], path: str) -> None:
    [row] = table(1).to_pylist()
    with pytest.raises(CorpusError):
        ClipLoader(roots, Mean())(row | {"path": path})


def test_a_block_decodes_to_the_same_features_with_their_positions(roots: dict[str, Path]) -> None:
    loader = ClipLoader(roots, recipe_config().build().features())
    rows = table(3)
    block = decode_block(rows.append_column("position", pa.array([7, 8, 9], pa.int64())), loader)
    assert block["position"].to_pylist() == [7, 8, 9]
    for row, array in zip(rows.to_pylist(), unpack_block(block), strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, loader(row))


def test_a_block_of_token_ids_keeps_its_type() -> None:
    numbered = pa.table({"position": [4], "ids": [[101, 7, 102]]})
    [ids] = unpack_block(decode_block(numbered, lambda row: np.array(row["ids"], np.int32)))
    assert ids.dtype == np.int32
    assert ids.tolist() == [101, 7, 102]


def test_a_loader_travels_to_data_workers(roots: dict[str, Path]) -> None:
    loader = ClipLoader(roots, recipe_config().build().features())
    [row] = table(1).to_pylist()
    copied = pickle.loads(pickle.dumps(loader))  # noqa: S301  what a task queue does with its own arguments
    np.testing.assert_array_equal(copied(row), loader(row))


def test_a_cache_on_object_storage_gives_what_a_local_one_gives(
    roots: dict[str, Path], tmp_path: Path, bucket: UPath
) -> None:
    rows = table(4)
    local = list(LocalStream(ClipLoader(roots, Mean(), str(tmp_path / "features"))).features(rows))
    remote = ClipLoader(roots, Mean(), str(bucket / "manifest" / "features"))
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(list(LocalStream(remote).features(rows))), np.stack(local))
    assert len(bucket.fs.find(bucket.path)) == 4
