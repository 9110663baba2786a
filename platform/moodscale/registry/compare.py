"""Does the reloaded model say what the evaluated one said? Asked of validation clips, before a version exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from moodscale.evaluate.table import Predictions, read_predictions
from moodscale.evaluate.units import apply_temperature
from moodscale.prepare.audio import read_clip
from moodscale.prepare.manifest import Manifest
from moodscale.registry.package import OperatingPoint
from moodscale.schema import Split

Array = np.ndarray[Any, Any]


class ModelMismatchError(RuntimeError):
    """A reloaded model does not give the scores that were evaluated. It gets no version."""


@dataclass(frozen=True)
class Expected:
    """Clips to score again, and the scores that are in the Prediction table.

    Attributes:
        clip_ids, scores: one each a clip.
        waveforms: float32 at 16 kHz.
    """

    clip_ids: tuple[str, ...]
    scores: Array
    waveforms: tuple[Array, ...]

    def __repr__(self) -> str:
        return f"Expected({len(self.clip_ids)} clips)"


@dataclass(frozen=True)
class Comparison:
    """The largest difference of any clip, of the raw score or of the calibrated probability."""

    num_compared: int
    max_difference: float
    tolerance: float


def choose_clips(predictions: Path, manifest: Manifest, model_version: str, clip_s: float, num: int) -> Expected:
    """Whole validation clips, evenly spaced over the order of their scores: high, low and in between.

    Raises:
        ValueError: the table is of another model, or has no such clip.
    """
    frame = _validation_rows(read_predictions(predictions), predictions, model_version)
    # A clip that is kept shorter (prepare.tail: pad) is no whole clip, and the packed model refuses those.
    whole = frame[np.isclose(frame["duration_s"].to_numpy(dtype=float), clip_s, atol=1e-3)]
    if whole.empty:
        raise ValueError(f"{predictions}: no validation clip of {clip_s:g} s to compare with; prepare and score again")
    ordered = whole.sort_values(["score", "unit_id"])
    positions = np.unique(np.linspace(0, len(ordered) - 1, min(num, len(ordered))).round().astype(int))
    chosen = ordered.iloc[positions]
    ids = tuple(str(value) for value in chosen["unit_id"])
    rows = _rows_of(manifest.clips(Split.VALIDATION, reader="register"), ids, predictions)
    return Expected(
        clip_ids=ids,
        scores=chosen["score"].to_numpy(dtype=np.float64),
        waveforms=tuple(read_clip(manifest.roots, row) for row in rows),
    )


def compare(
    expected: Expected, answers: Sequence[dict[str, Any]], point: OperatingPoint, tolerance: float
) -> Comparison:
    """Compare raw scores and calibrated probabilities.

    Raises:
        ModelMismatchError: naming the clip that differs most, and by how much.
    """
    if len(answers) != len(expected.clip_ids) or any(answer["num_clips"] != 1 for answer in answers):
        raise ModelMismatchError(f"asked for {len(expected.clip_ids)} clips, the reloaded model answered otherwise")
    scores = np.array([answer["score"] for answer in answers], dtype=np.float64)
    probabilities = np.array([answer["probability"] for answer in answers], dtype=np.float64)
    calibrated = apply_temperature(expected.scores, point.temperature)
    difference = np.maximum(np.abs(scores - expected.scores), np.abs(probabilities - calibrated))
    worst = int(np.argmax(difference))
    if not np.isfinite(difference).all() or difference[worst] > tolerance:
        raise ModelMismatchError(
            f"the reloaded model differs from the evaluated one by {difference[worst]:.2g} at clip "
            f"{expected.clip_ids[worst]} (allowed {tolerance:g}, {int((difference > tolerance).sum())} of "
            f"{len(difference)} clips are beyond it); no version was created"
        )
    return Comparison(len(scores), float(difference[worst]), tolerance)


def _validation_rows(table: Predictions, path: Path, model_version: str) -> pd.DataFrame:
    frame = table.frame
    found = sorted(frame["model_version"].unique())
    if found != [model_version]:
        raise ValueError(
            f"{path}: column model_version has {', '.join(map(str, found))}, the best checkpoint is {model_version}; "
            "run `moodscale evaluate` again"
        )
    if "duration_s" not in frame.columns:
        raise ValueError(f"{path}: has no column duration_s; make it with `moodscale evaluate`")
    return frame[(frame["split"] == Split.VALIDATION.value) & (frame["unit"] == "clip")]


def _rows_of(clips: pa.Table, ids: Sequence[str], path: Path) -> list[dict[str, Any]]:
    by_id = {row["clip_id"]: row for row in clips.to_pylist()}
    missing = [clip_id for clip_id in ids if clip_id not in by_id]
    if missing:
        raise ValueError(f"{path}: clip {missing[0]} is not in the manifest; run `moodscale evaluate` again")
    return [by_id[clip_id] for clip_id in ids]
