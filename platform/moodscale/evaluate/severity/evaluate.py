"""From a Prediction table of totals to every figure, its interval, the baselines beside it and the guard's verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from moodscale.evaluate.bootstrap import draw_resamples
from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.guard import Verdict
from moodscale.evaluate.severity.agreement import (
    Bands,
    Calibration,
    Estimates,
    band_agreement,
    calibration,
    limits_of_agreement,
)
from moodscale.evaluate.severity.baselines import Baseline, Judged, constant_baselines, rival_baselines
from moodscale.evaluate.severity.compare import Table
from moodscale.evaluate.severity.figures import (
    SeverityFigures,
    ThresholdFigures,
    severity_figures,
    threshold_figures,
)
from moodscale.evaluate.severity.guard import SeverityEvidence, judge_severity
from moodscale.evaluate.severity.items import ItemFigures, item_figures
from moodscale.evaluate.severity.units import Severities, build_severities, select_totals
from moodscale.evaluate.table import to_predictions
from moodscale.schema import DEPRESSED_FROM


@dataclass(frozen=True)
class SeverityContext:
    """What the table itself does not say.

    Attributes:
        split: the split whose rows are judged.
        train_totals: the training questionnaires' totals, for the constant baselines where the table has no training
            rows.
        rivals: other models' Prediction tables over the same units, by the name to show, e.g. ``TF-IDF + ridge``.
    """

    split: str = "test"
    train_totals: Sequence[float] | None = None
    rivals: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class SeverityEvaluation:
    """The result. ``to_json()`` holds plain JSON values only; an undefined figure is null.

    Attributes:
        figures: MAE, RMSE, Pearson's r, Lin's concordance, mean error and AUC at 10, over units.
        thresholds: ranking at every total from ``config.first_threshold`` on.
        agreement: Bland and Altman's figures.
        by_gender: ``figures`` of each gender's units; empty where the table does not tell genders apart.
        items: by target (``item_1`` …), where the table has such rows.
        baselines: the training mean, the training median, then the rivals.
    """

    source: str
    split: str
    unit: str
    instrument: str
    config: SeverityConfig
    figures: SeverityFigures
    thresholds: tuple[ThresholdFigures, ...]
    bands: Bands
    calibration: Calibration
    agreement: Estimates
    by_gender: Mapping[str, SeverityFigures]
    items: Mapping[str, ItemFigures]
    baselines: tuple[Baseline, ...]
    guard: Verdict
    model_versions: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            **self.figures.to_json(),
            "thresholds": [entry.to_json() for entry in self.thresholds],
            "bands": self.bands.to_json(),
            "calibration": self.calibration.to_json(),
            "agreement": self.agreement.to_json(),
            "by_gender": {gender: figures.to_json() for gender, figures in self.by_gender.items()},
            "items": {name: figures.to_json() for name, figures in self.items.items()},
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "guard": self.guard.to_json(),
            "notes": list(self.notes),
            "source": self.source,
            "split": self.split,
            "unit": self.unit,
            "target": "total",
            "instrument": self.instrument,
            "model_versions": list(self.model_versions),
            "config": self.config.to_json(),
        }


def evaluate_severity(
    table: Table, config: SeverityConfig | None = None, context: SeverityContext | None = None
) -> SeverityEvaluation:
    """Judge the predicted totals of one split.

    A person with several questionnaires has a unit for each; intervals resample persons.

    Args:
        table: a Prediction table with rows of target ``total``.
    Raises:
        ValueError: no such rows, mixed or unnamed instruments, totals out of range, or rivals over other units.
    """
    config, context = config or SeverityConfig(), context or SeverityContext()
    predictions = to_predictions(table)
    rows, instrument, notes = select_totals(predictions, config.unit, config.instrument, context.split)
    judged_rows = rows[rows["split"] == context.split]
    units = build_severities(judged_rows)
    drawn = draw_resamples(units.strata, config.num_bootstrap, config.seed)
    judged = Judged(rows, context.split, instrument, units, drawn, config)
    constants, constant_notes = constant_baselines(judged, context.train_totals)
    baselines = (*constants, *rival_baselines(judged, context.rivals))
    figures = severity_figures(units, drawn, config.confidence)
    by_gender, gender_notes = _by_gender(units, config)
    thresholds = threshold_figures(
        units,
        range(config.first_threshold, min(config.last_threshold, instrument.max_total) + 1),
        drawn,
        config.confidence,
    )
    items, item_notes = item_figures(predictions, units, instrument, context.split, config)
    return SeverityEvaluation(
        source=predictions.source,
        split=context.split,
        unit=config.unit,
        instrument=str(instrument),
        config=config,
        figures=figures,
        thresholds=thresholds,
        bands=band_agreement(units, drawn, config.confidence),
        calibration=calibration(units, config.num_calibration_bins, drawn, config.confidence),
        agreement=limits_of_agreement(units, drawn, config.confidence),
        by_gender=by_gender,
        items=items,
        baselines=baselines,
        guard=judge_severity(SeverityEvidence(units, figures, by_gender, baselines), config),
        model_versions=tuple(sorted(judged_rows["model_version"].unique())),
        notes=(
            *predictions.notes,
            *notes,
            *_undefined(figures, thresholds, units),
            *gender_notes,
            *constant_notes,
            *item_notes,
        ),
    )


def evaluated_severities(table: Table, evaluation: SeverityEvaluation) -> Severities:
    """The units that ``evaluation`` was computed from, for plots."""
    config = evaluation.config
    rows, _, _ = select_totals(to_predictions(table), config.unit, config.instrument, evaluation.split)
    return build_severities(rows[rows["split"] == evaluation.split])


def evaluated_rows(table: Table, evaluation: SeverityEvaluation) -> pd.DataFrame:
    """The rows of every split from which ``evaluation`` took its split."""
    config = evaluation.config
    return select_totals(to_predictions(table), config.unit, config.instrument, evaluation.split)[0]


def _undefined(figures: SeverityFigures, thresholds: Sequence[ThresholdFigures], units: Severities) -> list[str]:
    notes = []
    if figures.values["pearson_r"] is None:
        notes.append("Pearson's r skipped: all predictions or all labels are the same.")
    skipped = [entry for entry in thresholds if entry.skipped]
    if skipped:
        listed = ", ".join(str(entry.threshold) for entry in skipped)
        notes.append(f"AUC and average precision skipped at threshold(s) {listed}: {skipped[0].skipped}.")
    several = units.num - units.num_persons
    if several:
        notes.append(
            f"{units.num} units of {units.num_persons} participants: who has several counts once for each, and is "
            "resampled as one."
        )
    return notes


def _by_gender(units: Severities, config: SeverityConfig) -> tuple[dict[str, SeverityFigures], list[str]]:
    if units.gender is None:
        return {}, ["Figures by gender skipped: the column gender is absent."]
    gender = np.asarray(units.gender, dtype=object)
    genders = sorted(set(units.gender))
    if len(genders) < 2:
        return {}, [f"Figures by gender skipped: every row has gender {genders[0]!r}."]
    found, notes = {}, []
    for number, name in enumerate(genders):
        group = units.only(np.asarray(gender == name, dtype=np.bool_))
        drawn = draw_resamples(group.strata, config.num_bootstrap, config.seed + 2 + number)
        found[name] = severity_figures(group, drawn, config.confidence)
        if found[name].values["auc_at_10"] is None:
            notes.append(
                f"AUC of {name} skipped: {found[name].num_depressed} of {found[name].num} units have a total of "
                f"{DEPRESSED_FROM} or more."
            )
    return found, notes
