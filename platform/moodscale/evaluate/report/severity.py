"""Puts a severity evaluation, and what led to the model, into one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moodscale.evaluate.metrics import Interval
from moodscale.evaluate.reference import SEVERITY_PAPER_TABLE
from moodscale.evaluate.report import severity_charts as charts
from moodscale.evaluate.report.charts import Panel, learning_panels
from moodscale.evaluate.report.context import ReportContext
from moodscale.evaluate.report.page import fact_groups, number, pair, write_page
from moodscale.evaluate.severity.agreement import BAND_NAMES, BANDS, Estimates
from moodscale.evaluate.severity.baselines import MEAN, MEDIAN, MODEL, Baseline
from moodscale.evaluate.severity.compare import Comparison, Table
from moodscale.evaluate.severity.evaluate import SeverityEvaluation, evaluated_rows, evaluated_severities
from moodscale.evaluate.severity.figures import METRICS, SeverityFigures
from moodscale.evaluate.severity.units import Severities
from moodscale.evaluate.table import to_predictions
from moodscale.schema import DEPRESSED_FROM

_NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "pearson_r": "Pearson r",
    "ccc": "Concordance (CCC)",
    "mean_error": "Mean error",
    "auc_at_10": "AUC at 10 or more",
    "auc": "AUC",
    "brier": "Brier score",
}


def write_severity_report(
    evaluation: SeverityEvaluation,
    table: Table,
    context: ReportContext,
    path: str | Path,
    *,
    rounds: Mapping[str, Any] | None = None,
    ensemble: Mapping[str, Any] | None = None,
    comparisons: Sequence[Comparison] = (),
) -> Path:
    """Write the report as one HTML file, by rename, so that a reader never sees half of it.

    Args:
        table: the table that ``evaluation`` was made from.
        path: the file to write; its folder is created.
        rounds: of pseudo-labels: ``rounds`` (a list), ``stopped`` and ``best_round``. A missing field is a dash.
        ensemble: ``members``, ``weighting``, ``calibration`` and ``interval``. A missing field is a dash.
        comparisons: further paired comparisons, e.g. of an ensemble with the model of true labels alone.
    Returns:
        The file's path.
    """
    units = evaluated_severities(to_predictions(table), evaluation)
    every = [*(baseline.comparison for baseline in evaluation.baselines), *comparisons]
    view = {
        "title": context.title,
        "evaluation": evaluation,
        "summary": _summary(evaluation),
        "confidence": f"{100 * evaluation.config.confidence:g} %",
        "paper": SEVERITY_PAPER_TABLE,
        "agreement": charts.agreement_panels(units, evaluation),
        "thresholds": charts.threshold_panel(evaluation),
        "metrics": [(name, _NAMES[name]) for name in METRICS],
        "estimates": _estimate_rows(evaluation),
        "bands": [f"{band} {name}" for band, name in zip(BANDS, BAND_NAMES, strict=True)],
        "models": _model_rows(evaluation),
        "differences": [entry for entry in every if entry.target == "total"],
        "yes_no": [entry for entry in every if entry.target == "depressed"],
        "names": _NAMES,
        "difference_panel": _difference_panel(every, evaluation),
        "gender_panel": _gender_panel(evaluation),
        "item_panel": _item_panel(evaluation),
        "rounds": _rounds(rounds),
        "rounds_panel": charts.rounds_panel((rounds or {}).get("rounds") or ()),
        "ensemble": _ensemble(ensemble, units),
        "learning": learning_panels(context.history),
        "ours": _ours(evaluation),
        "splits": _splits(evaluated_rows(table, evaluation)),
        "facts": fact_groups(context.facts),
        "approximations": list(context.approximations),
    }
    return write_page("severity.html", view, path, interval=_interval, count=_count)


def _summary(evaluation: SeverityEvaluation) -> list[str]:
    """What a reader should take away, in plain sentences."""
    values, ci = evaluation.figures.values, evaluation.figures.ci
    level = f"{100 * evaluation.config.confidence:g} % interval"
    sentences = []
    if evaluation.guard.verdict == "fail":
        sentences.append("These totals are not shown to be better than an average, so they should not be used.")
    constants = {entry.name: entry for entry in evaluation.baselines if entry.kind == "constant"}
    others = [
        f"always answering the {name} ({constants[name].value:.3g}) is by {constants[name].figures.values['mae']:.2f}"
        for name in (MEAN, MEDIAN)
    ]
    mae = ci.get("mae")
    known = f" ({level} {mae[0]:.2f} to {mae[1]:.2f})" if mae else ""
    sentences.append(
        f"A predicted {evaluation.instrument} total is off by {values['mae']:.2f} points on average{known}; "
        f"{' and '.join(others)}."
    )
    auc, ends = values["auc_at_10"], ci.get("auc_at_10")
    if auc is not None:
        known = f" ({level} {100 * ends[0]:.0f} to {100 * ends[1]:.0f})" if ends else ""
        sentences.append(
            f"Of 100 pairs of one {evaluation.unit} with a total of {DEPRESSED_FROM} or more and one below, the first "
            f"has the higher prediction in about {100 * auc:.0f}{known}; chance is 50."
        )
    return sentences


def _estimate_rows(evaluation: SeverityEvaluation) -> list[tuple[str, Estimates, str]]:
    """Name, whose figures, which of them."""
    calibration, agreement, bands = evaluation.calibration.estimates, evaluation.agreement, evaluation.bands.estimates
    return [
        ("Calibration slope (1 is ideal)", calibration, "slope"),
        ("Calibration intercept (0 is ideal)", calibration, "intercept"),
        ("Bias", agreement, "bias"),
        ("Standard deviation of the errors", agreement, "sd"),
        ("Lower limit of agreement", agreement, "lower"),
        ("Upper limit of agreement", agreement, "upper"),
        ("Proportional bias (slope)", agreement, "proportional_slope"),
        ("Bands: quadratic-weighted kappa", bands, "quadratic_weighted_kappa"),
        ("Bands: exactly right", bands, "exact"),
        ("Bands: at most one off", bands, "within_one"),
    ]


def _model_rows(evaluation: SeverityEvaluation) -> list[tuple[str, SeverityFigures]]:
    return [
        ("This model", evaluation.figures),
        *((_baseline_name(baseline), baseline.figures) for baseline in evaluation.baselines),
    ]


def _baseline_name(baseline: Baseline) -> str:
    if baseline.value is None:
        return baseline.name
    known = "" if baseline.source == "train" else f", of the {baseline.source}"
    return f"Always the {baseline.name} ({baseline.value:.3g}{known})"


def _difference_panel(comparisons: Sequence[Comparison], evaluation: SeverityEvaluation) -> Panel | None:
    rows: list[charts.Row] = []
    for entry in comparisons:
        found = entry.differences.get("mae")
        if found is not None and found.difference is not None:
            name = f"vs {entry.second}" if entry.first == MODEL else f"{entry.first} vs {entry.second}"
            rows.append((name, found.difference, found.ci))
    caption = "Points of MAE, first minus second: left of the dashed line the first is better."
    return charts.interval_panel("Paired differences of the MAE", "Difference of MAE", rows, caption, zero=True)


def _gender_panel(evaluation: SeverityEvaluation) -> Panel | None:
    rows: list[charts.Row] = [
        (gender, value, figures.ci["mae"])
        for gender, figures in evaluation.by_gender.items()
        if (value := figures.values["mae"]) is not None
    ]
    return charts.interval_panel("MAE by gender", "Points", rows, "")


def _item_panel(evaluation: SeverityEvaluation) -> Panel | None:
    rows: list[charts.Row] = [
        (name.replace("_", " "), value, figures.estimates.ci["mae"])
        for name, figures in evaluation.items.items()
        if (value := figures.estimates.values["mae"]) is not None
    ]
    return charts.interval_panel("MAE by item", "Points, of 3", rows, "")


def _rounds(rounds: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Rounds as cells of a table; what is not known is ``None``."""
    if rounds is None:
        return None
    rows = []
    for entry in rounds.get("rounds") or ():
        shift, agreement, validation = (entry.get(name) or {} for name in ("label_shift", "agreement", "validation"))
        improved = entry.get("improved")
        rows.append(
            {
                "round": entry.get("round"),
                "labeller": entry.get("labeller") or "–",
                "counts": [entry.get(name) for name in ("num_true", "num_pseudo", "num_left_out")],
                "shift": [shift.get(name) for name in ("mean", "mean_abs", "max_abs")],
                "num_changed": shift.get("num_changed"),
                "num_agreement": agreement.get("num"),
                "agreement": [agreement.get(name) for name in ("mae", "pearson_r")],
                "validation": [validation.get(name) for name in ("mae", "rmse", "pearson_r")],
                "improved": "–" if improved is None else ("yes" if improved else "no"),
                "best": entry.get("round") is not None and entry.get("round") == rounds.get("best_round"),
            }
        )
    return {"rows": rows, "stopped": rounds.get("stopped"), "best_round": rounds.get("best_round")}


