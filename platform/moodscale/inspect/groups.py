"""People, interviews, hours and labels by split, gender and corpus."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moodscale.inspect.cells import hidden_cells
from moodscale.inspect.gather import INTERVIEW, Gathered
from moodscale.schema import DEPRESSED_FROM, Instrument, Split

BANDS = ((0, 4, "minimal"), (5, 9, "mild"), (10, 14, "moderate"), (15, 19, "moderately severe"), (20, 27, "severe"))
"""Severity by total, of both questionnaires (Kroenke, Spitzer & Williams 2001; Kroenke et al. 2009)."""
ITEM_NAMES = (
    "interest", "mood", "sleep", "energy", "appetite", "self-worth", "concentration", "movement", "self-harm",
)  # fmt: skip
ALL = "all"
_SPLIT_ORDER = [*(split.value for split in Split)]


@dataclass(frozen=True)
class GroupSize:
    """Who is in a group and how much of them there is; no labels."""

    by: str
    group: str
    num_people: int
    num_interviews: int
    num_unlabelled: int
    hours: float
    speech_hours: float
    num_clips: int


@dataclass(frozen=True)
class LabelGroup:
    """Labels of one group by one questionnaire. ``None`` is hidden: fewer people than ``min_cell``, or it would tell.

    Attributes:
        bands: labels in each of ``BANDS``.
        items: by item, labels with an answer of 0, 1, 2, 3 and without one; empty where there are totals only.
    """

    by: str
    group: str
    instrument: str
    num_people: int
    num_labels: int
    num_depressed: int | None
    bands: tuple[int | None, ...]
    num_with_items: int | None
    mean: float | None
    sd: float | None
    items: tuple[tuple[int | None, ...], ...]

    @property
    def depressed_share(self) -> float | None:
        return None if self.num_depressed is None else self.num_depressed / self.num_labels

    def item_mean(self, item: int) -> float | None:
        """``None`` where a count is hidden: the mean would give it away."""
        counts = self.items[item]
        known = sum(count or 0 for count in counts[:4])
        if None in counts or not known:
            return None
        return sum(answer * (count or 0) for answer, count in enumerate(counts[:4])) / known


def group_sizes(data: Gathered) -> tuple[GroupSize, ...]:
    interviews, clips = data.interviews, data.clips
    found = []
    for by, group, own in _groups(interviews, _groupings(data)):
        cut = clips.merge(own[INTERVIEW], on=INTERVIEW) if len(clips) else clips
        spoken = own["participant_s"] + own["other_s"]
        found.append(
            GroupSize(
                by,
                group,
                num_people=int(own["person"].nunique()),
                num_interviews=len(own),
                num_unlabelled=int(own["split"].isna().sum()),
                hours=float(own["duration_s"].sum()) / 3600,
                speech_hours=float(spoken.sum()) / 3600,
                num_clips=len(cut),
            )
        )
    return tuple(found)


def label_groups(data: Gathered, min_cell: int) -> tuple[LabelGroup, ...]:
    """By questionnaire: everybody, then by split, gender and corpus.

    Args:
        min_cell: fewest people that a count of labels may be about.
    """
    found: list[LabelGroup] = []
    for instrument, labels in data.labels.groupby("instrument", sort=True):
        counts = _Counts(Instrument(str(instrument)), min_cell)
        for by, group, own in _groups(labels, _groupings(data)):
            counts.add(by, group, own)
        found += counts.groups()
    return tuple(found)


class _Counts:
    """All groups of one questionnaire, so that what is hidden in one cannot be worked out from another."""

    def __init__(self, instrument: Instrument, min_cell: int) -> None:
        self._instrument, self._min_cell = instrument, min_cell
        self._rows: dict[tuple[str, str], pd.DataFrame] = {}
        self._labels: dict[tuple[Hashable, ...], int] = {}
        self._people: dict[tuple[Hashable, ...], int] = {}

    def add(self, by: str, group: str, labels: pd.DataFrame) -> None:
        self._rows[by, group] = labels

        def count(what: tuple[Hashable, ...], chosen: pd.DataFrame) -> None:
            self._labels[by, group, *what] = len(chosen)
            self._people[by, group, *what] = int(chosen["person"].nunique())

        count(("label",), labels)
        for index, (low, high, _) in enumerate(BANDS):
            count(("band", index), labels[labels["total"].between(low, high)])
        count(("class", 0), labels[labels["total"] < DEPRESSED_FROM])
        count(("class", 1), labels[labels["total"] >= DEPRESSED_FROM])
        with_items, answers = _answers(labels, self._instrument)
        count(("items",), with_items)
        for item in range(self._instrument.num_items):
            for answer in range(4):
                count(("item", item, answer), with_items[answers[:, item] == answer])
            count(("item", item, 4), with_items[np.isnan(answers[:, item])])

    def groups(self) -> list[LabelGroup]:
        hidden = hidden_cells(self._people, self._sums(), self._min_cell, self._of_small_groups())

        def shown(cell: tuple[Hashable, ...]) -> int | None:
            return None if cell in hidden else self._labels[cell]

        found = []
        for (by, group), labels in self._rows.items():
            at = (by, group)
            totals = labels["total"].to_numpy(float)
            num_items = self._instrument.num_items if self._labels[*at, "items"] else 0
            found.append(
                LabelGroup(
                    by,
                    group,
                    self._instrument.value,
                    num_people=self._people[*at, "label"],
                    num_labels=len(labels),
                    num_depressed=shown((*at, "class", 1)),
                    bands=tuple(shown((*at, "band", index)) for index in range(len(BANDS))),
                    num_with_items=shown((*at, "items")),
                    mean=None if (*at, "label") in hidden else float(totals.mean()),
                    sd=None if (*at, "label") in hidden else float(totals.std()),
                    items=tuple(
                        tuple(shown((*at, "item", item, answer)) for answer in range(5)) for item in range(num_items)
                    ),
                )
            )
        return found

    def _sums(self) -> Iterator[list[tuple[Hashable, ...]]]:
        num_items = self._instrument.num_items
        for at in self._rows:
            yield [*[(*at, "band", index) for index in (0, 1)], (*at, "class", 0)]
            yield [*[(*at, "band", index) for index in (2, 3, 4)], (*at, "class", 1)]
            yield [(*at, "class", 0), (*at, "class", 1)]
            for item in range(num_items):
                yield [(*at, "item", item, answer) for answer in range(5)]
        what: list[tuple[Hashable, ...]] = [("label",), ("items",), ("class", 0), ("class", 1)]
        what += [("band", index) for index in range(len(BANDS))]
        what += [("item", item, answer) for item in range(num_items) for answer in range(5)]
        for by in sorted({by for by, _ in self._rows} - {ALL}):
            groups = [at for at in self._rows if at[0] == by]
            for cell in what:
                # Everybody's value is the sum of the groups'.
                yield [*[(*at, *cell) for at in groups], (ALL, ALL, *cell)]

    def _of_small_groups(self) -> list[tuple[Hashable, ...]]:
        small = {at for at in self._rows if self._people[*at, "label"] < self._min_cell}
        return [cell for cell in self._people if (cell[0], cell[1]) in small]


def _groupings(data: Gathered) -> tuple[str, ...]:
    """A single corpus is everybody."""
    return ("split", "gender", "corpus") if len(data.corpora) > 1 else ("split", "gender")


def _answers(labels: pd.DataFrame, instrument: Instrument) -> tuple[pd.DataFrame, np.ndarray]:
    """Labels that have items, and float ``[num_labels, num_items]`` with NaN where an answer is missing."""
    has = labels["items"].map(lambda items: items is not None and len(items) > 0).to_numpy(bool)
    chosen = labels[has]
    rows = [[np.nan if value is None else value for value in items] for items in chosen["items"]]
    return chosen, np.asarray(rows, dtype=float).reshape(len(chosen), instrument.num_items)


def _groups(rows: pd.DataFrame, groupings: Sequence[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    yield ALL, ALL, rows
    for by in groupings:
        values = rows[by].dropna().unique().tolist()
        for value in sorted(values, key=lambda one: _SPLIT_ORDER.index(one) if by == "split" else one):
            yield by, str(value), rows[rows[by] == value]
