"""Does the reloaded model say what the evaluated one said? Asked of validation units, before a version exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from moodscale.evaluate.table import Predictions
from moodscale.schema import Split

Array = np.ndarray[Any, Any]


class ModelMismatchError(RuntimeError):
    """A reloaded model does not give the scores that were evaluated. It gets no version."""


@dataclass(frozen=True)
class Expected:
    """Units to score again, and what must be answered.

    Attributes:
        unit: ``clip`` or ``interview``.
        unit_ids: one each a unit.
        values: (N,) by the answer's column.
        scale: the range of a score: differences are told as shares of it.
        waveforms, messages: what is asked, one of the two; float32 at 16 kHz, or JSON text.
    """

    unit: str
    unit_ids: tuple[str, ...]
    values: Mapping[str, Array] = field(repr=False)
    scale: float = 1.0
    waveforms: tuple[Array, ...] = field(default=(), repr=False)
    messages: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Comparison:
    """The largest difference of any unit in any column, as a share of the scores' range."""

    num_compared: int
    max_difference: float
    tolerance: float


def compare(expected: Expected, answers: Sequence[Mapping[str, Any]], tolerance: float) -> Comparison:
    """Compare answers column by column.

    Raises:
        ModelMismatchError: naming the unit that differs most, and by how much.
    """
    if len(answers) != len(expected.unit_ids) or any(expected.values.keys() - answer.keys() for answer in answers):
        raise ModelMismatchError(
            f"asked for {len(expected.unit_ids)} {expected.unit}s, the reloaded model answered otherwise"
        )
    columns = [
        np.abs(np.array([answer[name] for answer in answers], dtype=np.float64) - values) / expected.scale
        for name, values in expected.values.items()
    ]
    difference = np.max(columns, axis=0)
    worst = int(np.argmax(difference))
    if not np.isfinite(difference).all() or difference[worst] > tolerance:
        raise ModelMismatchError(
            f"the reloaded model differs from the evaluated one by {difference[worst]:.2g} at {expected.unit} "
            f"{expected.unit_ids[worst]} (allowed {tolerance:g}, {int((difference > tolerance).sum())} of "
            f"{len(difference)} {expected.unit}s are beyond it); no version was created"
        )
    return Comparison(len(answers), float(difference[worst]), tolerance)


def check_model(table: Predictions, model_version: str) -> None:
    """Refuse a Prediction table of another model.

    Raises:
        ValueError: naming both.
    """
    found = sorted(table.frame["model_version"].unique())
    if found != [model_version]:
        raise ValueError(
            f"{table.source}: column model_version has {', '.join(map(str, found))}, the best checkpoint is "
            f"{model_version}; run `moodscale evaluate` again"
        )


def validation_rows(table: Predictions, unit: str, target: str) -> pd.DataFrame:
    """Rows of the validation split of one unit and target."""
    frame = table.frame
    return frame[(frame["split"] == Split.VALIDATION.value) & (frame["unit"] == unit) & (frame["target"] == target)]


def spaced(rows: pd.DataFrame, num: int) -> pd.DataFrame:
    """At most ``num`` rows, evenly spaced over the order of their scores: high, low and in between."""
    ordered = rows.sort_values(["score", "unit_id"])
    positions = np.unique(np.linspace(0, len(ordered) - 1, min(num, len(ordered))).round().astype(int))
    return ordered.iloc[positions]


def in_order(ids: Sequence[str], by_id: Mapping[str, Any], source: str, unit: str) -> list[Any]:
    """What belongs to each id.

    Raises:
        ValueError: naming an id that the manifest does not have.
    """
    missing = [one for one in ids if one not in by_id]
    if missing:
        raise ValueError(f"{source}: {unit} {missing[0]} is not in the manifest; run `moodscale evaluate` again")
    return [by_id[one] for one in ids]
