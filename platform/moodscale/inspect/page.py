"""The data report as one HTML file that opens offline and asks nobody for anything."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from moodscale.evaluate.report.charts import Panel
from moodscale.inspect.charts import band_chart, distribution_panels, item_panels
from moodscale.inspect.groups import BANDS, ITEM_NAMES, LabelGroup
from moodscale.inspect.report import DataReport, Modality
from moodscale.schema import DEPRESSED_FROM

_SHOWN_NAMES = 12
_SHOWN_ROWS = 300


@dataclass(frozen=True)
class Questionnaire:
    """Labels by one questionnaire, drawn and counted."""

    name: str
    groups: tuple[LabelGroup, ...]
    chart: Markup
    items: list[Panel]
    item_names: tuple[str, ...]


def render_page(report: DataReport) -> str:
    """The whole page."""
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=_cell, share=_share, number=_number)
    return environment.get_template("page.html").render(_view(report))


def _view(report: DataReport) -> dict[str, Any]:
    corpora = sorted({one.corpus for one in report.modalities})
    everybody = report.groups[0]
    return {
        "css": Markup(_read("report.css", "moodscale.evaluate.report") + _read("page.css")),
        "report": report,
        "title": ", ".join(corpora) or "no corpus",
        "everybody": everybody,
        "corpora": corpora,
        "levels": report.num_by_level,
        "questionnaires": [
            _questionnaire(name, tuple(groups)) for name, groups in groupby(report.labels, lambda one: one.instrument)
        ],
        "bands": BANDS,
        "depressed_from": DEPRESSED_FROM,
        "panels": distribution_panels(report.distributions, corpora),
        "modalities": _by_kind(report),
        "num_quarantined": len({(corpus, interview) for corpus, interview, *_ in report.quarantine}),
        "shared": [one for one in (*report.overlap.corpora, *report.overlap.manifests) if one.num_people],
        "shown_names": _SHOWN_NAMES,
        "shown_rows": _SHOWN_ROWS,
    }


def _questionnaire(name: str, groups: tuple[LabelGroup, ...]) -> Questionnaire:
    num_items = max((len(one.items) for one in groups), default=0)
    return Questionnaire(name, groups, band_chart(groups), item_panels(groups), ITEM_NAMES[:num_items])


def _by_kind(report: DataReport) -> list[tuple[str, list[Modality]]]:
    return [(kind, list(group)) for kind, group in groupby(report.modalities, lambda one: one.kind)]


def _read(name: str, package: str = "moodscale.inspect") -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _cell(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _share(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")
