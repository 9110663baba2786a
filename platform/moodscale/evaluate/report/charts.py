"""The report's charts, each from the evaluation's own units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from sklearn.metrics import precision_recall_curve, roc_curve

from moodscale.evaluate.bootstrap import curve_bands, reliability_bands
from moodscale.evaluate.calibration import OperatingPoint
from moodscale.evaluate.metrics import MIN_PER_CLASS
from moodscale.evaluate.report.svg import Chart, nice_ticks
from moodscale.evaluate.units import Floats, Ints, Units

_UNIT_TICKS = [(value, f"{value:g}") for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
_MAX_ROWS = 60
_MAX_CLIPS = 80
_MAX_POINTS = 400
_MAX_PANELS = 9


@dataclass(frozen=True)
class Panel:
    """A chart with its heading and what to read in it."""

    heading: str
    chart: Markup
    caption: str = ""
    series: tuple[str, ...] = ()
    colours: tuple[int, ...] = ()


def ranking_panels(units: Units, drawn: Floats, confidence: float) -> list[Panel]:
    """ROC and precision-recall curves; none where a class is too small."""
    people = units.participants
    if people.num_smaller_class < MIN_PER_CLASS:
        return []
    bands = curve_bands(people, drawn, confidence) if len(drawn) else None
    roc, pr = Chart("ROC curve"), Chart("Precision-recall curve")
    roc.axes("False-positive rate", "Recall (sensitivity)", _UNIT_TICKS, _UNIT_TICKS)
    pr.axes("Recall (sensitivity)", "Precision", _UNIT_TICKS, _UNIT_TICKS)
    if bands is not None:
        roc.band(bands["grid"], bands["roc_low"], bands["roc_high"], "band")
        pr.band(bands["grid"], bands["pr_low"], bands["pr_high"], "band")
    roc.line([(0, 0), (1, 1)], "chance")
    pr.line([(0, people.prevalence), (1, people.prevalence)], "chance")
    for scored, css in ((units.clips, "curve clip"), (people, "curve participant")):
        fall_out, recall, _ = roc_curve(scored.label, scored.score)
        roc.line(_thin(list(zip(fall_out, recall, strict=True))), css)
        precision, recall, _ = precision_recall_curve(scored.label, scored.score)
        # The last point is the convention (recall 0, precision 1), not a result: leave it out.
        pr.line(_thin(list(zip(recall[:-1], precision[:-1], strict=True))), css)
    level = f"{100 * confidence:g} %"
    band = f" Shaded: {level} interval over participants, participants' curve." if bands is not None else ""
    series = ("participant", "clip")
    return [
        Panel("ROC", roc.render(), f"Dotted: chance.{band}", series),
        Panel("Precision and recall", pr.render(), f"Dotted: prevalence {people.prevalence:.2f}.{band}", series),
    ]


def reliability_panel(units: Units, num_bins: int, drawn: Floats, confidence: float) -> Panel:
    """Observed share against mean score by bin, with the number of clips as bars."""
    bins = reliability_bands(units.clips, num_bins, drawn, confidence)
    chart = Chart("Reliability diagram")
    chart.axes("Mean probability in the bin", "Share who are depressed", _UNIT_TICKS, _UNIT_TICKS)
    most = float(bins["num"].max())
    filled = [int(index) for index in np.flatnonzero(bins["num"] > 0)]
    for index in filled:
        edges = index / num_bins, (index + 1) / num_bins
        chart.bar(edges[0] + 0.004, edges[1] - 0.004, 0.0, 0.22 * float(bins["num"][index]) / most, "bar")
    chart.line([(0, 0), (1, 1)], "chance")
    for index in filled:
        if np.isfinite(bins["low"][index]):
            x = float(bins["score"][index])
            chart.line([(x, float(bins["low"][index])), (x, float(bins["high"][index]))], "whisker")
    chart.line([(float(bins["score"][i]), float(bins["observed"][i])) for i in filled], "curve clip")
    for index in filled:
        tip = f"{int(bins['num'][index])} clips, observed {bins['observed'][index]:.2f}"
        chart.dot(float(bins["score"][index]), float(bins["observed"][index]), 4, "mark clip", tip)
    whiskers = f" Whiskers: {100 * confidence:g} % interval over participants." if len(drawn) else ""
    caption = f"Clips in {num_bins} equal bins; bars: how many clips. On the dotted line is ideal.{whiskers}"
    return Panel("Reliability", chart.render(), caption)


def participant_panels(units: Units, point: OperatingPoint) -> list[Panel]:
    """Every participant's clips and mean, one panel a label; without rows of their own where there are many."""
    panels = []
    for positive, heading, css in ((True, "Depressed", "yes"), (False, "Not depressed", "no")):
        members = np.flatnonzero(units.participants.label == positive)
        if not len(members):
            continue
        members = members[np.argsort(-units.participants.score[members], kind="stable")]
        rows = len(members) <= _MAX_ROWS
        chart = (
            _participant_rows(units, members, point, css) if rows else _participant_strip(units, members, point, css)
        )
        caption = "Small dots: clips. Large: the participant's mean." if rows else "One dot a participant."
        caption += f" Dashed: threshold {point.participant:.2f}."
        panels.append(Panel(f"{heading} ({len(members)})", chart, caption))
    return panels


