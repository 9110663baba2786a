"""The rows of one split as arrays, and the same rows by participant.

Shape legend: N scored units, P persons, B bootstrap resamples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moodscale.evaluate.table import Predictions

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

SCORE_MARGIN = 1e-6
"""Probabilities are held this far from 0 and 1 where a logit is taken."""


@dataclass(frozen=True)
class Scored:
    """Probabilities beside their labels.

    Attributes:
        score: (N,) P(depressed).
        label: (N,) whether depressed.
        person: (N,) index of the person, 0 to P - 1.
        num_persons: P. Resampling weighs persons, so every level of one split shares it.
    """

    score: Floats
    label: Bools
    person: Ints
    num_persons: int

    @property
    def num(self) -> int:
        return len(self.score)

    @property
    def num_positive(self) -> int:
        return int(self.label.sum())

    @property
    def prevalence(self) -> float:
        return float(self.label.mean())

    @property
    def num_smaller_class(self) -> int:
        return min(self.num_positive, self.num - self.num_positive)


@dataclass(frozen=True)
class Units:
    """One split's scored units (called clips here, whatever the unit) and its participants.

    Attributes:
        frame: the rows, in the clips' order.
        clips: N is the number of rows.
        participants: one entry a person, the score being the mean of the person's clips. A person with two
            labels (two questionnaires) has an entry for each.
        entry: (clips,) each clip's participant entry.
        keys: (participants,) person keys.
        num_two_labels: persons with both labels.
    """

    frame: pd.DataFrame
    clips: Scored
    participants: Scored
    entry: Ints
    keys: tuple[str, ...]
    num_two_labels: int

    @property
    def strata(self) -> Ints:
        """(P,) 0 not depressed, 1 depressed, 2 both: what the bootstrap keeps the numbers of."""
        positive = np.bincount(self.clips.person, weights=self.clips.label, minlength=self.clips.num_persons)
        count = np.bincount(self.clips.person, minlength=self.clips.num_persons)
        return np.where(positive == 0, 0, np.where(positive == count, 1, 2)).astype(np.intp)

    def only(self, keep: Bools) -> Units:
        """The units of some rows. ``keep`` is (N,)."""
        return _from_arrays(self.frame[keep], self.clips.score[keep])


def build_units(frame: pd.DataFrame, temperature: float = 1.0, column: str = "score") -> Units:
    """Units of the rows in ``frame``, scores divided by ``temperature`` on the logit scale."""
    return _from_arrays(frame, apply_temperature(frame[column].to_numpy(dtype=np.float64), temperature))


def apply_temperature(score: Floats, temperature: float) -> Floats:
    """(N,) probabilities whose logits are divided by the temperature; unchanged at 1."""
    if temperature == 1.0:
        return score
    return np.asarray(1.0 / (1.0 + np.exp(-logit(score) / temperature)), dtype=np.float64)


def logit(score: Floats) -> Floats:
    clipped = np.clip(score, SCORE_MARGIN, 1.0 - SCORE_MARGIN)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def select_rows(predictions: Predictions, target: str, unit: str | None) -> tuple[pd.DataFrame, list[str]]:
    """The rows of one target and one unit, with notes on what was left out.

    Raises:
        ValueError: there are no such rows.
    """
    frame, notes = predictions.frame, []
    rows = frame[frame["target"] == target]
    if rows.empty:
        found = ", ".join(sorted(frame["target"].unique()))
        raise ValueError(f"{predictions.source}: column target has no {target!r} (found: {found}); set target")
    if len(rows) < len(frame):
        notes.append(f"{len(frame) - len(rows)} row(s) with another target than {target} left out.")
    units = sorted(rows["unit"].unique())
    chosen = unit or (units[0] if len(units) == 1 else "clip")
    if chosen not in units:
        raise ValueError(
            f"{predictions.source}: column unit has no {chosen!r} (found: {', '.join(units)}); "
            "set unit to the one to evaluate"
        )
    kept = rows[rows["unit"] == chosen]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} row(s) with another unit than {chosen} left out.")
    if chosen != "clip":
        notes.append(f"The figures under 'clip' are of the unit {chosen!r}.")
    versions = kept["model_version"].nunique()
    if versions > 1:
        notes.append(f"The rows come from {versions} model versions.")
    labels = kept["label"].to_numpy(dtype=np.float64)
    if not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError(
            f"{predictions.source}: target {target!r} has labels other than 0 and 1; only yes/no targets are evaluated"
        )
    return kept, notes


def by_participant(units: Units, values: Floats) -> Floats:
    """(participants,) mean of (N,) values over each participant's clips."""
    size = units.participants.num
    total = np.bincount(units.entry, weights=values, minlength=size)
    return np.asarray(total / np.bincount(units.entry, minlength=size), dtype=np.float64)


def with_score(scored: Scored, score: Floats) -> Scored:
    return replace(scored, score=score)


def _from_arrays(frame: pd.DataFrame, score: Floats) -> Units:
    person, people = pd.factorize(frame["person"].to_numpy(dtype=object), sort=True)
    label = frame["label"].to_numpy(dtype=np.float64) == 1.0
    # Factorising (person, label) rather than person: one person may have answered two questionnaires.
    entry, codes = pd.factorize(person.astype(np.intp) * 2 + label, sort=True)
    owner = np.asarray(codes // 2, dtype=np.intp)
    sums = np.bincount(entry, weights=score, minlength=len(codes))
    clips = Scored(score=score, label=label, person=person.astype(np.intp), num_persons=len(people))
    participants = Scored(
        score=np.asarray(sums / np.bincount(entry, minlength=len(codes)), dtype=np.float64),
        label=np.asarray(codes % 2 == 1, dtype=np.bool_),
        person=owner,
        num_persons=len(people),
    )
    return Units(
        frame=frame,
        clips=clips,
        participants=participants,
        entry=entry.astype(np.intp),
        keys=tuple(str(people[index]) for index in owner),
        num_two_labels=len(codes) - len(people),
    )
