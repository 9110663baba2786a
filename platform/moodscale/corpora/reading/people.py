"""Label tables of several splits as rows by person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from moodscale.corpora.reading.tables import Table, to_whole_number
from moodscale.schema import CorpusError, Split


@dataclass(frozen=True)
class PersonRow:
    """One person's row of a label table, before it is understood.

    Attributes:
        padded: columns whose cells had spaces around them.
        duplicate: why the person cannot be used, where two rows disagree.
    """

    table: str
    split: Split
    row: Mapping[str, str]
    padded: tuple[str, ...] = ()
    duplicate: str | None = None


def column(row: Mapping[str, str], *names: str) -> str | None:
    """The first of several spellings of a column that a table has."""
    return next((name for name in names if name in row), None)


def rows_by_number(table: Table, *names: str) -> dict[str, tuple[int, Mapping[str, str]]]:
    """Line and row by the whole number in the first of the columns ``names`` that there is; the first row of two.

    Raises:
        CorpusError: no such column, or a row without a whole number there.
    """
    found: dict[str, tuple[int, Mapping[str, str]]] = {}
    for line, row, number in _numbered(table, names):
        found.setdefault(number, (line, row))
    return found


def read_people(
    tables: Sequence[tuple[Table, Split]], columns: Sequence[str], person_prefix: str
) -> dict[str, PersonRow]:
    """Label rows by session number; of two tables of one split the first is taken.

    Args:
        columns: spellings of the column with the session's number.
        person_prefix: of the global person key, for messages.
    Raises:
        CorpusError: no such column, a row without a whole number there, or a person in two splits.
    """
    people: dict[str, PersonRow] = {}
    for table, split in tables:
        for line, row, number in _numbered(table, columns):
            earlier = people.get(number)
            if earlier is None:
                people[number] = PersonRow(table.name, split, row, table.padded[line - 2])
            elif earlier.split is not split:
                raise CorpusError(
                    f"person {person_prefix}:{number} is in two splits: {earlier.table} and {table.name}; remove one "
                    "of the rows"
                )
            elif earlier.table == table.name and earlier.row != row:
                reason = f"{table.name}: two rows of {columns[0]}={number} disagree; keep the right one"
                people[number] = replace(earlier, duplicate=reason)
    return people


def _numbered(table: Table, names: Sequence[str]) -> list[tuple[int, Mapping[str, str], str]]:
    key = column(dict.fromkeys(table.columns, ""), *names)
    if key is None:
        raise CorpusError(f"{table.name}: column {names[0]} is missing; is it the right table?")
    found: list[tuple[int, Mapping[str, str], str]] = []
    for line, row in enumerate(table.rows, start=2):
        number = to_whole_number(row[key])
        if number is None:
            raise CorpusError(f"{table.name}: row {line} has no whole number as {key}; correct the row")
        found.append((line, row, str(number)))
    return found
