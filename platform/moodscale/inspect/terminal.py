"""The data report on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from moodscale.inspect.findings import Level
from moodscale.inspect.groups import ALL, BANDS, LabelGroup
from moodscale.inspect.overlap import Overlap
from moodscale.inspect.report import DataReport
from moodscale.schema import DEPRESSED_FROM

_STYLES = {Level.WRONG: "bold red", Level.DOUBTFUL: "yellow", Level.KNOWN: "dim"}
_MAX_NAMED = 6
_MAX_ROWS = 20


def render(report: DataReport, html: str = "") -> Group:
    """Findings first, then the tables that they come from.

    Args:
        html: where the page with the charts lies.
    """
    parts: list[Any] = [_head(report), _findings(report), _groups(report)]
    if report.labels:
        parts.append(_labels(report.labels, report.min_cell))
    if not report.test_labels:
        parts.append(Text("The test split's labels were not read.", style="dim"))
    parts += [_distributions(report), _modalities(report)]
    if report.plans:
        parts.append(_plans(report))
    if report.ledger:
        parts.append(_ledger(report))
    if report.quarantine:
        parts.append(_quarantine(report))
    if not report.overlap.disjoint or len(report.overlap.corpora) + len(report.overlap.manifests):
        parts.append(render_overlap(report.overlap))
    parts += [Text(f"note: {note}") for note in report.approximations]
    if html:
        parts.append(Text(f"charts: {html}"))
    return Group(*parts)


def render_overlap(overlap: Overlap) -> Group:
    """Who is in two places; one line where nobody is."""
    people = ", ".join(f"{number} people in {name}" for name, number in overlap.num_people.items())
    parts: list[Any] = []
    if overlap.disjoint:
        parts.append(Text(f"disjoint: {people}; nobody is in two splits, no recording is of two people", "green"))
    else:
        parts.append(
            Text(
                f"NOT disjoint: {people}; {len(overlap.people)} in two splits, "
                f"{len(overlap.recordings)} recordings of two people",
                "bold red",
            )
        )
    if overlap.people:
        table = _table("people in two splits", "person", "where")
        for person in overlap.people:
            _add(table, person.person, Text("; ".join(f"{split} of {name}" for name, split in person.places)))
        parts.append(table)
    if overlap.recordings:
        table = _table("recordings of two people", "people", "interviews", "splits")
        for same in overlap.recordings:
            _add(
                table,
                ", ".join(sorted({person for _, person, *_ in same.places})),
                Text(", ".join(sorted({f"{interview} ({name})" for name, _, interview, _ in same.places}))),
                ", ".join(sorted({split for *_, split in same.places if split})),
            )
        parts.append(table)
    shared = [one for one in (*overlap.corpora, *overlap.manifests) if one.num_people]
    if shared:
        table = _table("people in both", "first", "second", right=("people",))
        for one in shared:
            _add(table, one.first, one.second, str(one.num_people))
        parts.append(table)
    return Group(*parts)


def _head(report: DataReport) -> Text:
    lines = [
        f"{one.name} ({one.hash}): {one.corpus}, {one.speech} speech in clips of {one.clip_s:g} s, "
        f"{one.split_kind} split"
        for one in report.manifests
    ]
    return Text("\n".join(lines))


def _findings(report: DataReport) -> Group:
    lines = []
    for one in report.findings:
        line = Text(f"{one.level.value:>8}  ", style=_STYLES[one.level])
        line.append(f"{one.title} ({one.number}): " if one.number else f"{one.title}: ", style="bold")
        line.append(one.text)
        if one.interviews and one.level is not Level.KNOWN:
            line.append(f" [{_named(one.interviews)}]", style="dim")
        lines.append(line)
    return Group(
        Text("what is wrong, worst first", style="bold"), *(lines or [Text("nothing was found", style="green")])
    )


def _groups(report: DataReport) -> Table:
    right = ("people", "interviews", "without label", "hours", "of speech", "clips")
    table = _table("people, interviews, hours", "by", "group", right=right)
    for one in report.groups:
        _add(
            table,
            one.by, one.group, str(one.num_people), str(one.num_interviews), str(one.num_unlabelled or ""),
            f"{one.hours:.2f}", f"{one.speech_hours:.2f}", f"{one.num_clips:,}", style="bold" if one.by == ALL else "",
        )  # fmt: skip
    return table


def _labels(labels: Sequence[LabelGroup], min_cell: int) -> Table:
    bands = [f"{low}–{high}" for low, high, _ in BANDS]
    title = (
        f"labels by total ({min_cell - 1} people or fewer, or what would tell of them: –)" if min_cell > 1 else "labels"
    )
    table = _table(title, "questionnaire", "group", right=("labels", f"≥ {DEPRESSED_FROM}", *bands, "mean", "sd"))
    for one in labels:
        counts = (one.num_depressed, *one.bands)
        _add(
            table,
            one.instrument, one.group, str(one.num_labels), *("–" if count is None else str(count) for count in counts),
            _number(one.mean), _number(one.sd), style="bold" if one.by == ALL else "",
        )  # fmt: skip
    return table


def _distributions(report: DataReport) -> Table:
    right = ("values", "least", "5 %", "median", "95 %", "most")
    table = _table("distributions", "what", "corpus", right=right)
    for one in report.distributions:
        _add(table, f"{one.quantity} ({one.unit})", one.corpus, f"{one.num:,}", *(f"{q:.4g}" for q in one.quantiles))
    return table


def _modalities(report: DataReport) -> Table:
    table = _table("modalities", "kind", "corpus", right=("have", "missing", "interviews"))
    for one in report.modalities:
        _add(table, one.kind, one.corpus, str(one.num_have), str(one.num_missing or ""), str(one.num_interviews))
    return table


def _plans(report: DataReport) -> Table:
    right = ("clips", "different", "depressed", "people", "one person", "top tenth")
    table = _table("what an epoch shows", "sampling", right=right)
    several = len(report.manifests) > 1
    for one in report.plans:
        _add(
            table,
            f"{one.manifest}: {one.name}" if several else one.name, f"{one.num_clips:,}", f"{one.num_different:,}",
            _share(one.depressed_share), str(one.num_people), _share(one.largest_share, 1), _share(one.top_tenth_share),
        )  # fmt: skip
    return table


def _ledger(report: DataReport) -> Table:
    table = _table("ledger", "corpus", "defect", "interviews", right=("lines",))
    for one in report.ledger:
        _add(table, one.corpus, one.defect, _named(one.interviews), str(one.num_lines))
    return table


def _quarantine(report: DataReport) -> Table:
    table = _table("quarantine", "corpus", "interview", "where", "reason")
    for corpus, interview, where, reason in report.quarantine[:_MAX_ROWS]:
        _add(table, corpus, interview, where, reason)
    if len(report.quarantine) > _MAX_ROWS:
        _add(table, "", f"and {len(report.quarantine) - _MAX_ROWS} more", "", "")
    return table


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for column in right:
        table.add_column(column, justify="right")
    return table


def _add(table: Table, *cells: str | Text, style: str = "") -> None:
    """A row as it is: an id or a reason from a file may look like rich's markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)


def _named(interviews: Sequence[str]) -> str:
    more = len(interviews) - _MAX_NAMED
    return ", ".join(interviews[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _share(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}%}"