def _ensemble(ensemble: Mapping[str, Any] | None, units: Severities) -> dict[str, Any] | None:
    """Members as cells of a table, and sentences on what was fitted."""
    if ensemble is None:
        return None
    members = []
    for member in ensemble.get("members") or ():
        validation = member.get("validation") or {}
        members.append(
            {
                **{name: member.get(name) or "–" for name in ("name", "model_version", "recipe")},
                "weight": member.get("weight"),
                "validation": [validation.get(name) for name in ("mae", "rmse", "pearson_r")],
            }
        )
    sentences = [f"Weights: {ensemble.get('weighting') or '–'}."]
    calibration, interval = ensemble.get("calibration") or {}, ensemble.get("interval") or {}
    if calibration.get("slope") is not None and calibration.get("intercept") is not None:
        sentences.append(
            f"Calibration ({calibration.get('kind') or '–'}): {number(calibration['intercept'], 2)} + "
            f"{number(calibration['slope'], 3)} × the members' weighted mean."
        )
    else:
        sentences.append(f"Calibration: {calibration.get('kind') or '–'}.")
    if interval.get("half_width") is not None and interval.get("level") is not None:
        width = float(interval["half_width"])
        held = int((np.abs(units.predicted - units.label) <= width).sum())
        sentences.append(
            f"Each total comes with ± {number(width, 2)} points, meant to hold {100 * interval['level']:g} % of the "
            f"questionnaires; it holds {held} of these {units.num} ({100 * held / units.num:.0f} %)."
        )
    else:
        sentences.append("Interval of a total: –.")
    return {"members": members, "sentences": sentences}


