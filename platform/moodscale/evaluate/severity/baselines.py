"""What a predicted severity is held against: the training mean, the training median, and other models.

On skewed severity the median has a smaller MAE than the mean, and than many a model: both stand beside every result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.severity.compare import Comparison, Table, compare_units, rival_scores
from moodscale.evaluate.severity.figures import SeverityFigures, severity_figures
from moodscale.evaluate.severity.units import Severities, build_severities, check_train_totals
from moodscale.evaluate.table import to_predictions
from moodscale.evaluate.units import Floats
from moodscale.schema import Instrument

MEAN, MEDIAN, MODEL = "training mean", "training median", "model"


@dataclass(frozen=True)
class Baseline:
    """One baseline's own figures, and the model's minus its.

    Attributes:
        kind: ``constant`` or ``rival``.
        value: what a constant always answers.
        source: whose totals a constant was set from: ``train``, ``validation`` or ``evaluated rows``.
        comparison: the model first, the baseline second.
    """

    name: str
    kind: str
    value: float | None
    source: str | None
    figures: SeverityFigures
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "value": self.value,
            "source": self.source,
            "figures": self.figures.to_json(),
            "comparison": self.comparison.to_json(),
        }


@dataclass(frozen=True)
class Judged:
    """What all baselines share.

    Attributes:
        rows: the rows of every split, of the evaluated unit.
        split: the evaluated split.
        units: the evaluated rows as arrays.
        drawn: (B, P) multiplicities.
    """

    rows: pd.DataFrame
    split: str
    instrument: Instrument
    units: Severities
    drawn: Floats
    config: SeverityConfig

    def against(self, rival: Severities, name: str, kind: str, value: float | None, source: str | None) -> Baseline:
        confidence = self.config.confidence
        return Baseline(
            name=name,
            kind=kind,
            value=value,
            source=source,
            figures=severity_figures(rival, self.drawn, confidence),
            comparison=compare_units(self.units, rival, (MODEL, name), self.split, self.drawn, confidence),
        )


def constant_baselines(judged: Judged, train_totals: Sequence[float] | None) -> tuple[list[Baseline], list[str]]:
    """The training mean and the training median, with a note where no training totals are known."""
    totals, source = _totals(judged, train_totals)
    notes = []
    if source != "train":
        notes.append(f"The constant baselines were set from the {source}: no training totals are known.")
    found = []
    for name, value in ((MEAN, float(np.mean(totals))), (MEDIAN, float(np.median(totals)))):
        constant = judged.units.with_predicted(np.full(judged.units.num, value))
        found.append(judged.against(constant, name, "constant", value, source))
    return found, notes


def rival_baselines(judged: Judged, rivals: Mapping[str, Table]) -> list[Baseline]:
    """Other models over the same units.

    Raises:
        ValueError: a rival's units, persons, labels or instrument are others, or its name is taken.
    """
    rows = judged.rows[judged.rows["split"] == judged.split]
    found = []
    for name, table in rivals.items():
        if name in (MEAN, MEDIAN, MODEL):
            raise ValueError(f"rivals: the name {name!r} is taken; call the model something else")
        scores = rival_scores(rows, judged.instrument, to_predictions(table, name), judged.config, (MODEL, name))
        found.append(judged.against(judged.units.with_predicted(scores), name, "rival", None, None))
    return found


def _totals(judged: Judged, given: Sequence[float] | None) -> tuple[Floats, str]:
    for source in ("train", "validation"):
        others = judged.rows[judged.rows["split"] == source]
        if source != judged.split and len(others):
            return build_severities(others).label, source
        if source == "train" and given is not None:
            return check_train_totals(given, judged.instrument), source
    return judged.units.label, "evaluated rows"
