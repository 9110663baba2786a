"""Large text tables of numbers, block by block: fast where every cell is a number, exact where one is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from moodscale.corpora.reading.tables import to_number
from moodscale.schema import CorpusError

MAX_LINE_BYTES = 2**20
"""4,096 columns of 12 characters are 50 KB."""
MAX_COLUMNS = 2**15
BLOCK_BYTES = 2**20
"""Text of a block; some 12 MiB while it is parsed."""

_READ_BYTES = 2**18
_NUMBERS = b"0123456789.+-eE \t,;nanNANinfINF"
"""What plain numbers, ``nan`` and ``inf`` are written with; ``float`` would take ``1_0`` too."""
_NOT_A_NUMBER = frozenset(
    ("", "nan", "-nan", "+nan", "nan(ind)", "-nan(ind)", "na", "n/a", "?", "inf", "-inf", "+inf", "infinity")
) | frozenset(f"{sign}1.#{what}" for sign in ("", "-") for what in ("ind", "inf", "qnan", "snan"))


class NumberRows:
    """A table whose first line was looked at.

    Attributes:
        columns: names without spaces around them; empty where there is no header.
        width: number of columns.
    Raises:
        CorpusError: empty, another number of columns than wanted, or too long a line.
    """

    def __init__(
        self, stream: BinaryIO, name: str, delimiter: str, header: bool | None, num_columns: int | None
    ) -> None:
        self.name = name
        self._delimiter = delimiter.encode()
        self._lines = _lines(stream, name)
        self._number = 1
        first = next(self._lines, None)
        if first is None:
            raise CorpusError(f"{name}: is empty; extract it again")
        first = first.removeprefix(b"\xef\xbb\xbf")
        cells = first.split(self._delimiter)
        self.width = len(cells)
        if self.width > MAX_COLUMNS or (num_columns is not None and self.width != num_columns):
            wanted = f"at most {MAX_COLUMNS:,}" if num_columns is None else f"{num_columns}"
            raise CorpusError(f"{name}: row 1 has {self.width} column(s), {wanted} expected; is it the right file?")
        if header is None:
            header = _number(cells[-1]) is None
        self.columns = tuple(cell.strip().decode("utf-8", "replace") for cell in cells) if header else ()
        self._first = None if header else first

    @staticmethod
    def head(stream: BinaryIO, name: str, num_rows: int) -> bytes:
        """The first lines as they are."""
        lines = _lines(stream, name)
        return b"\n".join(line for line, _ in zip(lines, range(num_rows), strict=False)) + b"\n"

    def blocks(self, texts: tuple[int, ...] = ()) -> Iterator[npt.NDArray[np.float64]]:
        """Blocks of rows, ``[rows, width]``; NaN for a cell that says so, or that is empty.

        Args:
            texts: columns that need not be numbers; they are read as 0.
        Raises:
            CorpusError: naming row and column of a cell that is no number, or a row of another width.
        """
        pending: list[bytes] = []
        num_bytes = 0
        if self._first is not None:
            pending.append(self._first)
            self._number = 0
        for line in self._lines:
            pending.append(line)
            num_bytes += len(line)
            if num_bytes >= BLOCK_BYTES:
                yield self._parse(pending, texts)
                pending, num_bytes = [], 0
        if pending:
            yield self._parse(pending, texts)

    def _parse(self, lines: list[bytes], texts: tuple[int, ...]) -> npt.NDArray[np.float64]:
        first = self._number + 1
        self._number += len(lines)
        for number, line in enumerate(lines, start=first):
            if (found := line.count(self._delimiter) + 1) != self.width:
                raise CorpusError(
                    f"{self.name}: row {number} has {found} column(s) where {self.width} are expected; extract it again"
                )
        if texts:
            lines = [self._without(line, texts) for line in lines]
        values = self._fast(lines)
        return self._slow(lines, first) if values is None else values

    def _fast(self, lines: list[bytes]) -> npt.NDArray[np.float64] | None:
        """All cells at once; ``None`` where one is not plainly a number."""
        text = self._delimiter.join(lines)
        if text.translate(None, _NUMBERS):
            return None
        try:
            values = np.fromiter(map(float, text.split(self._delimiter)), np.float64, len(lines) * self.width)
        except ValueError:
            return None
        return values.reshape(len(lines), self.width)

    def _slow(self, lines: list[bytes], first: int) -> npt.NDArray[np.float64]:
        values = np.empty((len(lines), self.width))
        for row, line in enumerate(lines):
            for column, cell in enumerate(line.split(self._delimiter)):
                number = _number(cell)
                if number is None:
                    raise CorpusError(
                        f"{self.name}: row {first + row}, column {column + 1} is not a number; extract it again"
                    )
                values[row, column] = number
        return values

    def _without(self, line: bytes, texts: tuple[int, ...]) -> bytes:
        cells = line.split(self._delimiter, texts[-1] + 1)
        for column in texts:
            cells[column] = b"0"
        return self._delimiter.join(cells)


def _number(cell: bytes) -> float | None:
    """The number in a cell, NaN where it says that there is none; ``None`` for anything else."""
    text = cell.strip().decode("ascii", "replace").lower()
    return float("nan") if text in _NOT_A_NUMBER else to_number(text)


def _lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Lines that hold something, without their ends."""
    stream.seek(0)
    number, rest = 0, b""
    while data := stream.read(_READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _too_long(name, number)
            if line.strip():
                yield line.rstrip(b"\r")
        if len(rest) > MAX_LINE_BYTES:
            raise _too_long(name, number + 1)
    if rest.strip():
        yield rest.rstrip(b"\r")


def _too_long(name: str, number: int) -> CorpusError:
    return CorpusError(f"{name}: line {number} is longer than {MAX_LINE_BYTES:,} bytes; is it a table?")
