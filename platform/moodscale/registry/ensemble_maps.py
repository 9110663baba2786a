"""Non-decreasing maps of a score: what links a member to the questionnaire's scale, and what calibrates an ensemble."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOGIT_MARGIN = 1e-3
"""Probabilities are held this far from 0 and 1 before their logit is taken: a saturated model must not decide alone."""


@dataclass(frozen=True)
class Identity:
    """The score as it is."""

    def __call__(self, values: Floats) -> Floats:
        return values

    def to_json(self) -> dict[str, Any]:
        return {"kind": "identity"}


@dataclass(frozen=True)
class Line:
    """``intercept + slope · x``, or of the logit of x; the slope is not negative."""

    intercept: float
    slope: float
    on_logit: bool = False

    def __call__(self, values: Floats) -> Floats:
        x = to_logit(values) if self.on_logit else values
        return np.asarray(self.intercept + self.slope * x, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        kind = "linear_on_logit" if self.on_logit else "linear"
        return {"kind": kind, "intercept": self.intercept, "slope": self.slope}


@dataclass(frozen=True)
class Steps:
    """Straight lines between knots, constant beyond the first and the last: isotonic regression's curve."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, values: Floats) -> Floats:
        return np.asarray(np.interp(values, self.x, self.y), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "isotonic", "x": list(self.x), "y": list(self.y)}


Map = Identity | Line | Steps


def is_flat(one: Map) -> bool:
    """Whether a map says the same of every score."""
    if isinstance(one, Line):
        return one.slope == 0
    return isinstance(one, Steps) and one.y[0] == one.y[-1]


def fit_map(kind: str, x: Floats, y: Floats, weight: Floats, on_logit: bool = False) -> Map:
    """The least-squares map of a kind.

    Args:
        kind: ``none``, ``linear`` or ``isotonic``.
        x, y, weight: (N,) scores, what they should become, and how much each row counts.
        on_logit: a line is fitted on the logit of x, which must be a probability.
    """
    if kind == "none":
        return Identity()
    if kind == "linear":
        intercept, slope = fit_line(to_logit(x) if on_logit else x, y, weight)
        return Line(intercept, slope, on_logit)
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(increasing=True, out_of_bounds="clip").fit(x, y, sample_weight=weight)
    return Steps(tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_)))


def fit_line(x: Floats, y: Floats, weight: Floats) -> tuple[float, float]:
    """Intercept and slope of the least-squares line among those that do not fall: (mean, 0) where the best one does."""
    total = float(weight.sum())
    mean_x, mean_y = float(weight @ x) / total, float(weight @ y) / total
    spread = float(weight @ (x - mean_x) ** 2)
    if spread <= 1e-12 * total * max(1.0, mean_x**2):
        return mean_y, 0.0
    slope = max(0.0, float(weight @ ((x - mean_x) * (y - mean_y))) / spread)
    return mean_y - slope * mean_x, slope


def to_logit(values: Floats) -> Floats:
    clipped = np.clip(values, LOGIT_MARGIN, 1.0 - LOGIT_MARGIN)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def map_from_json(values: Any, where: str) -> Map:
    """The map that ``to_json`` wrote.

    Raises:
        ValueError: naming ``where`` and what is wrong: an unknown kind, or a map that falls.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: is no map; build the ensemble again")
    kind = values.get("kind")
    if kind == "identity":
        return Identity()
    try:
        if kind in ("linear", "linear_on_logit"):
            line = Line(float(values["intercept"]), float(values["slope"]), kind == "linear_on_logit")
            rises = math.isfinite(line.intercept) and math.isfinite(line.slope) and line.slope >= 0
            found: Map = line
        elif kind == "isotonic":
            steps = Steps(tuple(map(float, values["x"])), tuple(map(float, values["y"])))
            x, y = np.array(steps.x), np.array(steps.y)
            rises = len(x) == len(y) >= 1 and bool(np.isfinite(x).all() and np.isfinite(y).all())
            rises = rises and bool((np.diff(x) > 0).all() and (np.diff(y) >= 0).all())
            found = steps
        else:
            raise ValueError(f"{where}: kind={kind!r} is no map; build the ensemble again")
    except (KeyError, TypeError):
        raise ValueError(f"{where}: something of the {kind} map is missing; build the ensemble again") from None
    if not rises:
        raise ValueError(f"{where}: the {kind} map falls or is not finite; build the ensemble again")
    return found