def _participant_rows(units: Units, members: Ints, point: OperatingPoint, css: str) -> Markup:
    height = 50.0 + 15.0 * len(members)
    chart = Chart("Probabilities by participant", y_range=(len(members) - 0.5, -0.5), height=height, left=84.0)
    chart.axes(
        "P(depressed)",
        "",
        _UNIT_TICKS,
        [(row, _shorten(units.keys[index])) for row, index in enumerate(members)],
    )
    chart.line([(point.participant, -0.5), (point.participant, len(members) - 0.5)], "threshold")
    for row, index in enumerate(members):
        scores = np.sort(units.clips.score[units.entry == index])
        if len(scores) > _MAX_CLIPS:
            scores = scores[np.linspace(0, len(scores) - 1, _MAX_CLIPS).astype(np.intp)]
        for score in scores:
            chart.dot(float(score), row, 2.2, f"clip-dot {css}")
        mean = float(units.participants.score[index])
        chart.dot(mean, row, 4.6, f"mean-dot {css}", f"{units.keys[index]}: {mean:.3f}, {len(scores)} clips shown")
    return chart.render()


def _participant_strip(units: Units, members: Ints, point: OperatingPoint, css: str) -> Markup:
    chart = Chart("Probabilities of the participants", y_range=(-0.6, 0.6), height=170.0, left=16.0)
    chart.axes("P(depressed)", "", _UNIT_TICKS, [])
    chart.line([(point.participant, -0.6), (point.participant, 0.6)], "threshold")
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, len(members))
    for offset, index in zip(spread, members, strict=True):
        mean = float(units.participants.score[index])
        chart.dot(mean, float(offset), 2.6, f"strip-dot {css}", f"{units.keys[index]}: {mean:.3f}")
    return chart.render()


def learning_panels(history: Sequence[tuple[int, str, float]]) -> list[Panel]:
    """One panel a quantity, with a line each for training, validation and whatever else has its name."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for step, name, value in history:
        series, _, quantity = name.rpartition("/")
        if np.isfinite(value):
            panels[quantity][series].append((float(step), float(value)))
    drawn = []
    # One colour a series on every panel: validation must not change colour where training has no such curve.
    names = sorted({series for lines in panels.values() for series in lines})
    colour = {series: number % 4 for number, series in enumerate(names)}
    for quantity, lines in list(panels.items())[:_MAX_PANELS]:
        points = [point for line in lines.values() for point in line]
        steps, values = [x for x, _ in points], [y for _, y in points]
        x_range, y_range = _room(min(steps), max(steps), 0.0), _room(min(values), max(values), 0.06)
        chart = Chart(f"{quantity} by step", x_range, y_range, height=220.0, left=58.0)
        chart.axes(
            "Step",
            "",
            [(tick, f"{tick:g}") for tick in nice_ticks(*x_range)],
            [(tick, f"{tick:.4g}") for tick in nice_ticks(*y_range)],
        )
        ordered = sorted(lines)
        for series in ordered:
            line = _thin(sorted(lines[series]))
            chart.line(line, f"curve series-{colour[series]}")
            if len(line) <= 40:
                for x, y in line:
                    chart.dot(x, y, 2.4, f"mark series-{colour[series]}")
        labels = tuple(series or quantity for series in ordered)
        drawn.append(Panel(quantity, chart.render(), "", labels, tuple(colour[series] for series in ordered)))
    return drawn


def _room(low: float, high: float, share: float) -> tuple[float, float]:
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    return low - share * (high - low), high + share * (high - low)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= _MAX_POINTS:
        return points
    return [points[index] for index in np.linspace(0, len(points) - 1, _MAX_POINTS).astype(np.intp)]


def _shorten(key: str) -> str:
    return key if len(key) <= 12 else "…" + key[-11:]
