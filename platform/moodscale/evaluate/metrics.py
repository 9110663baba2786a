"""Point figures of a set of scored units. The bootstrap computes the same ones for many resamples at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn import metrics as sk

from moodscale.evaluate.units import Bools, Floats, Scored, logit

Interval = tuple[float, float]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "auc",
    "average_precision",
    "f1",
    "precision",
    "recall",
    "specificity",
    "brier",
    "ece",
    "calibration_slope",
    "predicted_prevalence",
)
LABEL_METRICS = ("accuracy", "balanced_accuracy", "f1", "precision", "recall", "specificity", "predicted_prevalence")
"""Those that need only the thresholded predictions."""

MIN_PER_CLASS = 2
"""Ranking figures and slopes are left out where a class has fewer."""


@dataclass(frozen=True)
class Figures:
    """The figures of one level.

    Attributes:
        values: by metric name; ``None`` where the figure is not defined on these rows.
        ci: lower and upper end by metric name; ``None`` where it could not be estimated.
        counts: ``num``, ``num_positive`` and the confusion matrix (``tp``, ``fn``, ``fp``, ``tn``).
        threshold: from which score on a unit is called depressed.
        notes: what is not defined, and why.
    """

    values: Mapping[str, float | None]
    counts: Mapping[str, int]
    threshold: float
    ci: Mapping[str, Interval | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        confusion = {name: self.counts[name] for name in ("tp", "fn", "fp", "tn")}
        return {
            **self.values,
            "ci": {name: None if pair is None else list(pair) for name, pair in self.ci.items()},
            "num": self.counts["num"],
            "num_positive": self.counts["num_positive"],
            "prevalence": self.counts["num_positive"] / self.counts["num"],
            "confusion": confusion,
            "threshold": self.threshold,
        }


def point_figures(scored: Scored, threshold: float, num_bins: int, level: str) -> Figures:
    """Every figure of ``METRICS`` on the units as they are.

    Args:
        threshold: a unit is called depressed from this score on.
        num_bins: equal-width bins of the expected calibration error.
        level: how notes name the units, e.g. ``clips``.
    """
    predicted = scored.score >= threshold
    values, counts, notes = _label_figures(scored.label, predicted, level)
    values["brier"] = float(sk.brier_score_loss(scored.label, scored.score, pos_label=True))
    values["ece"] = expected_calibration_error(scored, num_bins)
    for name in ("auc", "average_precision", "calibration_slope"):
        values[name] = None
    if scored.num_smaller_class < MIN_PER_CLASS:
        notes.append(
            f"AUC, average precision and calibration slope of {level} skipped: {scored.num_positive} of {scored.num} "
            f"are depressed, each class needs {MIN_PER_CLASS}."
        )
    else:
        values["auc"] = float(sk.roc_auc_score(scored.label, scored.score))
        values["average_precision"] = float(sk.average_precision_score(scored.label, scored.score))
        line = calibration_line(scored)
        values["calibration_slope"] = None if line is None else line[1]
        if line is None:
            notes.append(f"Calibration slope of {level} skipped: the scores are constant or separate the classes.")
    ordered = {name: values[name] for name in METRICS}
    return Figures(values=ordered, counts=counts, threshold=threshold, notes=tuple(notes))


def label_figures(label: Bools, predicted: Bools, level: str) -> Figures:
    """The figures of ``LABEL_METRICS`` of yes/no predictions. Both arguments are (N,)."""
    values, counts, notes = _label_figures(label, predicted, level)
    return Figures(values=values, counts=counts, threshold=0.5, notes=tuple(notes))


def _label_figures(
    label: Bools, predicted: Bools, level: str
) -> tuple[dict[str, float | None], dict[str, int], list[str]]:
    tn, fp, fn, tp = (int(cell) for cell in sk.confusion_matrix(label, predicted, labels=[False, True]).ravel())
    counts = {"num": len(label), "num_positive": tp + fn, "tp": tp, "fn": fn, "fp": fp, "tn": tn}
    values: dict[str, float | None] = dict.fromkeys(LABEL_METRICS)
    values["accuracy"] = float(sk.accuracy_score(label, predicted))
    values["predicted_prevalence"] = (tp + fp) / len(label)
    notes = []
    if tp + fn:
        values["recall"] = float(sk.recall_score(label, predicted))
        values["f1"] = float(sk.f1_score(label, predicted))
    if tn + fp:
        values["specificity"] = float(sk.recall_score(label, predicted, pos_label=False))
    if tp + fn and tn + fp:
        values["balanced_accuracy"] = float(sk.balanced_accuracy_score(label, predicted))
    else:
        notes.append(f"Balanced accuracy of {level} skipped: all have the same label.")
    if tp + fp:
        values["precision"] = float(sk.precision_score(label, predicted))
    else:
        notes.append(f"Precision of {level} skipped: none is called depressed.")
    return values, counts, notes


def expected_calibration_error(scored: Scored, num_bins: int) -> float:
    """Σ over equal-width bins of |sum of scores - number of depressed| / N."""
    gap = np.bincount(bin_index(scored.score, num_bins), weights=scored.score - scored.label, minlength=num_bins)
    return float(np.abs(gap).sum() / scored.num)


def bin_index(score: Floats, num_bins: int) -> Any:
    """(N,) equal-width bin of each score, 1.0 falling into the last."""
    return np.minimum((score * num_bins).astype(np.intp), num_bins - 1)


def calibration_line(scored: Scored) -> tuple[float, float] | None:
    """Intercept and slope of the logistic regression of the label on the score's logit (Cox's calibration line).

    A slope of 1 is ideal, below 1 means overconfident. ``None`` where the fit has no finite answer: constant
    scores, or scores that separate the classes.
    """
    x = logit(scored.score)
    if np.ptp(x) < 1e-9 or _separates(scored):
        return None
    beta = np.zeros(2)
    design = np.stack([np.ones_like(x), x], axis=1)
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -30.0, 30.0)))
        hessian = (design * (p * (1.0 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (scored.label - p))
        # A full Newton step may overshoot where the logits are large (hard scores): bound it.
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            return float(beta[0]), float(beta[1])
    return None


def _separates(scored: Scored) -> bool:
    positive, negative = scored.score[scored.label], scored.score[~scored.label]
    return bool(positive.min() >= negative.max() or negative.min() >= positive.max())
