"""Two models over the same units: paired differences, from the same resamples of the same persons.

Two intervals that overlap do not say that two models are equal. What both find hard cancels in the difference, so
its own interval is the one to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from moodscale.evaluate.bootstrap import auc_samples, draw_resamples
from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.metrics import Interval
from moodscale.evaluate.severity.figures import (
    LOWER_IS_BETTER,
    defined,
    everybody,
    metric_samples,
    percentiles,
)
from moodscale.evaluate.severity.units import TOTAL, Severities, build_severities, select_totals
from moodscale.evaluate.table import Predictions, to_predictions
from moodscale.evaluate.units import Floats, Scored, build_units, select_rows
from moodscale.schema import Instrument

Table: TypeAlias = Predictions | pa.Table | pd.DataFrame
_ROUNDING = 1e-9
COMPARED = ("mae", "rmse", "pearson_r", "ccc", "auc_at_10")


@dataclass(frozen=True)
class Difference:
    """One figure of both models, and the first's minus the second's.

    Attributes:
        first, second: the models' own figures; ``None`` where one is not defined.
        difference: ``None`` where one of them is not defined.
        better: ``first`` or ``second`` where the interval leaves 0 out, else ``None``.
    """

    first: float | None
    second: float | None
    difference: float | None
    ci: Interval | None
    better: Literal["first", "second"] | None

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "ci": None if self.ci is None else list(self.ci),
            "better": self.better,
        }


@dataclass(frozen=True)
class Comparison:
    """Two models over the same units.

    Attributes:
        first, second: what the models are called.
        differences: by figure: ``COMPARED`` for target ``total``, ``auc`` and ``brier`` for ``depressed``.
    """

    first: str
    second: str
    target: str
    split: str
    num: int
    num_persons: int
    confidence: float
    differences: Mapping[str, Difference]

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "target": self.target,
            "split": self.split,
            "num": self.num,
            "num_persons": self.num_persons,
            "confidence": self.confidence,
            "differences": {name: difference.to_json() for name, difference in self.differences.items()},
        }


def compare_models(
    first: Table,
    second: Table,
    names: tuple[str, str] = ("first", "second"),
    target: Literal["total", "depressed"] = "total",
    config: SeverityConfig | None = None,
    split: str = "test",
) -> Comparison:
    """Paired bootstrap of two models' figures.

    For target ``total`` the figures are ``COMPARED``, over units of ``config.unit``. For ``depressed`` they are the
    participants' AUC and Brier score of the uncalibrated probabilities, each participant scored by the mean over the
    table's only unit (or ``clip``, where it has several).

    Args:
        first, second: Prediction tables of the same units of one split; the order of the rows does not matter.
        names: what the result, and errors, call the models.
        split: the split whose rows are compared.
    Raises:
        ValueError: the tables have different units, persons, labels or instruments, or no such rows.
    """
    config = config or SeverityConfig()
    one, other = to_predictions(first, names[0]), to_predictions(second, names[1])
    if target == "depressed":
        return _compare_yes_no(one, other, names, config, split)
    rows, which, _ = select_totals(one, config.unit, config.instrument, split)
    rows = rows[rows["split"] == split]
    units = build_severities(rows)
    rival = units.with_predicted(rival_scores(rows, which, other, config, names))
    drawn = draw_resamples(units.strata, config.num_bootstrap, config.seed)
    return compare_units(units, rival, names, split, drawn, config.confidence)


def compare_units(
    first: Severities, second: Severities, names: tuple[str, str], split: str, drawn: Floats, confidence: float
) -> Comparison:
    """The same for units that are matched already.

    Args:
        drawn: (B, P) multiplicities of the persons.
    """
    return Comparison(
        first=names[0],
        second=names[1],
        target="total",
        split=split,
        num=first.num,
        num_persons=first.num_persons,
        confidence=confidence,
        differences=_differences(
            _compared(first, everybody(first)),
            _compared(second, everybody(first)),
            _compared(first, drawn),
            _compared(second, drawn),
            confidence,
        ),
    )


def rival_scores(
    rows: pd.DataFrame, instrument: Instrument, other: Predictions, config: SeverityConfig, names: tuple[str, str]
) -> Floats:
    """(N,) another model's totals of the same units.

    Args:
        rows: the model's own rows, of one split.
        instrument: the model's questionnaire; a rival that names none is taken to predict the same.
    Raises:
        ValueError: other units, persons, labels or another instrument; both models are named.
    """
    totals = other.frame[other.frame["target"] == TOTAL]
    named = "instrument" in totals.columns and bool((totals["instrument"] != "").any())
    split = str(rows["split"].iloc[0])
    others, theirs, _ = select_totals(other, config.unit, config.instrument if named else str(instrument), split)
    if theirs != instrument:
        raise ValueError(
            f"column instrument: {names[0]} has {instrument}, {names[1]} {theirs}; compare models of one instrument"
        )
    return aligned_scores(rows, others[others["split"] == split], names)


def aligned_scores(rows: pd.DataFrame, others: pd.DataFrame, names: tuple[str, str]) -> Floats:
    """(N,) scores of ``others`` in the order of ``rows``, matched by ``unit_id``.

    Raises:
        ValueError: another set of units, or another person or label for one; both models are named, no label is.
    """
    ours, theirs = set(rows["unit_id"]), set(others["unit_id"])
    if ours != theirs:
        raise ValueError(
            f"column unit_id: {_some(ours - theirs)} of {names[0]} absent from {names[1]}, {_some(theirs - ours)} of "
            f"{names[1]} absent from {names[0]}; score the same units with both models"
        )
    matched = others.set_index("unit_id").loc[rows["unit_id"]]
    for column, fix in (
        ("person", "give the same unit the same person in both tables"),
        ("label", "both tables must hold the labels of the same questionnaires"),
    ):
        bad = (matched[column].to_numpy() != rows[column].to_numpy()).nonzero()[0]
        if len(bad):
            keys = {str(rows["unit_id"].iloc[index]) for index in bad}
            raise ValueError(f"column {column}: {_some(keys)} differ(s) between {names[0]} and {names[1]}; {fix}")
    return matched["score"].to_numpy(dtype=np.float64)


def _compared(units: Severities, drawn: Floats) -> dict[str, Floats]:
    samples = metric_samples(units, drawn)
    return {name: samples[name] for name in COMPARED}


def _compare_yes_no(
    one: Predictions, other: Predictions, names: tuple[str, str], config: SeverityConfig, split: str
) -> Comparison:
    rows, others = (_yes_no_rows(predictions, split) for predictions in (one, other))
    people = build_units(rows)
    matched = rows.assign(score=aligned_scores(rows, others, names))
    first, second = people.participants, build_units(matched).participants
    drawn = draw_resamples(people.strata, config.num_bootstrap, config.seed)
    once = np.ones((1, first.num_persons))
    return Comparison(
        first=names[0],
        second=names[1],
        target="depressed",
        split=split,
        num=len(rows),
        num_persons=first.num_persons,
        confidence=config.confidence,
        differences=_differences(
            _yes_no(first, once),
            _yes_no(second, once),
            _yes_no(first, drawn),
            _yes_no(second, drawn),
            config.confidence,
        ),
    )


def _yes_no_rows(predictions: Predictions, split: str) -> pd.DataFrame:
    rows, _ = select_rows(predictions, "depressed", None)
    rows = rows[rows["split"] == split]
    if rows.empty:
        raise ValueError(f"{predictions.source}: column split has no {split!r} for target depressed; set the split")
    return rows


def _yes_no(people: Scored, drawn: Floats) -> dict[str, Floats]:
    error = np.bincount(people.person, (people.score - people.label) ** 2, minlength=people.num_persons)
    count = np.bincount(people.person, minlength=people.num_persons).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"auc": auc_samples(people, drawn), "brier": (drawn @ error) / (drawn @ count)}


def _differences(
    first: Mapping[str, Floats],
    second: Mapping[str, Floats],
    first_samples: Mapping[str, Floats],
    second_samples: Mapping[str, Floats],
    confidence: float,
) -> dict[str, Difference]:
    found = {}
    for name in first:
        ours, theirs = defined(first[name]), defined(second[name])
        difference = None if ours is None or theirs is None else ours - theirs
        ci = None if difference is None else percentiles(first_samples[name] - second_samples[name], confidence)
        found[name] = Difference(ours, theirs, difference, ci, _better(name, ci))
    return found


def _better(name: str, ci: Interval | None) -> Literal["first", "second"] | None:
    # Scores of which one is a rescaling of the other differ in r by rounding alone.
    if ci is None or (ci[0] <= _ROUNDING and ci[1] >= -_ROUNDING):
        return None
    return "first" if (ci[1] < 0.0) == (name in LOWER_IS_BETTER) else "second"


def _some(keys: set[str]) -> str:
    """Their number, and the first of them by name."""
    return f"{len(keys)} unit(s)" + (f" (such as {min(keys)!r})" if keys else "")
