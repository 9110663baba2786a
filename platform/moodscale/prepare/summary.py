"""What a manifest holds, for a person and for a program: on the terminal, as HTML, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import jinja2
import pyarrow as pa
from rich.console import Group
from rich.table import Table
from rich.text import Text
from upath import UPath

from moodscale.schema import DEPRESSED_FROM, Split

CLIP_TOLERANCE = 0.05
"""Share by which the complete corpus may differ from the published number of clips before it is worth a warning."""


@dataclass(frozen=True)
class GroupSummary:
    """People and clips of one split and one gender; gender ``all`` for the whole split."""

    split: str
    gender: str
    num_people: int
    num_depressed_people: int
    num_clips: int
    num_depressed_clips: int
    hours: float

    @property
    def depressed_share(self) -> float:
        return self.num_depressed_people / self.num_people if self.num_people else 0.0


@dataclass(frozen=True)
class ManifestSummary:
    """What preparing came to.

    Attributes:
        reused: whether the manifest was there already and nothing was done.
        num_interviews: present and usable ones, with a label or without.
        hours: of clips.
        recorded_hours: of the recordings.
        ledger: number of repairs by defect.
        quarantined: interview and reason.
        warnings: what a person should look at before training.
        approximations: what a reader of any figure made from the corpus must know.
    """

    path: str
    hash: str
    corpus: str
    speech: str
    clip_s: float
    reused: bool
    num_people: int
    num_interviews: int
    num_absent: int
    num_clips: int
    hours: float
    recorded_hours: float
    groups: tuple[GroupSummary, ...]
    ledger: dict[str, int]
    quarantined: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    approximations: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ManifestSummary:
        groups = tuple(GroupSummary(**group) for group in values["groups"])
        quarantined = tuple((interview, reason) for interview, reason in values["quarantined"])
        lines = {name: tuple(values[name]) for name in ("warnings", "approximations")}
        return cls(**{**values, "groups": groups, "quarantined": quarantined, **lines})


def summarise(
    tables: Mapping[str, pa.Table],
    path: UPath,
    hash_: str,
    corpus: str,
    settings: Mapping[str, Any],
    expected: int | None,
    approximations: Sequence[str] = (),
) -> ManifestSummary:
    """Count what the tables hold.

    Args:
        settings: the preparing settings.
        expected: number of clips that the complete corpus is known to give, where it is complete.
    """
    clips, interviews = tables["clips"], tables["interviews"]
    num_by_defect: dict[str, int] = {}
    for defect in tables["ledger"]["defect"].to_pylist():
        num_by_defect[defect] = num_by_defect.get(defect, 0) + 1
    groups = _groups(interviews, clips)
    quarantined = tuple((row["interview_id"], row["reason"]) for row in tables["quarantine"].to_pylist())
    return ManifestSummary(
        path=str(path),
        hash=hash_,
        corpus=corpus,
        speech=settings["speech"],
        clip_s=settings["clip_s"],
        reused=False,
        num_people=len(set(interviews["person"].to_pylist())),
        num_interviews=interviews.num_rows,
        num_absent=num_by_defect.get("absent_session", 0),
        num_clips=clips.num_rows,
        hours=sum(clips["duration_s"].to_pylist()) / 3600,
        recorded_hours=sum(interviews["duration_s"].to_pylist()) / 3600,
        groups=groups,
        ledger=dict(sorted(num_by_defect.items())),
        quarantined=quarantined,
        warnings=tuple(_warnings(groups, clips.num_rows, expected, num_by_defect)),
        approximations=tuple(approximations),
    )


def _groups(interviews: pa.Table, clips: pa.Table) -> tuple[GroupSummary, ...]:
    people = {
        (row["person"], row["split"], row["gender"], row["depressed"])
        for row in interviews.select(["person", "split", "gender", "depressed"]).to_pylist()
        if row["split"] is not None
    }
    counted = clips.group_by(["split", "gender", "depressed"]).aggregate([("duration_s", "sum"), ("clip_id", "count")])
    rows = counted.to_pylist()
    groups = []
    for split in Split:
        genders = sorted({gender for _, own, gender, _ in people if own == split.value})
        for gender in ("all", *genders):
            own = [p for p in people if p[1] == split.value and gender in ("all", p[2])]
            cut = [row for row in rows if row["split"] == split.value and gender in ("all", row["gender"])]
            groups.append(
                GroupSummary(
                    split.value,
                    gender,
                    num_people=len({person for person, *_ in own}),
                    num_depressed_people=len({person for person, _, _, depressed in own if depressed}),
                    num_clips=sum(row["clip_id_count"] for row in cut),
                    num_depressed_clips=sum(row["clip_id_count"] for row in cut if row["depressed"]),
                    hours=sum(row["duration_s_sum"] for row in cut) / 3600,
                )
            )
    return tuple(groups)


def _warnings(
    groups: tuple[GroupSummary, ...], num_clips: int, expected: int | None, defects: Mapping[str, int]
) -> list[str]:
    found = []
    if expected is not None and abs(num_clips - expected) > CLIP_TOLERANCE * expected:
        found.append(f"{num_clips:,} clips, the complete corpus is known to give about {expected:,}: check the audio")
    for group in groups:
        if group.gender == "all" and group.num_depressed_people in (0, group.num_people):
            kind = "nobody" if group.num_people == 0 else "people of one class only"
            found.append(f"the {group.split} split holds {kind}: it cannot be trained on or evaluated")
    for defect, what in (("gender_disagrees", "gender"), ("total_disagrees", "total")):
        if number := defects.get(defect, 0):
            found.append(f"{number} people have another {what} in another corpus: see the ledger")
    if mismatches := defects.get("items_do_not_add_up", 0):
        found.append(f"{mismatches} label(s) whose items do not add up to the total: see the ledger")
    return found


def render_terminal(summary: ManifestSummary) -> Group:
    """The summary as rich renderables."""
    head = Text(
        f"{summary.corpus}: {summary.num_people} people, {summary.num_clips:,} clips of {summary.speech} speech, "
        f"{summary.hours:.2f} h of {summary.recorded_hours:.2f} h recorded\n"
        f"{'unchanged, nothing to do' if summary.reused else 'written'}: {summary.path} ({summary.hash})"
    )
    table = Table("split", "gender", title="people and clips", title_justify="left")
    for column in ("people", f"PHQ ≥ {DEPRESSED_FROM}", "share", "clips", "of them depressed", "hours"):
        table.add_column(column, justify="right")
    for group in summary.groups:
        table.add_row(
            group.split if group.gender == "all" else "",
            group.gender,
            str(group.num_people),
            str(group.num_depressed_people),
            f"{group.depressed_share:.0%}",
            f"{group.num_clips:,}",
            f"{group.num_depressed_clips:,}",
            f"{group.hours:.2f}",
            style="bold" if group.gender == "all" else "",
        )
    parts: list[Any] = [head, table]
    if summary.ledger:
        ledger = Table("defect", "times", title="repair ledger", title_justify="left")
        for defect, times in summary.ledger.items():
            ledger.add_row(defect, str(times))
        parts.append(ledger)
    if summary.quarantined:
        quarantine = Table("interview", "reason", title="quarantined", title_justify="left")
        for interview, reason in summary.quarantined:
            quarantine.add_row(interview, Text(reason))
        parts.append(quarantine)
    parts.extend(Text(f"warning: {warning}", style="yellow") for warning in summary.warnings)
    parts.extend(Text(f"note: {note}") for note in summary.approximations)
    return Group(*parts)


def render_html(summary: ManifestSummary, tables: Mapping[str, pa.Table]) -> str:
    """The summary as one HTML file without any outside reference."""
    template = files("moodscale.prepare").joinpath("summary.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(
        summary=summary,
        depressed_from=DEPRESSED_FROM,
        ledger=tables["ledger"].to_pylist(),
        num_test_depressed=next((g.num_depressed_people for g in summary.groups if g.split == "test"), 0),
    )
