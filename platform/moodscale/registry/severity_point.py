"""How a severity model's raw score becomes a calibrated total with a prediction interval, fitted on validation alone.

The interval is split-conformal (Vovk et al. 2005; Lei et al. 2018, section 2.2): half its width is the
⌈(n + 1)·level⌉-th smallest of the n residuals |label − calibrated score|. Each residual is of a calibration that was
fitted without that person (five folds of people); with the calibration's own people the residuals would be too small.
What no fold can undo: the checkpoint was chosen on these people too, so the true coverage is somewhat below the level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from moodscale.evaluate.severity.agreement import BAND_NAMES, band_index
from moodscale.schema import Instrument

Floats = np.ndarray[Any, np.dtype[np.float64]]
CalibrationKind = Literal["none", "linear", "isotonic"]

MIN_PEOPLE: Mapping[str, int] = {"none": 0, "linear": 10, "isotonic": 50}
"""Below so many validation people a calibration is left out: it would fit their noise."""
_FOLDS = 5
_DIGITS = 10
"""A point's numbers are rounded to so many significant digits: the same table gives the same point everywhere."""


@dataclass(frozen=True)
class Calibration:
    """A map of raw scores that never turns their order round.

    Attributes:
        slope, intercept: of ``linear``.
        x, y: of ``isotonic``: points to interpolate between, constant beyond the ends.
    """

    kind: CalibrationKind = "none"
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, raw: Floats) -> Floats:
        """(N,) raw scores → (N,) calibrated ones, not yet held within the instrument's range."""
        if self.kind == "isotonic":
            return np.interp(raw, self.x, self.y)
        return np.asarray(self.slope * raw + self.intercept, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        if self.kind == "linear":
            return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept}
        if self.kind == "isotonic":
            return {"kind": self.kind, "x": list(self.x), "y": list(self.y)}
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Raises: ValueError, where it is none of the three kinds or not increasing."""
        kind, given = values["kind"], {name: values[name] for name in values if name != "kind"}
        expected: Mapping[str, set[str]] = {"none": set(), "linear": {"slope", "intercept"}, "isotonic": {"x", "y"}}
        if kind not in expected or given.keys() != expected[kind]:
            raise ValueError(f"calibration={kind!r} with {sorted(given)} is not none, linear or isotonic")
        one = cls(
            kind,
            slope=float(given.get("slope", 1.0)),
            intercept=float(given.get("intercept", 0.0)),
            x=tuple(float(value) for value in given.get("x", ())),
            y=tuple(float(value) for value in given.get("y", ())),
        )
        numbers = np.array([one.slope, one.intercept, *one.x, *one.y])
        rising = len(one.x) == len(one.y) and bool(np.all(np.diff(one.x) > 0)) and bool(np.all(np.diff(one.y) >= 0))
        if not np.isfinite(numbers).all() or one.slope < 0 or (kind == "isotonic" and not (rising and one.x)):
            raise ValueError(f"calibration={kind!r} holds numbers that no calibration has; register the model again")
        return one


@dataclass(frozen=True)
class SeverityPoint:
    """The operating point of a model with target ``total``.

    Attributes:
        half_width: half of the prediction interval, in points; the instrument's whole range where ``num_people`` is
            too few for the level, and ``notes`` say so.
        level: the share of new people whose total the interval should hold.
        num_people: validation people it was fitted on.
        notes: what could not be fitted as asked, and why.
    """

    instrument: Instrument
    calibration: Calibration
    half_width: float
    level: float
    num_people: int
    notes: tuple[str, ...] = field(default=())

    def score(self, raw: Floats) -> Floats:
        """(N,) raw scores → (N,) totals within the instrument's range."""
        return np.clip(self.calibration.apply(np.asarray(raw, dtype=np.float64)), 0.0, float(self.instrument.max_total))

    def interval(self, score: float) -> tuple[float, float]:
        """What the person's own total lies in with probability ``level``, cut to the instrument's range."""
        most = float(self.instrument.max_total)
        return max(0.0, score - self.half_width), min(most, score + self.half_width)

    def to_json(self) -> dict[str, Any]:
        return {
            "instrument": self.instrument.value,
            "calibration": self.calibration.to_json(),
            "half_width": self.half_width,
            "level": self.level,
            "num_people": self.num_people,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SeverityPoint:
        """Raises: ValueError, where a value is missing or no point has it."""
        try:
            return cls(
                instrument=Instrument(values["instrument"]),
                calibration=Calibration.from_json(values["calibration"]),
                half_width=float(values["half_width"]),
                level=float(values["level"]),
                num_people=int(values["num_people"]),
                notes=tuple(str(note) for note in values["notes"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the operating point lacks {error}; register the model again") from None


def fit_point(
    raw: Floats,
    label: Floats,
    person: Floats | Any,
    instrument: Instrument,
    calibration: CalibrationKind = "linear",
    level: float = 0.9,
) -> SeverityPoint:
    """Fit calibration and interval on validation interviews.

    A calibration that would turn the scores' order round (a linear slope of zero or below) or that has too few people
    is left out, with a note: no calibration makes a model better that does not know its people apart.

    Args:
        raw, label: (N,) raw scores and questionnaire totals, one an interview.
        person: (N,) person keys; a person's interviews are never in two folds.
    Raises:
        ValueError: there is no interview, or numbers are missing.
    """
    raw, label = np.asarray(raw, dtype=np.float64), np.asarray(label, dtype=np.float64)
    if not len(raw) or not np.isfinite(raw).all() or not np.isfinite(label).all():
        raise ValueError("an operating point needs validation interviews with scores and labels; evaluate again")
    people, index = np.unique(np.asarray(person, dtype=object).astype(str), return_inverse=True)
    fitted, notes = _usable(raw, label, calibration, len(people))
    most = float(instrument.max_total)
    folds = _folds(index, label, len(people))
    held_out = np.empty_like(raw)
    for fold in np.unique(folds):
        own = folds == fold
        # Whether to calibrate was decided with everybody; what the calibration is, without the fold.
        apart = _fit(raw[~own], label[~own], fitted.kind) if fitted.kind != "none" else fitted
        held_out[own] = np.clip(apart.apply(raw[own]), 0.0, most)
    half_width = conformal_quantile(np.abs(label - held_out), level)
    if half_width is None:
        needed = math.ceil(round(level / (1 - level), 9))
        notes.append(
            f"{len(raw)} validation interviews are too few for an interval of level {level:g} (it needs {needed}): it "
            "is the instrument's whole range"
        )
        half_width = most
    return SeverityPoint(instrument, fitted, _rounded(half_width), level, len(people), tuple(notes))


def conformal_quantile(residuals: Floats, level: float) -> float | None:
    """The ⌈(n + 1)·level⌉-th smallest residual; ``None`` where there are too few for the level."""
    # Rounded first: 10 · 0.9 is 9, whatever floating point makes of it.
    rank = math.ceil(round((len(residuals) + 1) * level, 9))
    return float(np.sort(residuals)[rank - 1]) if 0 < rank <= len(residuals) else None


def severity_band(score: float) -> str:
    """The band of a total, as the evaluation draws them."""
    return BAND_NAMES[int(band_index(np.array([score]))[0])]


def _usable(raw: Floats, label: Floats, kind: CalibrationKind, num_people: int) -> tuple[Calibration, list[str]]:
    if kind == "none":
        return Calibration(), []
    if num_people < MIN_PEOPLE[kind]:
        return Calibration(), [
            f"{num_people} validation people are too few for a {kind} calibration (it needs {MIN_PEOPLE[kind]}): none"
        ]
    if np.ptp(raw) == 0 or np.polyfit(raw, label, 1)[0] <= 0:
        return Calibration(), ["validation scores do not rise with the labels: no calibration was fitted"]
    return _fit(raw, label, kind), []


def _fit(raw: Floats, label: Floats, kind: CalibrationKind) -> Calibration:
    if kind == "linear":
        slope, intercept = np.polyfit(raw, label, 1) if np.ptp(raw) else (0.0, float(label.mean()))
        slope, intercept = (slope, intercept) if slope > 0 else (0.0, float(label.mean()))
        return Calibration("linear", slope=_rounded(slope), intercept=_rounded(intercept))
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds="clip").fit(raw, label)
    x, y = model.X_thresholds_, model.y_thresholds_
    kept = np.concatenate([[True], np.diff(x) > 1e-9])
    return Calibration(
        "isotonic",
        x=tuple(_rounded(value) for value in x[kept]),
        y=tuple(_rounded(value) for value in np.maximum.accumulate(y[kept])),
    )


def _folds(index: np.ndarray[Any, Any], label: Floats, num_people: int) -> np.ndarray[Any, Any]:
    """(N,) the fold of each interview: people in the order of their mean label are dealt out in turn."""
    mean = np.bincount(index, weights=label, minlength=num_people) / np.bincount(index, minlength=num_people)
    of_person = np.empty(num_people, dtype=np.intp)
    of_person[np.argsort(mean, kind="stable")] = np.arange(num_people) % _FOLDS
    return np.asarray(of_person[index], dtype=np.intp)


def _rounded(value: float) -> float:
    return float(f"{float(value):.{_DIGITS}g}")
