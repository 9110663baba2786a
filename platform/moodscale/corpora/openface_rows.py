"""How many frames of an OpenFace table found no face: one light pass, without reading its hundreds of columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from moodscale.corpora.reading.tables import to_number
from moodscale.schema import CorpusError

MAX_LINE_BYTES = 2**18
"""OpenFace's whole output has 714 columns and about 6 KB a row."""


@dataclass(frozen=True)
class FrameCount:
    """Rows of a table, and those among them without a face or with a value that is no number."""

    num_rows: int
    num_failed: int


def count_frames(stream: IO[bytes], name: str) -> FrameCount:
    """Count in bounded memory.

    Raises:
        CorpusError: no header with a column ``success``, a row longer than any of OpenFace's, or no row at all.
    """
    header = [cell.strip().lower() for cell in _line(stream, name, 1).removeprefix(b"\xef\xbb\xbf").split(b",")]
    if b"success" not in header:
        raise CorpusError(f"{name}: line 1 names no column 'success'; is it a table of OpenFace?")
    success, width = header.index(b"success"), len(header)
    num_rows = num_failed = 0
    while line := _line(stream, name, num_rows + 2):
        if not line.strip():
            continue
        num_rows += 1
        cells = line.split(b",", success + 1)
        found = to_number(cells[success].decode("ascii", "replace")) if len(cells) > success else None
        whole = line.count(b",") + 1 == width and not any(word in line.lower() for word in (b"nan", b"inf"))
        num_failed += not (found and whole)
    if num_rows == 0:
        raise CorpusError(f"{name}: has a header and no rows; extract it again")
    return FrameCount(num_rows, num_failed)


def _line(stream: IO[bytes], name: str, number: int) -> bytes:
    line = stream.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise CorpusError(f"{name}: line {number} is longer than {MAX_LINE_BYTES:,} bytes; is it a table of OpenFace?")
    return line
