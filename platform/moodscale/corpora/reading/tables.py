"""Tables of a corpus as rows of text, read without ever quoting a cell in an error.

A cell may be what a person said, so parsing neither raises with a value nor lets another library do so.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from moodscale.corpora.reading.paths import AnyPath, why
from moodscale.corpora.reading.streams import open_file
from moodscale.schema import CorpusError

MAX_TABLE_BYTES = 64 * 2**20
"""A transcript of an hour is about 0.1 MB."""

_BLANK = frozenset({"", "nan", "na", "n/a", "null", "none"})


@dataclass(frozen=True)
class Table:
    """Rows of text by column name.

    Attributes:
        name: the file's, for messages.
        padded: for each row, the columns whose cells had spaces around them.
        num_overlong: rows with more cells than the header has; what is too many was left out.
        num_undecodable: characters that are not UTF-8, each replaced by U+FFFD.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    padded: tuple[tuple[str, ...], ...] = ()
    num_overlong: int = 0
    num_undecodable: int = 0

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {len(self.rows)} rows)"


def read_bytes(path: AnyPath) -> bytes:
    """A small file whole.

    Raises:
        CorpusError: larger than ``MAX_TABLE_BYTES``, or unreadable.
    """
    try:
        size = path.stat().st_size
        if size > MAX_TABLE_BYTES:
            raise CorpusError(f"{path.name}: {size:,} bytes is more than a table here can have")
        with open_file(path) as stream:
            return stream.read()
    except OSError as error:
        raise CorpusError(f"{path.name}: cannot be read ({why(error)})") from None


def parse_table(
    data: bytes, name: str, required: Sequence[str], delimiter: str = ",", quoted: bool = True, speech: bool = False
) -> Table:
    """Parse a table with a header line. Cells are stripped, missing ones are empty, undecodable bytes replaced.

    Args:
        required: columns that must be there.
        quoted: whether ``"`` encloses cells. A transcript's does not: what a person says may hold one.
        speech: cells are what people say, and a comma too many is one of theirs: such a row is cut and counted. In
            a table of numbers it has moved every cell after it, and the table is refused.
    Raises:
        CorpusError: empty, binary, a quote that is not closed, a required column is missing or a column stands
            twice (no cell is shown: a table without a header starts with speech).
    """
    text = data.decode("utf-8-sig", errors="replace")
    if "\0" in text:
        raise CorpusError(f"{name}: holds NUL bytes, so it is not a text table; fetch it again")
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=quoted,
    )
    raw: list[list[str]] = []
    begun = 1
    try:
        for cells in reader:
            # An open quote takes in every row up to the next one: better refused than lost.
            if any("\n" in cell or "\r" in cell for cell in cells):
                raise csv.Error
            raw.append(cells)
            begun = reader.line_num + 1
    except csv.Error:
        raise CorpusError(f"{name}: not readable as a table from line {begun} on; is a quote not closed?") from None
    if not raw:
        raise CorpusError(f"{name}: is empty; a header with {', '.join(required)} was expected")
    columns = tuple(cell.strip() for cell in raw[0])
    missing = [column for column in required if column not in columns]
    if missing:
        raise CorpusError(f"{name}: column(s) {', '.join(missing)} missing; is it the right table and delimiter?")
    for at, column in enumerate(columns):
        if column and (first := columns.index(column)) != at:
            raise CorpusError(f"{name}: columns {first + 1} and {at + 1} have the same name; remove or rename one")
    rows, padded = [], []
    num_overlong = 0
    for number, line in enumerate(raw[1:], start=2):
        cells = [cell.strip() for cell in line]
        if any(cells[len(columns) :]):
            if not speech:
                raise CorpusError(f"{name}: row {number} has more cells than the header; is a comma too many in it?")
            num_overlong += 1
        cells = cells[: len(columns)]
        if any(cells):
            rows.append(dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))], strict=True)))
            padded.append(tuple(column for column, cell in zip(columns, line, strict=False) if cell != cell.strip()))
    return Table(name, columns, tuple(rows), tuple(padded), num_overlong, text.count("\ufffd"))


def is_blank(cell: str) -> bool:
    """An empty cell, or one of the spellings of "not a number"."""
    return cell.strip().lower() in _BLANK


def to_number(cell: str) -> float | None:
    """The finite number in a cell, or ``None``; never raises, since its message would quote the cell."""
    if "_" in cell:  # Python's own way of writing a number, and nobody else's
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def to_whole_number(cell: str) -> int | None:
    """The whole number in a cell (``13`` or ``13.0``), or ``None``."""
    value = to_number(cell)
    return int(value) if value is not None and value == int(value) else None
