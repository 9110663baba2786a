"""How predicted totals agree with the questionnaires': severity bands, calibration, limits of agreement.

Shape legend: B resamples, P persons, N units, K bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from moodscale.evaluate.metrics import Interval
from moodscale.evaluate.severity.figures import defined, everybody, moment_samples, per_person, percentiles
from moodscale.evaluate.severity.units import Severities
from moodscale.evaluate.units import Floats, Ints

BAND_FROM = (0, 5, 10, 15, 20)
"""The first total of each severity band (Kroenke et al. 2001), the same for PHQ-8 and PHQ-9."""
BANDS = ("0-4", "5-9", "10-14", "15-19", "20+")
BAND_NAMES = ("minimal", "mild", "moderate", "moderately severe", "severe")


@dataclass(frozen=True)
class Estimates:
    """Named figures with their intervals; ``None`` where one is not defined."""

    values: Mapping[str, float | None]
    ci: Mapping[str, Interval | None]

    def to_json(self) -> dict[str, Any]:
        ends = {name: None if pair is None else list(pair) for name, pair in self.ci.items()}
        return {**self.values, "ci": ends}


@dataclass(frozen=True)
class Bands:
    """Severity bands of labels and predictions.

    Attributes:
        confusion: units by the label's band (row) and the prediction's (column).
        estimates: ``quadratic_weighted_kappa``, ``exact`` (share in the label's own band) and ``within_one``.
    """

    confusion: tuple[tuple[int, ...], ...]
    estimates: Estimates

    def to_json(self) -> dict[str, Any]:
        return {"bands": list(BANDS), "confusion": [list(row) for row in self.confusion], **self.estimates.to_json()}


@dataclass(frozen=True)
class CalibrationBin:
    """Units with neighbouring predictions: their number, and the means of prediction and label."""

    num: int
    predicted: float
    label: float
    label_ci: Interval | None

    def to_json(self) -> dict[str, Any]:
        return {
            "num": self.num,
            "predicted": self.predicted,
            "label": self.label,
            "ci": {"label": None if self.label_ci is None else list(self.label_ci)},
        }


@dataclass(frozen=True)
class Calibration:
    """The regression of the label on the prediction (``intercept``, ``slope``; 0 and 1 are ideal), and binned means."""

    estimates: Estimates
    bins: tuple[CalibrationBin, ...]

    def to_json(self) -> dict[str, Any]:
        return {**self.estimates.to_json(), "bins": [entry.to_json() for entry in self.bins]}


def band_index(totals: Floats) -> Ints:
    """(N,) band of each total; a predicted total is rounded to the nearest whole one first, halves up."""
    whole = np.floor(totals + 0.5)
    return (np.searchsorted(BAND_FROM, whole, side="right") - 1).astype(np.intp)


def band_agreement(units: Severities, drawn: Floats, confidence: float) -> Bands:
    """Confusion of the severity bands, and Cohen's kappa with quadratic weights (Cohen 1968)."""
    num_bands = len(BANDS)
    cell = band_index(units.label) * num_bands + band_index(units.predicted)
    flat = per_person(units, [(cell == index).astype(np.float64) for index in range(num_bands**2)])
    counts = flat.sum(axis=0).reshape(num_bands, num_bands).astype(int)
    point, samples = _band_samples(everybody(units) @ flat), _band_samples(drawn @ flat)
    confusion = tuple(tuple(int(value) for value in row) for row in counts)
    return Bands(confusion=confusion, estimates=_estimates(point, samples, confidence))


def calibration(units: Severities, num_bins: int, drawn: Floats, confidence: float) -> Calibration:
    """Calibration in the large and over the range of the predictions.

    Args:
        num_bins: bins of about equally many predictions; equal predictions are never torn apart, so that there may
            be fewer.
    """
    names = ("intercept", "slope")
    point, samples = moment_samples(units, everybody(units)), moment_samples(units, drawn)
    estimates = _estimates({name: point[name] for name in names}, {name: samples[name] for name in names}, confidence)
    edges = np.unique(np.quantile(units.predicted, np.arange(1, num_bins) / num_bins))
    index = np.searchsorted(edges, units.predicted, side="left")
    bins = []
    for number in np.unique(index):
        member = index == number
        table = per_person(units, [member.astype(np.float64), member * units.label])
        with np.errstate(invalid="ignore", divide="ignore"):
            sums = drawn @ table
            means = sums[:, 1] / sums[:, 0]
        bins.append(
            CalibrationBin(
                num=int(member.sum()),
                predicted=float(units.predicted[member].mean()),
                label=float(units.label[member].mean()),
                label_ci=percentiles(means, confidence),
            )
        )
    return Calibration(estimates=estimates, bins=tuple(bins))


def limits_of_agreement(units: Severities, drawn: Floats, confidence: float) -> Estimates:
    """Bland and Altman's (1986) figures of the errors, prediction minus label.

    ``bias``, ``sd``, ``lower`` and ``upper`` (bias ± 1.96 sd) and ``proportional_slope``: by how much the error
    changes with each point of severity (the mean of prediction and label). Predictions that shrink towards the mean
    have a negative one.
    """
    names = {"bias": "mean_error", **{name: name for name in ("sd", "lower", "upper", "proportional_slope")}}
    point, samples = moment_samples(units, everybody(units)), moment_samples(units, drawn)
    return _estimates(
        {name: point[column] for name, column in names.items()},
        {name: samples[column] for name, column in names.items()},
        confidence,
    )


def _band_samples(flat: Floats) -> dict[str, Floats]:
    """(B, K * K) counts → (B,) figures."""
    num_bands = len(BANDS)
    observed = flat.reshape(-1, num_bands, num_bands)
    distance = np.abs(np.subtract.outer(np.arange(num_bands), np.arange(num_bands))).astype(np.float64)
    total = observed.sum(axis=(1, 2))
    expected = observed.sum(axis=2)[:, :, None] * observed.sum(axis=1)[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        disagreement = (observed * distance**2).sum(axis=(1, 2))
        by_chance = (expected * distance**2).sum(axis=(1, 2)) / total
        return {
            "quadratic_weighted_kappa": np.where(by_chance > 0, 1.0 - disagreement / by_chance, np.nan),
            "exact": (observed * (distance == 0)).sum(axis=(1, 2)) / total,
            "within_one": (observed * (distance <= 1)).sum(axis=(1, 2)) / total,
        }


def _estimates(point: Mapping[str, Floats], samples: Mapping[str, Floats], confidence: float) -> Estimates:
    values = {name: defined(found) for name, found in point.items()}
    ci = {name: None if values[name] is None else percentiles(samples[name], confidence) for name in values}
    return Estimates(values=values, ci=ci)
