"""What recipes of 10 s clips share: the manifest's clips as examples, and the loader that decodes them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from upath import UPath

from moodscale.prepare.audio import read_clip
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Array, Examples, Row, Score
from moodscale.schema import CorpusError, Split
from moodscale.storage import Place, is_local, local_path, location, writing


class Features(Protocol):
    """Waveforms → what the model reads. Runs in data workers: picklable, light, no model."""

    def __call__(self, waveform: Array) -> Array: ...


def clip_examples(manifest: Manifest, split: Split | str, reader: str = "") -> Examples:
    """The clips of a split."""
    return examples_of(manifest.clips(split, reader))


def examples_of(table: pa.Table) -> Examples:
    """Clips (``CLIP_SCHEMA``) as examples; the two classes are not depressed and depressed."""
    return Examples(
        table=table,
        unit_ids=tuple(table["clip_id"].to_pylist()),
        persons=tuple(table["person"].to_pylist()),
        strata=table["depressed"].to_numpy().astype(np.int64),
        num_strata=2,
        weights=np.ones(len(table)),
    )


def clip_prediction(row: Row, score: Score) -> dict[str, Any]:
    """A clip's row of the Prediction table, without ``split`` and ``model_version``."""
    return {
        "person": row["person"],
        "unit": "clip",
        "unit_id": row["clip_id"],
        "target": "depressed",
        "label": float(row["depressed"]),
        "score": score.score,
        "corpus": row["corpus"],
        "gender": row["gender"],
        "duration_s": row["duration_s"],
        "num_turns": row["num_turns"],
        "score_normalised": score.score_normalised,
        "answer": score.answer,
    }


@dataclass(frozen=True)
class ClipLoader:
    """One clip's features: decoded, transformed, and kept on disk where a cache is named. Picklable."""

    roots: Mapping[str, Place]
    transform: Features
    cache: str | None = None
    """Directory or URI of cached features; fp16, so the first epoch rounds as the later ones do."""

    def __call__(self, row: Row) -> Array:
        if self.cache is None:
            return self._computed(row)
        path = self._cached_path(row)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
            cached: Array = np.load(io.BytesIO(stream.read()), allow_pickle=False)
            return cached.astype(np.float32)
        features = self._computed(row).astype(np.float16)
        _keep(path, features)
        return features.astype(np.float32)

    def _computed(self, row: Row) -> Array:
        waveform = read_clip(self.roots, row)
        try:
            return self.transform(waveform)
        except CorpusError as error:
            raise CorpusError(f"clip {row['clip_id']}: {error}") from None

    def _cached_path(self, row: Row) -> UPath:
        assert self.cache is not None
        digest = hashlib.sha256(str(row["clip_id"]).encode()).hexdigest()
        return location(self.cache) / digest[:2] / f"{digest}.npy"


def _keep(path: UPath, features: Array) -> None:
    if not is_local(path):
        with writing(path) as stream:
            np.save(stream, features, allow_pickle=False)
        return
    # Not through writing(): waiting for the disk with every clip costs more than a lost one, which is made again.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = local_path(path).with_suffix(f".{os.getpid()}.partial.npy")
    np.save(partial, features, allow_pickle=False)
    partial.replace(local_path(path))
