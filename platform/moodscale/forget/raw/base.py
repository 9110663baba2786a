"""What of a corpus is one person's: folders, files, and rows of tables that everybody shares."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.corpora.reading.streams import open_file
from moodscale.corpora.reading.tables import read_bytes
from moodscale.forget.action import Action, removing_trees
from moodscale.storage import write_bytes, writing

IsOwn = Callable[[str], bool]


@dataclass(frozen=True)
class SharedTable:
    """A file with rows of many people.

    Attributes:
        columns: spellings of the column that says whose a row is.
        is_own: whether a cell of it is the person.
    """

    path: UPath
    columns: tuple[str, ...]
    is_own: IsOwn


@dataclass(frozen=True)
class RawData:
    """``places`` are the person's alone and go as a whole."""

    places: tuple[UPath, ...] = ()
    tables: tuple[SharedTable, ...] = ()

    def actions(self) -> Iterator[Action]:
        """What is there to be removed. Files first: a table's row is what finds a person again."""
        for place in self.places:
            if place.exists():
                number = sum(1 for one in place.rglob("*") if one.is_file()) if place.is_dir() else 1
                yield Action("raw files", place, "files", number, removing_trees([place]))
        for table in self.tables:
            rows = _rows(table)
            if number := rows.count():
                yield Action("raw rows", table.path, "rows", number, rows.drop)


class _Rows:
    """One way to count a person's rows and to write a file without them, the others byte for byte as they were."""

    def __init__(self, table: SharedTable) -> None:
        self.table = table

    def count(self) -> int:
        raise NotImplementedError

    def drop(self) -> None:
        raise NotImplementedError


class _CsvRows(_Rows):
    def count(self) -> int:
        return sum(own for _, own in self._records())

    def drop(self) -> None:
        kept = "".join(text for text, own in self._records() if not own)
        write_bytes(self.table.path, kept.encode("latin-1"))

    def _records(self) -> Iterator[tuple[str, bool]]:
        """Each record as it stands in the file. As Latin-1 every byte is a letter, and comes back as itself."""
        text = read_bytes(self.table.path).decode("latin-1")
        lines = io.StringIO(text, newline="").readlines()
        reader = csv.reader(lines)
        column, at = -1, 0
        for cells in reader:
            record, at = "".join(lines[at : reader.line_num]), reader.line_num
            if column < 0:
                names = [cell.removeprefix("\xef\xbb\xbf").strip().strip('"') for cell in cells]
                column = next((names.index(name) for name in self.table.columns if name in names), len(names))
                yield record, False
                continue
            cell = cells[column].encode("latin-1").decode("utf-8", "replace") if column < len(cells) else ""
            yield record, self.table.is_own(cell.strip())


class _JsonRows(_Rows):
    """JSON Lines, plain or packed. A broken line is the person's where it names them as one would."""

    def count(self) -> int:
        return sum(own for _, own in self._lines())

    def drop(self) -> None:
        with writing(self.table.path) as stream:
            packed = gzip.GzipFile(fileobj=stream, mode="wb") if self.table.path.name.endswith(".gz") else None
            for line, own in self._lines():
                if not own:
                    (packed or stream).write(line)
            if packed is not None:
                packed.close()

    def _lines(self) -> Iterator[tuple[bytes, bool]]:
        with open_file(self.table.path) as file:
            packed = self.table.path.name.endswith(".gz")
            for line in gzip.GzipFile(fileobj=file) if packed else io.BufferedReader(file):  # type: ignore[type-var]
                yield line, self._is_own(line)

    def _is_own(self, line: bytes) -> bool:
        (column,) = self.table.columns
        try:
            values: Any = json.loads(line)
            return isinstance(values, dict) and self.table.is_own(str(values.get(column, "")))
        except (ValueError, RecursionError):
            named = re.search(rf'"{column}"\s*:\s*"?([^",}}]*)', line.decode("utf-8", "replace"))
            return named is not None and self.table.is_own(named[1].strip())


class _ParquetRows(_Rows):
    """Read on this thread: see :func:`moodscale.storage.read_parquet`."""

    def count(self) -> int:
        with open_file(self.table.path) as file:
            parquet = pq.ParquetFile(file)
            groups = range(parquet.num_row_groups)
            return sum(sum(self._own(parquet.read_row_group(n, [self._column], use_threads=False))) for n in groups)

    def drop(self) -> None:
        with open_file(self.table.path) as file:
            parquet = pq.ParquetFile(file)
            with writing(self.table.path) as stream, pq.ParquetWriter(stream, parquet.schema_arrow) as writer:
                for number in range(parquet.num_row_groups):
                    group = parquet.read_row_group(number, use_threads=False)
                    writer.write_table(group.filter(pa.array([not own for own in self._own(group)], pa.bool_())))

    @property
    def _column(self) -> str:
        (column,) = self.table.columns
        return column

    def _own(self, group: pa.Table) -> list[bool]:
        return [self.table.is_own(str(value)) for value in group[self._column].to_pylist()]


def _rows(table: SharedTable) -> _Rows:
    name = table.path.name
    if name.endswith(".parquet"):
        return _ParquetRows(table)
    return _JsonRows(table) if name.endswith((".jsonl", ".jsonl.gz")) else _CsvRows(table)
