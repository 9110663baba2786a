"""What can be reached without listening: constants, and how much a person speaks.

A constant needs a prevalence to be set from: the training rows', else the validation rows', else (said in the
result) the evaluated rows' own. The length baselines score a participant by the number of clips, the total
duration or the total number of turns. Their direction comes from validation; without validation the better
direction is taken and the figure is marked as optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from moodscale.evaluate.bootstrap import auc_samples, intervals
from moodscale.evaluate.metrics import MIN_PER_CLASS, Interval
from moodscale.evaluate.units import Floats, Scored, Units, build_units, with_score


@dataclass(frozen=True)
class Prevalence:
    """Share of depressed clips and participants, and whose rows it is of."""

    clip: float
    participant: float
    source: str


@dataclass(frozen=True)
class Constant:
    """What the two constant answers reach on one level of the evaluated rows."""

    says_depressed: bool
    accuracy: float
    prevalence: float
    brier: float


@dataclass(frozen=True)
class LengthBaseline:
    """A participant's amount of speech as a score.

    Attributes:
        higher_is_depressed: the direction used.
        direction_source: ``validation``, or ``evaluated rows`` where the figure is therefore optimistic.
    """

    auc: float
    ci: Interval | None
    higher_is_depressed: bool
    direction_source: str

    @property
    def optimistic(self) -> bool:
        return self.direction_source != "validation"

    def to_json(self) -> dict[str, Any]:
        return {
            "auc": self.auc,
            "ci": {"auc": None if self.ci is None else list(self.ci)},
            "higher_is_depressed": self.higher_is_depressed,
            "direction_source": self.direction_source,
            "optimistic": self.optimistic,
        }


@dataclass(frozen=True)
class Baselines:
    """Everything the model is held against."""

    prevalence_source: str
    clip: Constant
    participant: Constant
    length: Mapping[str, LengthBaseline]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "majority": {
                "answer": "depressed" if self.clip.says_depressed else "not_depressed",
                "accuracy": self.clip.accuracy,
                "balanced_accuracy": 0.5,
                "source": self.prevalence_source,
                "participant": {
                    "answer": "depressed" if self.participant.says_depressed else "not_depressed",
                    "accuracy": self.participant.accuracy,
                    "balanced_accuracy": 0.5,
                },
            },
            "prevalence": {
                "probability": self.clip.prevalence,
                "brier": self.clip.brier,
                "source": self.prevalence_source,
                "participant": {"probability": self.participant.prevalence, "brier": self.participant.brier},
            },
            "length": {name: baseline.to_json() for name, baseline in self.length.items()},
        }


def compute_baselines(
    units: Units, rows: pd.DataFrame, split: str, given: Prevalence | None, drawn: Floats, confidence: float
) -> Baselines:
    """All baselines of the evaluated units.

    Args:
        rows: every split's rows, of the evaluated target and unit.
        split: the evaluated split.
        given: the training prevalence, where the caller knows it and the table has no training rows.
        drawn: (B, P) the bootstrap's multiplicities for ``units``.
    """
    notes = []
    prevalence = _prevalence(units, rows, split, given)
    if prevalence.source == "evaluated rows":
        notes.append("The constant baselines know the evaluated rows' own prevalence: there are no training rows.")
    validation = rows[rows["split"] == "validation"] if split != "validation" else rows.iloc[:0]
    length = {}
    for name in ("num_clips", "duration_s", "num_turns"):
        found = _length_baseline(name, units, validation, drawn, confidence)
        if isinstance(found, LengthBaseline):
            length[name] = found
        else:
            notes.append(f"Length baseline {name} skipped: {found}.")
    optimistic = [name for name, baseline in length.items() if baseline.optimistic]
    if optimistic:
        notes.append(
            f"Length baseline(s) {', '.join(optimistic)} are optimistic: without validation rows the better direction "
            "on the evaluated rows was taken."
        )
    return Baselines(
        prevalence_source=prevalence.source,
        clip=_constant(units.clips, prevalence.clip),
        participant=_constant(units.participants, prevalence.participant),
        length=length,
        notes=tuple(notes),
    )


def _prevalence(units: Units, rows: pd.DataFrame, split: str, given: Prevalence | None) -> Prevalence:
    for source in ("train", "validation"):
        others = rows[rows["split"] == source]
        if source != split and len(others):
            found = build_units(others)
            return Prevalence(found.clips.prevalence, found.participants.prevalence, source)
        if source == "train" and given is not None:
            return given
    return Prevalence(units.clips.prevalence, units.participants.prevalence, "evaluated rows")


def _constant(scored: Scored, prevalence: float) -> Constant:
    says_depressed = prevalence > 0.5
    share = scored.prevalence
    return Constant(
        says_depressed=says_depressed,
        accuracy=share if says_depressed else 1.0 - share,
        prevalence=prevalence,
        brier=share * (1.0 - prevalence) ** 2 + (1.0 - share) * prevalence**2,
    )


def _length_baseline(
    name: str, units: Units, validation: pd.DataFrame, drawn: Floats, confidence: float
) -> LengthBaseline | str:
    """The baseline, or why there is none."""
    people = units.participants
    amount = _amount(name, units)
    if amount is None:
        return "the column is absent or has empty cells"
    if people.num_smaller_class < MIN_PER_CLASS:
        return f"each class needs {MIN_PER_CLASS} participants"
    if np.ptp(amount) < 1e-9:
        return "it is the same for every participant"
    auc, source = float(roc_auc_score(people.label, amount)), "evaluated rows"
    higher = auc >= 0.5
    if len(validation):
        others = build_units(validation)
        theirs = _amount(name, others)
        if theirs is not None and others.participants.num_smaller_class >= MIN_PER_CLASS:
            higher, source = float(roc_auc_score(others.participants.label, theirs)) >= 0.5, "validation"
    signed = amount if higher else -amount
    samples = auc_samples(with_score(people, signed), drawn) if len(drawn) else None
    return LengthBaseline(
        auc=auc if higher else 1.0 - auc,
        ci=None if samples is None else intervals({"auc": samples}, confidence)["auc"],
        higher_is_depressed=higher,
        direction_source=source,
    )


def _amount(name: str, units: Units) -> Floats | None:
    """(participants,) how much each speaks; ``None`` where the table cannot tell."""
    size = units.participants.num
    if name == "num_clips":
        return np.bincount(units.entry, minlength=size).astype(np.float64)
    if name not in units.frame.columns:
        return None
    values = units.frame[name].to_numpy(dtype=np.float64)
    if np.isnan(values).any():
        return None
    # Rounded: the order of summation must not break ties between equal totals.
    return np.asarray(np.round(np.bincount(units.entry, weights=values, minlength=size), 6), dtype=np.float64)
