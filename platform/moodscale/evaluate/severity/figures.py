"""Figures of predicted totals, for the units as they are and for every resample of the persons at once.

Whatever is a mean, a variance or a covariance comes from a few sums by person: a resample is a row of
multiplicities, so its sums are one product of matrices. The units as they are, are the resample that draws
everybody once: point figures and intervals come from the same lines.

Shape legend: B resamples, P persons, N units, G distinct predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moodscale.evaluate.metrics import MIN_PER_CLASS, Interval
from moodscale.evaluate.severity.units import Severities
from moodscale.evaluate.units import Floats
from moodscale.schema import DEPRESSED_FROM

METRICS = ("mae", "rmse", "pearson_r", "ccc", "mean_error", "auc_at_10")
LOWER_IS_BETTER = frozenset({"mae", "rmse", "brier"})

_BLOCK = 1_000_000
"""Weights held at once."""
_NO_SPREAD = 1e-12
"""Variances below this, in squared points, are those of equal numbers."""


@dataclass(frozen=True)
class SeverityFigures:
    """The figures of one model or group.

    Attributes:
        values: by name, of ``METRICS``; ``None`` where a figure is not defined on these rows.
        ci: lower and upper end by name; ``None`` where it could not be estimated.
        num, num_persons: units and persons.
        num_depressed: units with a label of 10 or more.
    """

    values: Mapping[str, float | None]
    ci: Mapping[str, Interval | None]
    num: int
    num_persons: int
    num_depressed: int

    def to_json(self) -> dict[str, Any]:
        return {
            **self.values,
            "ci": {name: None if pair is None else list(pair) for name, pair in self.ci.items()},
            "num": self.num,
            "num_persons": self.num_persons,
            "num_depressed": self.num_depressed,
        }


@dataclass(frozen=True)
class ThresholdFigures:
    """How well the predictions rank units at and above one total over those below it.

    Attributes:
        num_positive: units of the ``num`` with a label at or above the threshold.
        skipped: why the figures are ``None``; empty where they are there.
    """

    threshold: int
    num: int
    num_positive: int
    auc: float | None = None
    average_precision: float | None = None
    auc_ci: Interval | None = None
    average_precision_ci: Interval | None = None
    skipped: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "num": self.num,
            "num_positive": self.num_positive,
            "auc": self.auc,
            "average_precision": self.average_precision,
            "ci": {
                "auc": None if self.auc_ci is None else list(self.auc_ci),
                "average_precision": None if self.average_precision_ci is None else list(self.average_precision_ci),
            },
            "skipped": self.skipped or None,
        }


def severity_figures(units: Severities, drawn: Floats, confidence: float) -> SeverityFigures:
    """Every figure of ``METRICS`` with its interval.

    Args:
        drawn: (B, P) multiplicities of the persons; B of 0 leaves the intervals out.
    """
    point = {name: defined(values) for name, values in metric_samples(units, everybody(units)).items()}
    samples = metric_samples(units, drawn)
    return SeverityFigures(
        values=point,
        ci={name: None if point[name] is None else percentiles(samples[name], confidence) for name in METRICS},
        num=units.num,
        num_persons=units.num_persons,
        num_depressed=int((units.label >= DEPRESSED_FROM).sum()),
    )


def metric_samples(units: Severities, drawn: Floats) -> dict[str, Floats]:
    """(B,) values of every figure of ``METRICS``, NaN where a resample leaves one undefined."""
    moments = moment_samples(units, drawn)
    auc = np.full(len(drawn), np.nan)
    if not why_skipped(units, DEPRESSED_FROM):
        auc = ranking_samples(units, [DEPRESSED_FROM], drawn)[DEPRESSED_FROM][0]
    return {**{name: moments[name] for name in METRICS if name in moments}, "auc_at_10": auc}


def moment_samples(units: Severities, drawn: Floats) -> dict[str, Floats]:
    """(B,) values of everything that first and second moments give.

    ``pearson_r`` and Lin's concordance ``ccc`` (Lin 1989, with variances over N); ``slope`` and ``intercept`` of the
    regression of the label on the prediction; ``spread_ratio``, the predictions' standard deviation over the
    labels'; Bland and Altman's ``sd`` of the errors (over N - 1), ``lower`` and ``upper`` limits of agreement and
    ``proportional_slope``, the regression of the error on the mean of prediction and label.
    """
    error = units.predicted - units.label
    # Centred: a variance as a difference of large sums would lose its digits.
    means = float(units.predicted.mean()), float(units.label.mean())
    p, y = units.predicted - means[0], units.label - means[1]
    columns = [np.ones(units.num), error, np.abs(error), error**2, p, y, p * p, y * y, p * y]
    sums = drawn @ per_person(units, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = sums[:, 0]
        bias, absolute, square, mean_p, mean_y, mean_pp, mean_yy, mean_py = (sums[:, 1:] / n[:, None]).T
        var_p, var_y = _variance(mean_pp - mean_p**2), _variance(mean_yy - mean_y**2)
        covariance = mean_py - mean_p * mean_y
        slope = _over(covariance, var_p)
        sd = np.sqrt(_variance(square - bias**2) * _over(n, n - 1.0))
        return {
            "mae": absolute,
            "rmse": np.sqrt(square),
            "pearson_r": np.clip(_over(covariance, np.sqrt(var_p * var_y)), -1.0, 1.0),
            "ccc": _over(2.0 * covariance, var_p + var_y + bias**2),
            "mean_error": bias,
            "slope": slope,
            "intercept": mean_y + means[1] - slope * (mean_p + means[0]),
            "spread_ratio": _over(np.sqrt(var_p), np.sqrt(var_y)),
            "sd": sd,
            "lower": bias - LIMIT * sd,
            "upper": bias + LIMIT * sd,
            "proportional_slope": _over(2.0 * (var_p - var_y), _variance(var_p + var_y + 2.0 * covariance)),
        }


LIMIT = 1.96
"""Standard deviations to either side of the bias between which Bland and Altman expect 95 % of the errors."""


def threshold_figures(
    units: Severities, thresholds: Sequence[int], drawn: Floats, confidence: float
) -> tuple[ThresholdFigures, ...]:
    """AUC and average precision at every threshold, skipped where a class has fewer than two persons."""
    skipped = {threshold: why_skipped(units, threshold) for threshold in thresholds}
    usable = [threshold for threshold in thresholds if not skipped[threshold]]
    point, samples = ranking_samples(units, usable, everybody(units)), ranking_samples(units, usable, drawn)
    found = []
    for threshold in thresholds:
        positive = int((units.label >= threshold).sum())
        if skipped[threshold]:
            found.append(ThresholdFigures(threshold, units.num, positive, skipped=skipped[threshold]))
            continue
        (auc, precision), (auc_samples, precision_samples) = point[threshold], samples[threshold]
        found.append(
            ThresholdFigures(
                threshold=threshold,
                num=units.num,
                num_positive=positive,
                auc=defined(auc),
                average_precision=defined(precision),
                auc_ci=percentiles(auc_samples, confidence),
                average_precision_ci=percentiles(precision_samples, confidence),
            )
        )
    return tuple(found)


def why_skipped(units: Severities, threshold: int) -> str:
    """Why nothing can be ranked at a threshold; empty where it can be."""
    positive = units.label >= threshold
    above, below = len(np.unique(units.person[positive])), len(np.unique(units.person[~positive]))
    if min(above, below) >= MIN_PER_CLASS:
        return ""
    return f"{above} person(s) at or above {threshold}, {below} below; each class needs {MIN_PER_CLASS}"


def ranking_samples(units: Severities, thresholds: Sequence[int], drawn: Floats) -> dict[int, tuple[Floats, Floats]]:
    """By threshold, (B,) AUC and (B,) average precision; NaN where a resample has one class only."""
    found = {threshold: (np.empty(len(drawn)), np.empty(len(drawn))) for threshold in thresholds}
    order = np.argsort(-units.predicted, kind="stable")
    score, label, person = units.predicted[order], units.label[order], units.person[order]
    starts = np.flatnonzero(np.append(True, score[1:] != score[:-1]))
    for rows, block in _blocks(drawn, units.num):
        weight = block[:, person]
        called = np.cumsum(np.add.reduceat(weight, starts, axis=1), axis=1)
        for threshold, (auc, precision) in found.items():
            hits = np.add.reduceat(weight * (label >= threshold), starts, axis=1)
            tp = np.cumsum(hits, axis=1)
            fp = called - tp
            # A positive outranks every negative further down and ties with half of those in its own group.
            below = fp[:, -1:] - fp + np.diff(fp, axis=1, prepend=0.0) / 2
            with np.errstate(invalid="ignore", divide="ignore"):
                auc[rows] = _over((hits * below).sum(axis=1), tp[:, -1] * fp[:, -1])
                precision[rows] = _over((hits * tp / np.maximum(called, 1e-12)).sum(axis=1), tp[:, -1])
    return found


def everybody(units: Severities) -> Floats:
    """(1, P) the resample that draws each person once."""
    return np.ones((1, units.num_persons))


def per_person(units: Severities, columns: Sequence[Floats]) -> Floats:
    """K columns of (N,) → (P, K) sums."""
    sums = [np.bincount(units.person, weights=column, minlength=units.num_persons) for column in columns]
    return np.stack(sums, axis=1)


def percentiles(samples: Floats, confidence: float) -> Interval | None:
    """A percentile interval; ``None`` where more than a tenth of the resamples leave the figure undefined."""
    values = samples[np.isfinite(samples)]
    if len(values) < max(1.0, 0.9 * len(samples)):
        return None
    low, high = np.quantile(values, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def defined(values: Floats) -> float | None:
    """The single value of a point figure; ``None`` where it is not a number."""
    return float(values[0]) if np.isfinite(values[0]) else None


def _variance(values: Floats) -> Floats:
    """Variances without the rounding errors that equal numbers leave."""
    return np.where(values < _NO_SPREAD, 0.0, values)


def _over(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient; NaN over zero."""
    return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan), dtype=np.float64)


def _blocks(drawn: Floats, num_units: int) -> Iterator[tuple[slice, Floats]]:
    size = max(1, _BLOCK // max(1, num_units))
    for first in range(0, len(drawn), size):
        yield slice(first, min(first + size, len(drawn))), drawn[first : first + size]
