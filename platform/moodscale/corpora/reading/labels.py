"""A questionnaire's row of a label table → a Label, with every repair named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moodscale.corpora.reading.tables import is_blank, to_number, to_whole_number
from moodscale.schema import DEPRESSED_FROM, CorpusError, Instrument, Label, Provenance


@dataclass(frozen=True)
class LabelRepair:
    """A repair within one row. ``field`` is the column's name."""

    defect: str
    field: str
    before: str
    after: str


@dataclass(frozen=True)
class LabelReading:
    label: Label
    repairs: tuple[LabelRepair, ...]


def read_label(
    row: Mapping[str, str], instrument: Instrument, total: str, binary: str | None = None, items: tuple[str, ...] = ()
) -> LabelReading:
    """Read total, items and the binary column of one row.

    The total decides: the binary column is compared with it and never used. One blank item is the total less the
    others; several stay missing. Items that do not add up to the total are named, and both are kept.

    Args:
        total: the total's column.
        binary: the column that says depressed or not, where the table has one.
        items: the items' columns, in the questionnaire's order.
    Raises:
        CorpusError: naming the field, for a total that is missing or outside the instrument's range, or an item
            outside 0-3.
    """
    score = _in_range(row.get(total, ""), total, instrument.max_total)
    if score is None:
        raise CorpusError(f"{total} is blank; a total of 0-{instrument.max_total} is needed")
    answers, repairs = _read_items(row, items, total, score)
    provenance = Provenance.QUESTIONNAIRE
    if any(repair.defect == "blank_item" for repair in repairs):
        provenance = Provenance.REPAIRED
    if binary is not None:
        derived = int(score >= DEPRESSED_FROM)
        given = row.get(binary, "")
        if to_whole_number(given) != derived:
            before = "blank" if is_blank(given) else f"{_shown(given)} with score {score}"
            repairs.append(LabelRepair("binary_contradicts_score", binary, before, str(derived)))
            provenance = Provenance.REPAIRED
    return LabelReading(Label(instrument, score, answers, provenance), tuple(repairs))


def _read_items(
    row: Mapping[str, str], items: tuple[str, ...], total: str, score: int
) -> tuple[tuple[int | None, ...], list[LabelRepair]]:
    answers = [_in_range(row.get(item, ""), item, 3) for item in items]
    missing = [index for index, answer in enumerate(answers) if answer is None]
    if len(missing) == len(items):
        return (), []
    known = sum(answer for answer in answers if answer is not None)
    rest = score - known
    if len(missing) == 1 and 0 <= rest <= 3:
        answers[missing[0]] = rest
        return tuple(answers), [LabelRepair("blank_item", items[missing[0]], "blank", f"{score} - {known} = {rest}")]
    if len(missing) > 1:
        names = ", ".join(items[index] for index in missing)
        return tuple(answers), [LabelRepair("blank_items", names, "blank", "left missing")]
    if rest != 0:
        given = "items" if not missing else "the other items"
        return tuple(answers), [
            LabelRepair("items_do_not_add_up", total, f"{given} sum to {known}, total {score}", "kept as they are")
        ]
    return tuple(answers), []


def _in_range(cell: str, field: str, largest: int) -> int | None:
    """The whole number in a cell, ``None`` for a blank one."""
    if is_blank(cell):
        return None
    value = to_whole_number(cell)
    if value is None or not 0 <= value <= largest:
        raise CorpusError(f"{field}={_shown(cell)} is not a whole number of 0-{largest}; correct the label table")
    return value


def _shown(cell: str) -> str:
    """A cell as it may be quoted: a number, or the fact that it is none."""
    return cell if to_number(cell) is not None else "(not a number)"
