"""What a round does to labels, as arithmetic on rows of ``LABELS_SCHEMA``: no model, no file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from moodscale.label.answer import Answer
from moodscale.label.config import LabelConfig
from moodscale.schema import Instrument, Provenance
from moodscale.train.labels import QUESTIONNAIRE, first_step, next_step

Row = dict[str, Any]
Key = tuple[str, str]
_CHANGED_FROM = 1.0
"""Points from which a label counts as changed."""


def true_row(interview: Mapping[str, Any]) -> Row:
    """A questionnaire's row, from a row of the manifest's interviews."""
    items = [None if item is None else float(item) for item in interview["items"] or ()] or None
    label = {**_identity(interview), "total": float(interview["total"]), "items": items, "weight": 1.0}
    chain = [first_step(label, QUESTIONNAIRE, 0, None)]
    return {**label, "provenance": interview["provenance"], "chain": chain}


def taught_row(interview: Mapping[str, Any], instrument: Instrument, answer: Answer, labeller: str) -> Row:
    """A teacher's row, before cuts and weights."""
    items = [None if item is None else float(item) for item in answer.items]
    label = {
        **_identity(interview),
        "instrument": instrument.value,
        "total": float(answer.total),
        "items": items,
        "weight": 1.0,
    }
    chain = [first_step(label, labeller, 1, answer.confidence)]
    return {**label, "provenance": Provenance.PSEUDO.value, "chain": chain}


def relabelled_row(
    row: Row, given: float, items: Sequence[float] | None, labeller: str, round_: int, config: LabelConfig
) -> Row:
    """A pseudo-label after another labeller: replaced, or blended with what it was.

    A label that is blended with one whose items are not known has no items any more.
    """
    if row["provenance"] != Provenance.PSEUDO:
        raise ValueError(f"interview {row['interview_id']} has a true label, which never changes")
    highest = Instrument(row["instrument"]).max_total
    share = config.blend if config.relabel == "blend" else 1.0
    confidence = 1.0 - min(1.0, abs(given - row["total"]) / highest)
    before = row["items"]
    new_items: list[float] | None = None
    if items is not None and (share == 1.0 or (before is not None and None not in before)):
        new_items = [share * new + (1 - share) * old for new, old in zip(items, before or items, strict=True)]
    total = sum(new_items) if new_items is not None else share * given + (1 - share) * row["total"]
    total = min(max(total, 0.0), float(highest))
    step = next_step(row["chain"], labeller, round_, given, total, new_items, confidence)
    return {**row, "total": step["total"], "items": new_items, "chain": [*row["chain"], step]}


def weighted(rows: Sequence[Row], config: LabelConfig) -> tuple[list[Row], int]:
    """Rows with their weights in the loss, without those of too little confidence, and how many those are."""
    kept = []
    for row in rows:
        if row["provenance"] != Provenance.PSEUDO:
            kept.append(row)
            continue
        confidence = row["chain"][-1]["confidence"]
        weight = config.weight * (confidence if config.weight_by_confidence else 1.0)
        if confidence >= config.min_confidence and weight > 0:
            kept.append({**row, "weight": weight})
    return kept, len(rows) - len(kept)


def label_shift(before: Sequence[Row], after: Sequence[Row]) -> dict[str, Any]:
    """How far a round moved the pseudo-labels, in points; ``None`` where there is nothing to compare."""
    totals = {_key(row): row["total"] for row in before}
    shifts = [row["total"] - totals[_key(row)] for row in after if _key(row) in totals and _is_pseudo(row)]
    if not shifts:
        return {"mean": None, "mean_abs": None, "max_abs": None, "num_changed": 0}
    return {
        "mean": sum(shifts) / len(shifts),
        "mean_abs": sum(map(abs, shifts)) / len(shifts),
        "max_abs": max(map(abs, shifts)),
        "num_changed": sum(abs(shift) >= _CHANGED_FROM for shift in shifts),
    }


def folds_of(people: Sequence[str], taught: frozenset[str], num_folds: int, seed: int) -> dict[str, int]:
    """A fold for each person, the same in every run: dealt in turn, those with true labels and the others apart.

    Args:
        taught: people with pseudo-labels alone.
    """
    found: dict[str, int] = {}
    for group in (sorted(set(people) - taught), sorted(set(people) & taught)):
        ordered = sorted(group, key=lambda person: hashlib.sha256(f"{seed}:{person}".encode()).digest())
        found.update({person: place % num_folds for place, person in enumerate(ordered)})
    return found


def _identity(interview: Mapping[str, Any]) -> Row:
    return {name: interview[name] for name in ("corpus", "interview_id", "person", "instrument")}


def _key(row: Mapping[str, Any]) -> Key:
    return row["corpus"], row["interview_id"]


def _is_pseudo(row: Mapping[str, Any]) -> bool:
    return bool(row["provenance"] == Provenance.PSEUDO)
