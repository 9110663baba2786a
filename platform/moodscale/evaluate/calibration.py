"""Temperature and thresholds, from validation rows and from nothing else.

The temperature comes first: one number that divides every clip's logit, fitted so that each validation person
counts the same. It does not change any ranking. The thresholds are then chosen on the calibrated scores, one for
clips and one for participants: a mean over clips is less spread out than the clips, so one number cannot serve both.
Where validation has nothing to say, the temperature is 1 and the thresholds are 0.5, and the result says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moodscale.evaluate.config import EvaluateConfig
from moodscale.evaluate.metrics import MIN_PER_CLASS
from moodscale.evaluate.units import Scored, build_units, logit

DEFAULT_THRESHOLD = 0.5
_MAX_TEMPERATURE = 20.0


@dataclass(frozen=True)
class OperatingPoint:
    """How scores become decisions.

    Attributes:
        temperature: divides the logit of every clip's score.
        clip: a clip is called depressed from this calibrated score on.
        participant: the same for a participant's mean.
        threshold_source, temperature_source: ``validation``, ``config`` or ``default``.
    """

    temperature: float = 1.0
    clip: float = DEFAULT_THRESHOLD
    participant: float = DEFAULT_THRESHOLD
    threshold_source: str = "default"
    temperature_source: str = "default"
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "temperature_source": self.temperature_source,
            "threshold": self.clip,
            "participant_threshold": self.participant,
            "threshold_source": self.threshold_source,
        }


def choose_operating_point(validation: pd.DataFrame, config: EvaluateConfig) -> OperatingPoint:
    """Fit what the config asks for on the validation rows.

    Args:
        validation: the rows with ``split == validation``, perhaps none.
    """
    fixed = None if config.threshold == "validation" else float(config.threshold)
    usable, why = _usable(validation)
    notes = []
    temperature, temperature_source = 1.0, "default"
    if config.calibrate and usable:
        temperature, temperature_source = fit_temperature(validation), "validation"
        if temperature >= _MAX_TEMPERATURE:
            notes.append("The temperature is at its limit: on validation the scores carry next to no information.")
    elif config.calibrate:
        notes.append(f"Temperature 1: {why}.")
    if fixed is not None:
        clip = participant = fixed
        source = "config"
    elif usable:
        units = build_units(validation, temperature)
        clip = best_threshold(units.clips, config.threshold_metric)
        participant = best_threshold(units.participants, config.threshold_metric)
        source = "validation"
    else:
        clip = participant = DEFAULT_THRESHOLD
        source = "default"
        notes.append(f"Threshold {DEFAULT_THRESHOLD:g}: {why}.")
    return OperatingPoint(
        temperature=temperature,
        clip=clip,
        participant=participant,
        threshold_source=source,
        temperature_source=temperature_source,
        notes=tuple(notes),
    )


def _usable(validation: pd.DataFrame) -> tuple[bool, str]:
    if validation.empty:
        return False, "the table has no validation rows"
    people = build_units(validation).participants
    if people.num_smaller_class < MIN_PER_CLASS:
        return False, (
            f"validation has {people.num_positive} depressed of {people.num} participants, "
            f"each class needs {MIN_PER_CLASS}"
        )
    return True, ""


def fit_temperature(validation: pd.DataFrame) -> float:
    """The temperature with the least log loss, each person's clips weighing one together.

    The inverse temperature is the slope of a logistic regression without an intercept: convex, so Newton's method
    with a bisection bracket finds it. It is kept within 1/20 and 20.
    """
    clips = build_units(validation).clips
    x, y = logit(clips.score), clips.label.astype(np.float64)
    weight = 1.0 / np.bincount(clips.person, minlength=clips.num_persons)[clips.person]

    def gradient(inverse: float) -> float:
        p = 1.0 / (1.0 + np.exp(-np.clip(inverse * x, -700.0, 700.0)))
        return float((weight * (y - p) * x).sum())

    low, high = 1.0 / _MAX_TEMPERATURE, _MAX_TEMPERATURE
    if gradient(low) <= 0:
        return _MAX_TEMPERATURE
    if gradient(high) >= 0:
        return 1.0 / _MAX_TEMPERATURE
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gradient(middle) > 0 else (low, middle)
    return 1.0 / math.sqrt(low * high)


def best_threshold(scored: Scored, metric: str) -> float:
    """The threshold that maximises ``metric``.

    Candidates lie midway between neighbouring scores; of equally good ones the one with the widest gap around it
    is taken, because it is the least sensitive to a new participant.
    """
    score, index = np.unique(scored.score, return_inverse=True)
    positive = np.bincount(index, weights=scored.label, minlength=len(score))
    everything = np.bincount(index, minlength=len(score)).astype(np.float64)
    if len(score) < 2:
        return DEFAULT_THRESHOLD
    # Called depressed is everything above the k-th gap between neighbouring scores.
    tp = positive[::-1].cumsum()[::-1][1:]
    called = everything[::-1].cumsum()[::-1][1:]
    fp = called - tp
    num_positive, num = float(positive.sum()), float(everything.sum())
    tn = num - num_positive - fp
    if metric == "balanced_accuracy":
        value = (tp / num_positive + tn / (num - num_positive)) / 2
    elif metric == "f1":
        value = 2 * tp / (called + num_positive)
    else:
        value = (tp + tn) / num
    gaps = np.diff(score)
    best = np.flatnonzero(value >= value.max() - 1e-12)
    chosen = int(best[np.argmax(gaps[best])])
    return float((score[chosen] + score[chosen + 1]) / 2)
