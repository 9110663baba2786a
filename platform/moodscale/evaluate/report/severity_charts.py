"""The charts of the severity report, each from the evaluation's own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moodscale.evaluate.metrics import Interval
from moodscale.evaluate.report.charts import Panel
from moodscale.evaluate.report.svg import Chart, nice_ticks
from moodscale.evaluate.severity.evaluate import SeverityEvaluation
from moodscale.evaluate.severity.figures import ThresholdFigures
from moodscale.evaluate.severity.units import Severities
from moodscale.evaluate.units import Floats, Ints
from moodscale.schema import DEPRESSED_FROM, Instrument

_MAX_DOTS = 3000
_MAX_NAME = 21

Row = tuple[str, float, Interval | None]
"""A name, a figure and its interval."""


def agreement_panels(units: Severities, evaluation: SeverityEvaluation) -> list[Panel]:
    """Predicted against label, the errors against their mean, and calibration."""
    return [_scatter(units, evaluation), _bland_altman(units, evaluation), _calibration(evaluation)]


def threshold_panel(evaluation: SeverityEvaluation) -> Panel | None:
    """AUC at every threshold; ``None`` where all were skipped."""
    entries = [entry for entry in evaluation.thresholds if entry.auc is not None]
    if not entries:
        return None
    first, last = evaluation.thresholds[0].threshold, evaluation.thresholds[-1].threshold
    lows = [entry.auc_ci[0] if entry.auc_ci else float(entry.auc or 0.0) for entry in entries]
    bottom = max(0.0, min(0.4, float(np.floor(5 * min(lows)) / 5)))
    chart = Chart("AUC by threshold", (first - 0.5, last + 0.5), (bottom, 1.0))
    ticks = [*range(first - first % 5 + (5 if first % 5 else 0), last + 1, 5)]
    chart.axes(
        "Total at or above",
        "AUC",
        [(float(tick), f"{tick}") for tick in ticks],
        [(tick / 10, f"{tick / 10:g}") for tick in range(round(10 * bottom), 11, 2)],
    )
    for run in _runs(entries):
        banded = [entry for entry in run if entry.auc_ci is not None]
        ends = [entry.auc_ci for entry in banded if entry.auc_ci is not None]
        if len(banded) > 1:
            xs = [float(entry.threshold) for entry in banded]
            chart.band(xs, [low for low, _ in ends], [high for _, high in ends], "band")
        chart.line([(entry.threshold, float(entry.auc or 0.0)) for entry in run], "curve")
    chart.line([(first - 0.5, 0.5), (last + 0.5, 0.5)], "chance")
    if first <= DEPRESSED_FROM <= last:
        chart.line([(DEPRESSED_FROM, bottom), (DEPRESSED_FROM, 1.0)], "threshold")
    for entry in entries:
        tip = f"{entry.threshold} or more: {entry.auc:.3f}, {entry.num_positive} of {entry.num}"
        chart.dot(entry.threshold, float(entry.auc or 0.0), 3.0, "mark", tip)
    band = f" Shaded: {100 * evaluation.config.confidence:g} % interval." if evaluation.config.num_bootstrap else ""
    caption = f"Dashed: {DEPRESSED_FROM}, the usual cut-off. Dotted: chance.{band}"
    return Panel("AUC by threshold", chart.render(), caption)


def interval_panel(heading: str, x_label: str, rows: Sequence[Row], caption: str, zero: bool = False) -> Panel | None:
    """One row a figure, with its interval as a whisker.

    Args:
        zero: mark 0, for differences.
    """
    if not rows:
        return None
    ends = [value for _, value, _ in rows] + [end for _, _, pair in rows if pair is not None for end in pair] + [0.0]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 1.0
    x_range = (low - room if low < 0 else 0.0, high + room)
    height = 52.0 + 24.0 * len(rows)
    chart = Chart(heading, x_range, (len(rows) - 0.5, -0.5), height=height, left=140.0)
    chart.axes(
        x_label,
        "",
        [(tick, f"{tick:g}".replace("-", "−")) for tick in nice_ticks(*x_range)],
        [(float(index), _shorten(name)) for index, (name, _, _) in enumerate(rows)],
    )
    if zero:
        chart.line([(0.0, -0.5), (0.0, len(rows) - 0.5)], "threshold")
    for index, (name, value, pair) in enumerate(rows):
        if pair is not None:
            chart.line([(pair[0], index), (pair[1], index)], "whisker wide")
        chart.dot(value, index, 4.4, "mark", f"{name}: {value:.3f}")
    return Panel(heading, chart.render(), caption)


def rounds_panel(rounds: Sequence[Mapping[str, Any]]) -> Panel | None:
    """MAE on validation people by round; ``None`` with fewer than two rounds that have one."""
    points = [
        (float(entry["round"]), float(entry["validation"]["mae"]))
        for entry in rounds
        if entry.get("round") is not None and (entry.get("validation") or {}).get("mae") is not None
    ]
    if len(points) < 2:
        return None
    values = [value for _, value in points]
    room = 0.1 * (max(values) - min(values)) or 0.1
    y_range = (min(values) - room, max(values) + room)
    chart = Chart(
        "Validation MAE by round", (points[0][0] - 0.3, points[-1][0] + 0.3), y_range, height=220.0, left=58.0
    )
    chart.axes(
        "Round",
        "MAE on validation people",
        [(x, f"{x:g}") for x, _ in points],
        [(tick, f"{tick:.3g}") for tick in nice_ticks(*y_range)],
    )
    chart.line(points, "curve")
    for x, y in points:
        chart.dot(x, y, 3.4, "mark", f"round {x:g}: {y:.3f}")
    return Panel("Validation MAE by round", chart.render(), "How many rounds to make is decided on validation people.")


def _scatter(units: Severities, evaluation: SeverityEvaluation) -> Panel:
    top = float(Instrument(evaluation.instrument).max_total)
    chart = Chart("Predicted total by the questionnaire's", (-0.6, top + 0.6), (-0.6, top + 0.6))
    ticks = _total_ticks(top)
    chart.axes("Questionnaire's total", "Predicted total", ticks, ticks)
    chart.line([(0, 0), (top, top)], "chance")
    chosen = _chosen(units.num)
    # Labels are whole numbers: a little to either side, so that equal ones do not hide each other.
    aside = np.random.default_rng(0).uniform(-0.25, 0.25, len(chosen))
    for offset, index in zip(aside, chosen, strict=True):
        css = "strip-dot yes" if units.label[index] >= DEPRESSED_FROM else "strip-dot no"
        x, y = float(units.label[index]), float(units.predicted[index])
        chart.dot(
            x + float(offset), y, 2.4, css, f"{units.people[units.person[index]]}: predicted {y:.1f}, total {x:g}"
        )
    some = f" {len(chosen)} of {units.num} shown." if len(chosen) < units.num else ""
    caption = (
        f"One dot for each {evaluation.unit}; orange: totals of {DEPRESSED_FROM} or more. On the dotted line is ideal."
        f"{some}"
    )
    return Panel("Predicted and reported", chart.render(), caption)


def _bland_altman(units: Severities, evaluation: SeverityEvaluation) -> Panel:
    top = float(Instrument(evaluation.instrument).max_total)
    error, middle = units.predicted - units.label, (units.predicted + units.label) / 2
    values, ci = evaluation.agreement.values, evaluation.agreement.ci
    edges = [value for name in ("lower", "upper") if (value := values[name]) is not None]
    reach = 1.08 * max(1.0, float(np.abs(error).max()), *(abs(value) for value in edges))
    chart = Chart("Bland-Altman plot", (-0.6, top + 0.6), (-reach, reach))
    chart.axes(
        "Mean of prediction and questionnaire",
        "Prediction − questionnaire",
        _total_ticks(top),
        [(tick, f"{tick:g}".replace("-", "−")) for tick in nice_ticks(-reach, reach)],
    )
    for name in ("bias", "lower", "upper"):
        ends = ci[name]
        if ends is not None:
            chart.band((0.0, top), (ends[0], ends[0]), (ends[1], ends[1]), "band")
    chart.line([(0, 0), (top, 0)], "chance")
    for index in _chosen(units.num):
        css = "strip-dot yes" if units.label[index] >= DEPRESSED_FROM else "strip-dot no"
        chart.dot(float(middle[index]), float(error[index]), 2.2, css)
    for name, css in (("bias", "curve"), ("lower", "threshold"), ("upper", "threshold")):
        value = values[name]
        if value is not None:
            chart.line([(0, value), (top, value)], css)
    caption = (
        "Line: mean error. Dashed: limits between which 95 % of the errors are expected. "
        "Falling with severity: severe cases are underestimated."
    )
    return Panel("Bland–Altman", chart.render(), caption)


def _calibration(evaluation: SeverityEvaluation) -> Panel:
    top = float(Instrument(evaluation.instrument).max_total)
    chart = Chart("Calibration of the predicted totals", (-0.6, top + 0.6), (-0.6, top + 0.6))
    ticks = _total_ticks(top)
    chart.axes("Mean predicted total", "Mean questionnaire's total", ticks, ticks)
    chart.line([(0, 0), (top, top)], "chance")
    bins = evaluation.calibration.bins
    slope, intercept = (evaluation.calibration.estimates.values[name] for name in ("slope", "intercept"))
    if slope is not None and intercept is not None:
        ends = (bins[0].predicted, bins[-1].predicted)
        line = [(x, min(max(intercept + slope * x, 0.0), top)) for x in ends]
        chart.line(line, "curve")
    for entry in bins:
        if entry.label_ci is not None:
            chart.line([(entry.predicted, entry.label_ci[0]), (entry.predicted, entry.label_ci[1])], "whisker")
    for entry in bins:
        chart.dot(entry.predicted, entry.label, 4.0, "mark clip", f"{entry.num} units, mean total {entry.label:.2f}")
    whiskers = (
        f" Whiskers: {100 * evaluation.config.confidence:g} % interval." if evaluation.config.num_bootstrap else ""
    )
    caption = (
        f"Bins of about equally many predictions; line: regression of the questionnaire on the prediction.{whiskers}"
    )
    return Panel("Calibration", chart.render(), caption)


def _runs(entries: Sequence[ThresholdFigures]) -> list[list[ThresholdFigures]]:
    """Neighbouring thresholds together: no line is drawn across those that were skipped."""
    runs: list[list[ThresholdFigures]] = []
    for entry in entries:
        if runs and runs[-1][-1].threshold == entry.threshold - 1:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def _chosen(num: int) -> Ints:
    """Which units are drawn: all, or some at random where they would make the page heavy."""
    if num <= _MAX_DOTS:
        return np.arange(num)
    return np.sort(np.random.default_rng(0).choice(num, _MAX_DOTS, replace=False))


def _total_ticks(top: float) -> list[tuple[float, str]]:
    values: Floats = np.arange(0.0, top + 1.0, 5.0)
    return [(float(value), f"{value:g}") for value in values]


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
