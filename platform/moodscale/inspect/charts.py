"""The data report's charts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from moodscale.evaluate.report.charts import Panel
from moodscale.evaluate.report.svg import Chart, nice_ticks
from moodscale.inspect.distributions import Distribution
from moodscale.inspect.groups import ALL, BANDS, ITEM_NAMES, LabelGroup

_SHARES = [(value, f"{100 * value:g}") for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
_ROW = 22.0
_NUM_COLOURS = 4


def distribution_panels(found: Sequence[Distribution], corpora: Sequence[str]) -> list[Panel]:
    """One panel a quantity that varies, a line a corpus; a corpus has one colour everywhere."""
    colour = {corpus: index % _NUM_COLOURS for index, corpus in enumerate(corpora)}
    panels = []
    for quantity, group in groupby(found, key=lambda one: one.quantity):
        own = list(group)
        edges, unit = own[0].edges, own[0].unit
        if min(one.quantiles[0] for one in own) == max(one.quantiles[-1] for one in own):
            continue  # one value: the table has it
        most = max(count / one.num for one in own for count in one.counts)
        chart = Chart(quantity, (edges[0], edges[-1]), (0.0, most * 1.05), height=210.0)
        ticks = [(tick, f"{tick:.4g}") for tick in nice_ticks(edges[0], edges[-1])]
        chart.axes(unit, "", ticks, [(tick, f"{tick:.0%}") for tick in nice_ticks(0.0, most * 1.05, 4)])
        for one in own:
            css = f"series-{colour[one.corpus]}"
            steps = [(x, count / one.num) for i, count in enumerate(one.counts) for x in (edges[i], edges[i + 1])]
            if len(own) == 1:
                for i, count in enumerate(one.counts):
                    chart.bar(edges[i], edges[i + 1], 0.0, count / one.num, f"fill {css}")
            else:
                chart.line([(edges[0], 0.0), *steps, (edges[-1], 0.0)], f"curve {css}")
        beyond = any(one.quantiles[-1] > edges[-1] for one in own)
        caption = "Share of the values by bin." + (" The last bin holds everything beyond." if beyond else "")
        series = tuple(one.corpus for one in own) if len(corpora) > 1 else ()
        heading = quantity[0].upper() + quantity[1:]
        colours = tuple(colour[one.corpus] for one in own)
        panels.append(Panel(heading, chart.render(), caption, series, colours))
    return panels


def band_chart(groups: Sequence[LabelGroup]) -> Markup:
    """Severity by group: a row each, a colour a band; grey is hidden."""
    rows = [(_row_name(one), one.bands, one.num_labels) for one in groups]
    return _stacked("Severity by group", rows, [f"{low}–{high} {name}" for low, high, name in BANDS], "band")


def item_panels(groups: Sequence[LabelGroup]) -> list[Panel]:
    """Answers by item, a panel a group; none of a group without items or with everything hidden."""
    panels = []
    for one in groups:
        if not one.num_with_items or not any(any(item[:4]) for item in one.items):
            continue
        rows = [(name, item, one.num_with_items) for name, item in zip(ITEM_NAMES, one.items, strict=False)]
        labels = ["0", "1", "2", "3", "no answer"]
        panels.append(Panel(_row_name(one), _stacked(f"Answers by item: {_row_name(one)}", rows, labels, "answer")))
    return panels


def _row_name(group: LabelGroup) -> str:
    return "everybody" if group.by == ALL else group.group


def _stacked(
    title: str, rows: Sequence[tuple[str, Sequence[int | None], int]], labels: Sequence[str], css: str
) -> Markup:
    chart = Chart(title, (0.0, 1.03), y_range=(-0.5, len(rows) - 0.5), height=48.0 + _ROW * len(rows), left=88.0)
    chart.axes(
        "% of the labels", "", _SHARES, [(len(rows) - 1 - index, name[:13]) for index, (name, _, _) in enumerate(rows)]
    )
    for index, (name, counts, total) in enumerate(rows):
        row, at = len(rows) - 1 - index, 0.0
        for number, count in enumerate(counts):
            if count:
                share = count / total
                chart.bar(
                    at, at + share, row - 0.36, row + 0.36, f"{css}-{number}", f"{name}: {labels[number]}: {count}"
                )
                at += share
        if at < 0.999 and total:
            chart.bar(at, 1.0, row - 0.36, row + 0.36, "hidden", f"{name}: hidden")
    return chart.render()
