"""What a fitted ensemble is: numbers that combine the members' scores, and nothing of anybody's data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from moodscale.registry.ensemble_maps import Floats, Map, map_from_json
from moodscale.schema import Instrument

FORMAT = 1


@dataclass(frozen=True)
class Interval:
    """How far below and above the score the questionnaire's own result lies for ``level`` of people.

    Attributes:
        half_width: points of the total, or of the probability for a 0/1 label.
        method: ``split_conformal`` where nothing was fitted on the rows that it comes from; ``cross_conformal`` where
            each residual is of an ensemble that was fitted without that person.
        is_bounded: false where validation has too few people for the level: the interval is the whole range then.
    """

    level: float
    half_width: float
    method: str
    is_bounded: bool


@dataclass(frozen=True)
class Disagreement:
    """How errors on validation grow with the members' disagreement (the weighted SD of their linked scores).

    Attributes:
        mean: the disagreement's mean.
        error_at_none, error_growth: the line of the absolute error over the disagreement; it does not fall.
        rank_correlation: Spearman's, of the two; ``None`` where either is constant.
    """

    mean: float
    error_at_none: float
    error_growth: float
    rank_correlation: float | None


@dataclass(frozen=True)
class FittedOn:
    """Rows and people of validation; folds of the cross-fitting, 0 where nothing was fitted."""

    num_units: int
    num_people: int
    num_folds: int


@dataclass(frozen=True)
class Combined:
    """An ensemble's answers.

    Attributes:
        score, low, high: (N,) within the instrument's range, or 0 to 1.
        disagreement: (N,) weighted SD of the members' linked scores.
        linked_MN: each member's score on the ensemble's scale.
    """

    score: Floats
    low: Floats
    high: Floats
    disagreement: Floats
    linked_MN: Floats

    def __repr__(self) -> str:
        return f"Combined({len(self.score)} units)"


def combine(
    links: Sequence[Map], weights: Floats, calibration: Map, bounds: tuple[float, float], scores_MN: Floats
) -> tuple[Floats, Floats]:
    """Members' own scores → (N,) combined and (M, N) linked scores, each within ``bounds``.

    It does not fall in any member's score: links and calibration do not, and no weight is negative.
    """
    low, high = bounds
    linked_MN = np.stack([np.clip(link(row), low, high) for link, row in zip(links, scores_MN, strict=True)])
    return np.clip(calibration(weights @ linked_MN), low, high), linked_MN


def spread(weights: Floats, linked_MN: Floats) -> Floats:
    """(N,) weighted standard deviation of the members' linked scores: how far the members disagree."""
    mean = weights @ linked_MN
    return np.asarray(np.sqrt(weights @ (linked_MN - mean) ** 2), dtype=np.float64)


@dataclass(frozen=True)
class EnsembleFit:
    """A fitted ensemble. Weights are not negative and sum to one.

    Attributes:
        members, targets, target, instrument: as of :class:`moodscale.registry.ensemble_fit.MemberScores`.
        notes: what could not be fitted as asked, and why.
    """

    members: tuple[str, ...]
    targets: tuple[str, ...]
    target: str
    instrument: Instrument | None
    links: tuple[Map, ...]
    weights: tuple[float, ...]
    weighting: str
    calibration: Map
    interval: Interval
    disagreement: Disagreement
    fitted_on: FittedOn
    notes: tuple[str, ...] = ()

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest score."""
        return 0.0, 1.0 if self.instrument is None else float(self.instrument.max_total)

    def apply(self, scores_MN: Floats) -> Combined:
        """Combine the members' own scores.

        Raises:
            ValueError: not one row a member, or a score that is not a number.
        """
        scores_MN = np.asarray(scores_MN, dtype=np.float64)
        if scores_MN.ndim != 2 or len(scores_MN) != len(self.members):
            raise ValueError(f"scores of shape {scores_MN.shape}, the ensemble has {len(self.members)} members")
        for name, row in zip(self.members, scores_MN, strict=True):
            if not np.isfinite(row).all():
                raise ValueError(f"{name} gave a score that is not a number")
        low, high = self.range
        weights = np.array(self.weights)
        score, linked_MN = combine(self.links, weights, self.calibration, self.range, scores_MN)
        return Combined(
            score=score,
            low=np.clip(score - self.interval.half_width, low, high),
            high=np.clip(score + self.interval.half_width, low, high),
            disagreement=spread(weights, linked_MN),
            linked_MN=linked_MN,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` gives back the very same numbers."""
        return {
            "format": FORMAT,
            "target": self.target,
            "instrument": None if self.instrument is None else str(self.instrument),
            "members": [
                {"name": name, "target": target, "weight": weight, "link": link.to_json()}
                for name, target, weight, link in zip(self.members, self.targets, self.weights, self.links, strict=True)
            ],
            "weighting": self.weighting,
            "calibration": self.calibration.to_json(),
            "interval": asdict(self.interval),
            "disagreement": asdict(self.disagreement),
            "fitted_on": asdict(self.fitted_on),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, values: Any, where: str = "the ensemble's fit") -> EnsembleFit:
        """From :meth:`to_json`.

        Raises:
            ValueError: naming ``where`` and what is missing or cannot be.
        """
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise ValueError(f"{where}: not of format {FORMAT}; build the ensemble again with this version")
        try:
            members = values["members"]
            instrument = values["instrument"]
            fit = cls(
                members=tuple(str(member["name"]) for member in members),
                targets=tuple(str(member["target"]) for member in members),
                target=str(values["target"]),
                instrument=None if instrument is None else Instrument(instrument),
                links=tuple(map_from_json(one["link"], f"{where}: link of {one['name']}") for one in members),
                weights=tuple(float(member["weight"]) for member in members),
                weighting=str(values["weighting"]),
                calibration=map_from_json(values["calibration"], f"{where}: calibration"),
                interval=Interval(**values["interval"]),
                disagreement=Disagreement(**values["disagreement"]),
                fitted_on=FittedOn(**values["fitted_on"]),
                notes=tuple(str(note) for note in values["notes"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where}: {type(error).__name__} at {error}; build the ensemble again") from None
        fit._check(where)
        return fit

    def fingerprint_text(self) -> str:
        """The text that the ensemble's version hashes: equal for equal fits alone."""
        return json.dumps(self.to_json(), sort_keys=True)

    def _check(self, where: str) -> None:
        total = math.fsum(self.weights)
        if not self.weights or min(self.weights) < 0 or abs(total - 1.0) > 1e-9:
            raise ValueError(f"{where}: weights must be non-negative and sum to one; build the ensemble again")
        if self.target not in ("total", "depressed") or (self.target == "total") != (self.instrument is not None):
            raise ValueError(f"{where}: target {self.target!r} and its instrument do not fit; build the ensemble again")
        if not self.interval.half_width >= 0:
            raise ValueError(f"{where}: the interval's half-width is negative; build the ensemble again")
