"""Figures of single items (0 to 3), where a model predicts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moodscale.evaluate.bootstrap import draw_resamples
from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.severity.agreement import Estimates
from moodscale.evaluate.severity.figures import defined, everybody, moment_samples, percentiles
from moodscale.evaluate.severity.units import Severities, build_severities
from moodscale.evaluate.table import Predictions, check_items
from moodscale.schema import Instrument

_ITEM = r"^item_\d{1,2}$"
_METRICS = ("mae", "mean_error", "pearson_r")


@dataclass(frozen=True)
class ItemFigures:
    """One item's ``mae``, ``mean_error`` and ``pearson_r``, over ``num`` units."""

    num: int
    estimates: Estimates

    def to_json(self) -> dict[str, Any]:
        return {**self.estimates.to_json(), "num": self.num}


def item_figures(
    predictions: Predictions, units: Severities, instrument: Instrument, split: str, config: SeverityConfig
) -> tuple[dict[str, ItemFigures], list[str]]:
    """Figures of every item that has rows, in the questionnaire's order.

    Raises:
        ValueError: an item outside 0 to 3, or one that the instrument does not have.
    """
    frame, source = predictions.frame, predictions.source
    rows = frame[(frame["split"] == split) & (frame["unit"] == config.unit) & frame["target"].str.match(_ITEM)]
    names = [f"item_{number}" for number in range(1, instrument.num_items + 1)]
    unknown = sorted(set(rows["target"]) - set(names))
    if unknown:
        raise ValueError(
            f"{source}: column target has {', '.join(unknown)}, {instrument} has item_1 to "
            f"item_{instrument.num_items}; name the instrument that was filled in"
        )
    check_items(rows, source)
    found, notes = {}, []
    people: tuple[str, ...] = ()
    drawn = np.empty((config.num_bootstrap, 0))
    for name in names:
        chosen = rows[rows["target"] == name]
        if chosen.empty:
            continue
        item = build_severities(chosen)
        # Mostly every person has every item: then one draw serves them all.
        if item.people != people:
            people = item.people
            drawn = draw_resamples(np.zeros(len(people), dtype=np.intp), config.num_bootstrap, config.seed)
        point, samples = moment_samples(item, everybody(item)), moment_samples(item, drawn)
        values = {metric: defined(point[metric]) for metric in _METRICS}
        ci = {
            metric: None if values[metric] is None else percentiles(samples[metric], config.confidence)
            for metric in _METRICS
        }
        found[name] = ItemFigures(num=item.num, estimates=Estimates(values=values, ci=ci))
    if found and any(entry.num != units.num for entry in found.values()):
        notes.append("Not every unit has every item: the items' figures are of those that have it.")
    return found, notes
