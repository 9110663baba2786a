"""Puts the evaluation into the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from moodscale.evaluate.bootstrap import draw_resamples
from moodscale.evaluate.evaluate import Evaluation, evaluated_units
from moodscale.evaluate.metrics import METRICS, Figures
from moodscale.evaluate.reference import PAPER_TABLES
from moodscale.evaluate.report import charts
from moodscale.evaluate.report.context import ReportContext
from moodscale.evaluate.report.page import fact_groups, pair, write_page
from moodscale.evaluate.table import Predictions, to_predictions
from moodscale.evaluate.units import select_rows

_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc": "AUC (ranking)",
    "average_precision": "Average precision",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall (sensitivity)",
    "specificity": "Specificity",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "calibration_slope": "Calibration slope",
    "predicted_prevalence": "Called depressed",
}
_LENGTH_NAMES = {
    "num_clips": "Number of clips",
    "duration_s": "Total speech duration",
    "num_turns": "Number of turns",
}


def write_report(
    evaluation: Evaluation,
    table: Predictions | pa.Table | pd.DataFrame,
    context: ReportContext,
    path: str | Path,
) -> Path:
    """Write the report as one HTML file, by rename, so that a reader never sees half of it.

    Args:
        table: the table that ``evaluation`` was made from.
        path: the file to write; its folder is created.
    Returns:
        The file's path.
    """
    predictions = to_predictions(table)
    return write_page("report.html", _view(evaluation, predictions, context), path, interval=_interval)


def _view(evaluation: Evaluation, predictions: Predictions, context: ReportContext) -> dict[str, Any]:
    config = evaluation.config
    units = evaluated_units(predictions, evaluation)
    drawn = draw_resamples(units.strata, config.num_bootstrap, config.seed)
    rows, _ = select_rows(predictions, config.target, config.unit)
    return {
        "title": context.title,
        "evaluation": evaluation,
        "summary": _summary(evaluation),
        "confidence": f"{100 * config.confidence:g} %",
        "unit": evaluation.unit,
        "ranking": charts.ranking_panels(units, drawn, config.confidence),
        "reliability": charts.reliability_panel(units, config.num_calibration_bins, drawn, config.confidence),
        "participants": charts.participant_panels(units, evaluation.operating_point),
        "learning": charts.learning_panels(context.history),
        "metrics": [(name, _NAMES[name]) for name in METRICS],
        "confusions": [
            ("Participants", "mean probability", evaluation.participant),
            ("Participants", "majority vote", evaluation.overall.majority_vote),
            (f"{evaluation.unit.capitalize()}s", "one by one", evaluation.clip),
        ],
        "baselines": _baseline_rows(evaluation),
        "paper": PAPER_TABLES.get(context.recipe or ""),
        "ours": _our_rows(evaluation),
        "splits": _splits(rows),
        "facts": fact_groups(context.facts),
        "approximations": list(context.approximations),
    }


def _summary(evaluation: Evaluation) -> list[str]:
    """What a reader should take away, in plain sentences."""
    figures, counts = evaluation.participant, evaluation.participant.counts
    auc, interval = figures.values["auc"], figures.ci.get("auc")
    negatives = counts["num"] - counts["num_positive"]
    sentences = []
    if evaluation.guard.verdict == "fail":
        sentences.append("These scores are not shown to be better than a constant answer, so they should not be used.")
    if auc is not None:
        known = (
            f" ({100 * evaluation.config.confidence:g} % interval {100 * interval[0]:.0f} to {100 * interval[1]:.0f})"
            if interval
            else ""
        )
        sentences.append(
            f"Of 100 pairs of one depressed and one not depressed person of the {evaluation.split} split, the model "
            f"gives the depressed person the higher probability in about {100 * auc:.0f}{known}; chance is 50."
        )
    point = evaluation.operating_point
    origin = {
        "validation": "chosen on validation people",
        "config": "fixed in the configuration",
        "default": "the default, as no validation people were there to choose it",
    }[point.threshold_source]
    sentences.append(
        f"At threshold {point.participant:.2f} ({origin}) it calls {counts['tp']} of {counts['num_positive']} "
        f"depressed and {counts['fp']} of {negatives} not depressed people depressed."
    )
    return sentences


def _baseline_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row a baseline beside the model's own; ``None`` where a measure does not apply."""
    ours, clip, baselines = evaluation.participant, evaluation.clip, evaluation.baselines
    blank = dict.fromkeys(("auc", "ci", "accuracy", "balanced_accuracy", "brier", "clip_accuracy", "clip_brier"))
    model = {
        "name": "This model",
        "auc": ours.values["auc"],
        "ci": ours.ci.get("auc"),
        "accuracy": ours.values["accuracy"],
        "balanced_accuracy": ours.values["balanced_accuracy"],
        "brier": ours.values["brier"],
        "clip_accuracy": clip.values["accuracy"],
        "clip_brier": clip.values["brier"],
    }
    answer = "depressed" if baselines.participant.says_depressed else "not depressed"
    rows = [
        model,
        {
            **blank,
            "name": f"Always “{answer}”",
            "auc": 0.5,
            "accuracy": baselines.participant.accuracy,
            "balanced_accuracy": 0.5,
            "clip_accuracy": baselines.clip.accuracy,
        },
        {
            **blank,
            "name": f"Always the prevalence ({baselines.participant.prevalence:.2f})",
            "auc": 0.5,
            "brier": baselines.participant.brier,
            "clip_brier": baselines.clip.brier,
        },
    ]
    for name, length in baselines.length.items():
        mark = " (optimistic)" if length.optimistic else ""
        rows.append({**blank, "name": _LENGTH_NAMES[name] + mark, "auc": length.auc, "ci": length.ci})
    return rows


def _our_rows(evaluation: Evaluation) -> list[tuple[str, Mapping[str, Any]]]:
    rows: list[tuple[str, Mapping[str, Any]]] = [
        (f"Ours, {evaluation.unit}s at threshold {evaluation.operating_point.clip:.2f}", evaluation.clip.values)
    ]
    if "answer" in evaluation.variants:
        rows.append((f"Ours, {evaluation.unit}s, greedy answers", evaluation.variants["answer"]))
    return rows


def _splits(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """People, units and class share of each split in the table."""
    found = []
    for split in ("train", "validation", "test"):
        part = rows[rows["split"] == split]
        if part.empty:
            continue
        people = part.groupby("person", sort=False)["label"].max()
        genders: dict[str, int] = {}
        if "gender" in part.columns:
            counted = part.drop_duplicates("person")["gender"].value_counts()
            genders = {str(name): int(count) for name, count in counted.items()}
        hours = part["duration_s"].sum() / 3600.0 if "duration_s" in part.columns else None
        found.append(
            {
                "split": split,
                "num_people": len(people),
                "num_depressed": int((people == 1).sum()),
                "num_units": len(part),
                "hours": hours,
                "genders": ", ".join(f"{count} {name}" for name, count in genders.items()),
            }
        )
    return found


def _interval(figures: Figures, name: str, digits: int = 2) -> str:
    ends = figures.ci.get(name)
    return "" if ends is None else pair(ends, digits)
