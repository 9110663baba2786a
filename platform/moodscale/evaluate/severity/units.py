"""One split's predicted totals beside the questionnaires', as arrays.

Shape legend: N units (one a questionnaire), P persons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from moodscale.evaluate.table import Predictions, check_totals
from moodscale.evaluate.units import Bools, Floats, Ints
from moodscale.schema import DEPRESSED_FROM, Instrument

TOTAL = "total"
"""The target of rows that hold a questionnaire's total."""


@dataclass(frozen=True)
class Severities:
    """Predictions beside labels.

    Attributes:
        predicted: (N,) predicted totals.
        label: (N,) the questionnaires' totals.
        person: (N,) index of the person, 0 to P - 1.
        keys: (N,) unit ids.
        people: (P,) person keys.
        gender: (N,) or ``None`` where the table has no such column.
    """

    predicted: Floats
    label: Floats
    person: Ints
    keys: tuple[str, ...]
    people: tuple[str, ...]
    gender: tuple[str, ...] | None = None

    @property
    def num(self) -> int:
        return len(self.label)

    @property
    def num_persons(self) -> int:
        return len(self.people)

    @property
    def strata(self) -> Ints:
        """(P,) 0 below the cut-off in every questionnaire, 1 above, 2 both: what the bootstrap keeps the numbers of.

        The five bands would make better strata with many people; with few, a band of one person would be in every
        resample and its uncertainty would be lost.
        """
        positive = np.bincount(self.person, weights=self.label >= DEPRESSED_FROM, minlength=self.num_persons)
        count = np.bincount(self.person, minlength=self.num_persons)
        return np.where(positive == 0, 0, np.where(positive == count, 1, 2)).astype(np.intp)

    def only(self, keep: Bools) -> Severities:
        """The units of some rows, persons numbered anew. ``keep`` is (N,)."""
        people, person = np.unique(self.person[keep], return_inverse=True)
        chosen = np.flatnonzero(keep)
        return Severities(
            predicted=self.predicted[keep],
            label=self.label[keep],
            person=person.astype(np.intp),
            keys=tuple(self.keys[index] for index in chosen),
            people=tuple(self.people[index] for index in people),
            gender=None if self.gender is None else tuple(self.gender[index] for index in chosen),
        )

    def with_predicted(self, predicted: Floats) -> Severities:
        return replace(self, predicted=predicted)


def instrument_of(rows: pd.DataFrame, given: str | None, source: str) -> Instrument:
    """The one questionnaire that the rows are of.

    Args:
        rows: rows with target ``total``.
        given: the instrument of rows that name none.
    Raises:
        ValueError: none is named, two are, or one that contradicts ``given``.
    """
    named = set(rows["instrument"]) if "instrument" in rows.columns else {""}
    found = sorted((named - {""}) | ({given} if given else set()))
    if not found:
        raise ValueError(
            f"{source}: column instrument is empty or absent for target total; write PHQ-8 or PHQ-9 in every row, "
            "or set evaluate.severity.instrument"
        )
    if len(found) > 1:
        raise ValueError(
            f"{source}: column instrument holds {' and '.join(found)} (evaluate.severity.instrument is "
            f"{given or 'unset'}); their totals are not comparable: evaluate one instrument at a time, or map one to "
            "the other first"
        )
    if "" in named and given is None and len(named) > 1:
        raise ValueError(
            f"{source}: column instrument is empty in some rows of target total; write {found[0]} there too, or set "
            "evaluate.severity.instrument"
        )
    return Instrument(found[0])


def select_totals(
    predictions: Predictions, unit: str, instrument: str | None, split: str
) -> tuple[pd.DataFrame, Instrument, list[str]]:
    """The rows of predicted totals of every split, the questionnaire they are of, and notes on what is odd.

    Args:
        split: the split that is judged. Its labels must be questionnaires' totals; others may be estimates.
    Raises:
        ValueError: there are no such rows, instruments are mixed, or a total lies outside the instrument's range.
    """
    frame, source = predictions.frame, predictions.source
    rows = frame[frame["target"] == TOTAL]
    if rows.empty:
        found = ", ".join(sorted(frame["target"].unique()))
        raise ValueError(f"{source}: column target has no {TOTAL!r} (found: {found}); only totals have a severity")
    chosen = rows[rows["unit"] == unit]
    if chosen.empty:
        found = ", ".join(sorted(rows["unit"].unique()))
        raise ValueError(
            f"{source}: column unit has no {unit!r} for target total (found: {found}); set evaluate.severity.unit"
        )
    which = instrument_of(chosen, instrument, source)
    check_totals(chosen, which, source)
    judged = chosen["split"] == split
    if not judged.any():
        found = ", ".join(sorted(chosen["split"].unique()))
        raise ValueError(f"{source}: column split has no {split!r} for target total (found: {found}); set the split")
    broken = (judged & (chosen["label"] % 1 != 0)).to_numpy()
    if broken.any():
        row = int(chosen.index[int(np.flatnonzero(broken)[0])])
        raise ValueError(
            f"{source}: column label, row {row + 1} (the header not counted) is not a whole number; a questionnaire's "
            "total is one: keep other estimates out of the rows that are evaluated"
        )
    notes = []
    if len(chosen) < len(rows):
        notes.append(f"{len(rows) - len(chosen)} row(s) with another unit than {unit} left out.")
    versions = chosen["model_version"].nunique()
    if versions > 1:
        notes.append(f"The rows come from {versions} model versions.")
    return chosen, which, notes


def build_severities(rows: pd.DataFrame) -> Severities:
    """Arrays of the rows, in their order."""
    person, people = pd.factorize(rows["person"].to_numpy(dtype=object), sort=True)
    gender = tuple(rows["gender"]) if "gender" in rows.columns else None
    return Severities(
        predicted=rows["score"].to_numpy(dtype=np.float64),
        label=rows["label"].to_numpy(dtype=np.float64),
        person=person.astype(np.intp),
        keys=tuple(rows["unit_id"]),
        people=tuple(str(key) for key in people),
        gender=gender,
    )


def check_train_totals(totals: Sequence[float], instrument: Instrument) -> Floats:
    """(T,) the training totals that a caller gives.

    Raises:
        ValueError: none, or one that is not within the instrument's range.
    """
    values = np.asarray(totals, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("train_totals is empty; give the training questionnaires' totals, or None")
    bad = ~((values >= 0) & (values <= instrument.max_total))
    if bad.any():
        raise ValueError(
            f"train_totals: {int(bad.sum())} of {len(values)} lie outside {instrument}'s range "
            f"0 to {instrument.max_total}; give totals of that instrument"
        )
    return values
