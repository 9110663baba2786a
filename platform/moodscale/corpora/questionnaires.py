"""Questionnaires of users, several a user: rows of ``labels.csv`` or ``labels.parquet`` → labels with a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moodscale.corpora.conversation_files import batches_of
from moodscale.corpora.conversation_index import to_id
from moodscale.corpora.joining import Moment, parse_time
from moodscale.corpora.reading.labels import LabelReading, LabelRepair, read_label
from moodscale.corpora.reading.paths import AnyPath, why
from moodscale.corpora.reading.streams import open_file
from moodscale.corpora.reading.tables import MAX_TABLE_BYTES, parse_table, read_bytes
from moodscale.schema import CorpusError, Instrument

REQUIRED = ("user_id", "instrument", "administered_at", "total")


@dataclass(frozen=True)
class Questionnaire:
    """A questionnaire that somebody filled in.

    Attributes:
        reading: the label, or why it cannot be used.
        day: as it is shown, e.g. ``2025-03-01``.
    """

    user_id: str
    at: Moment
    reading: LabelReading | str = field(repr=False)

    @property
    def day(self) -> str:
        return self.at.iso[:10]


@dataclass(frozen=True)
class Note:
    """A row of the table that makes no questionnaire, and what the ledger says of it."""

    user_id: str
    defect: str
    where: str
    before: str
    after: str = "left out"


@dataclass(frozen=True)
class Questionnaires:
    """By user, each user's in order of time."""

    by_user: Mapping[str, Sequence[Questionnaire]]
    notes: Sequence[Note]


def read_questionnaires(path: AnyPath, instrument: Instrument) -> Questionnaires:
    """Read the table.

    A row of another instrument, without a user or without a time is noted and left out; a label outside its range, or
    two rows of one user and time that disagree, make a questionnaire that cannot be used.

    Raises:
        CorpusError: the file as a whole cannot be used.
    """
    name = path.name
    rows = _parquet_rows(path) if name.endswith(".parquet") else parse_table(read_bytes(path), name, REQUIRED).rows
    items = tuple(f"item_{number}" for number in range(1, instrument.num_items + 1))
    found: dict[tuple[str, int], tuple[Mapping[str, str], Questionnaire]] = {}
    notes: list[Note] = []
    for line, row in enumerate(rows, start=2 if not name.endswith(".parquet") else 1):
        where = f"{name}: row {line}"
        user_id, at = to_id(row["user_id"]), parse_time(row["administered_at"], end_of_day=True)
        if user_id is None:
            notes.append(Note("", "invalid_label_row", f"{where}: user_id", "no text of 1 to 128 characters"))
        elif _plain(row["instrument"]) != _plain(instrument.value):
            notes.append(Note(user_id, "other_instrument", f"{where}: instrument", f"not {instrument.value}"))
        elif at is None:
            notes.append(Note(user_id, "invalid_label_row", f"{where}: administered_at", "no ISO 8601 time"))
        elif (user_id, at.us) not in found:
            reading = _read(row, instrument, items, where)
            found[user_id, at.us] = (row, Questionnaire(user_id, at, reading))
        elif found[user_id, at.us][0] == row:
            notes.append(Note(user_id, "duplicate_label", where, "the same row twice", "taken once"))
        else:
            reason = f"{where}: administered_at: another row of the same user and time disagrees; keep the right one"
            found[user_id, at.us] = (row, Questionnaire(user_id, at, reason))
    by_user: dict[str, list[Questionnaire]] = {}
    for _, key in sorted((key[1], key) for key in found):
        by_user.setdefault(key[0], []).append(found[key][1])
    return Questionnaires(by_user, notes)


def _read(row: Mapping[str, str], instrument: Instrument, items: tuple[str, ...], where: str) -> LabelReading | str:
    try:
        absent = [item for item in items if item not in row]
        reading = read_label(row, instrument, "total", None, () if absent else items)
    except CorpusError as error:
        return f"{where}: {error}"
    repairs = [LabelRepair(one.defect, f"{where}: {one.field}", one.before, one.after) for one in reading.repairs]
    if 0 < len(absent) < len(items):
        repairs.append(LabelRepair("absent_items", f"{where}: {', '.join(absent)}", "no such column", "no items kept"))
    return LabelReading(reading.label, tuple(repairs))


def _parquet_rows(path: AnyPath) -> list[dict[str, str]]:
    try:
        with open_file(path) as file:
            parquet = pq.ParquetFile(file)
            num_bytes = sum(parquet.metadata.row_group(n).total_byte_size for n in range(parquet.num_row_groups))
            if num_bytes > MAX_TABLE_BYTES:
                raise CorpusError(f"{path.name}: {num_bytes:,} bytes is more than a table here can have")
            if missing := [column for column in REQUIRED if column not in parquet.schema_arrow.names]:
                raise CorpusError(f"{path.name}: column(s) {', '.join(missing)} missing; is it the right table?")
            rows = [
                row
                for group in range(parquet.num_row_groups)
                for batch in batches_of(parquet, group, None, MAX_TABLE_BYTES, path.name)
                for row in batch.to_pylist()
            ]
    except CorpusError:
        raise
    except OSError as error:
        raise CorpusError(f"{path.name}: cannot be read ({why(error)})") from None
    except (pa.ArrowException, ValueError, OverflowError, EOFError):
        raise CorpusError(f"{path.name}: is not readable as Parquet; write it again") from None
    return [{column: _cell(value) for column, value in row.items()} for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value).strip()


def _plain(instrument: str) -> str:
    """``phq9`` for ``PHQ-9``, ``PHQ 9`` and ``phq_9``."""
    return "".join(letter for letter in instrument.lower() if letter.isalnum())