def _ours(evaluation: SeverityEvaluation) -> dict[str, Any]:
    """Our row beside the paper's; the least AUC over the thresholds that the paper has."""
    aucs = [(entry.auc, entry.threshold) for entry in evaluation.thresholds if entry.auc is not None]
    least = min(aucs) if aucs else None
    return {
        "name": f"Ours, {evaluation.instrument}",
        "values": evaluation.figures.values,
        "num": evaluation.figures.num_persons,
        "least": "–" if least is None else f"{number(least[0])} (at {least[1]})",
        "range": "–" if not aucs else f"{min(t for _, t in aucs)} to {max(t for _, t in aucs)}",
    }


def _splits(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """People, units and severity of each split in the table."""
    found = []
    for split in ("train", "validation", "test"):
        part = rows[rows["split"] == split]
        if part.empty:
            continue
        genders: dict[str, int] = {}
        if "gender" in part.columns:
            counted = part.drop_duplicates("person")["gender"].value_counts()
            genders = {str(name): int(count) for name, count in counted.items()}
        found.append(
            {
                "split": split,
                "num_people": int(part["person"].nunique()),
                "num_units": len(part),
                "mean": float(part["label"].mean()),
                "median": float(part["label"].median()),
                "num_depressed": int((part["label"] >= DEPRESSED_FROM).sum()),
                "genders": ", ".join(f"{count} {name}" for name, count in genders.items()),
            }
        )
    return found


def _interval(holder: Any, name: str, digits: int = 2) -> str:
    """The interval of one figure of a holder with ``ci``, as text; empty where there is none."""
    ends: Interval | None = holder.ci.get(name)
    return "" if ends is None else pair(ends, digits)


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
