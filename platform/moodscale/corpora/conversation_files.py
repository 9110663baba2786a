"""Files of conversations: what is in them is found in one bounded pass, and read again by its place.

A file may be damaged or hostile. A line is never held beyond ``MAX_LINE_BYTES``, so one of gigabytes costs time and
no memory; what cannot be used is named by file and line, and what stands in it is never shown.
"""

from __future__ import annotations

import abc
import io
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import indexed_gzip
import pyarrow as pa
import pyarrow.parquet as pq

from moodscale.corpora.reading.gunzip import Gunzip
from moodscale.corpora.reading.paths import AnyPath, why
from moodscale.corpora.reading.streams import open_file
from moodscale.schema import CorpusError
from moodscale.storage import is_local

MAX_LINE_BYTES = 16 * 2**20
"""A conversation of a thousand long messages has about 2 MB."""
MAX_EMPTY_LINES = 1_000_000
"""More are an attack on time."""
MAX_ROW_GROUP_BYTES = 2**30
_KEPT_ROW_GROUP_BYTES = 2**28
_SPACING_BYTES = 4 * 2**20
_DAMAGED = (OSError, EOFError, ValueError, OverflowError, indexed_gzip.ZranError, pa.ArrowException)


@dataclass(frozen=True)
class Place:
    """Where a conversation stands.

    Attributes:
        number: of its line or row, from 1.
        at, num_bytes: in a file of lines, unpacked; for Parquet, its row group and its row there.
    """

    number: int
    at: int
    num_bytes: int


@dataclass(frozen=True)
class Found:
    """A conversation at its place; or, without values, why there is none."""

    place: Place
    values: dict[str, Any] | None = field(repr=False)
    problem: str = ""


class ConversationFile(abc.ABC):
    """A file of conversations, each a mapping of names to JSON values."""

    def __init__(self, path: AnyPath, name: str) -> None:
        self.path = path
        self.name = name

    @abc.abstractmethod
    def scan(self) -> Iterator[Found]:
        """Everything in order; messages may be left out.

        Raises:
            CorpusError: the file as a whole cannot be used.
        """

    @abc.abstractmethod
    def read(self, places: Sequence[Place]) -> Iterator[Found]:
        """What stands at places that a scan found.

        Raises:
            CorpusError: the file has changed since, or cannot be read.
        """

    def _unreadable(self, error: BaseException) -> CorpusError:
        reason = why(error) if isinstance(error, OSError) and not isinstance(error, pa.ArrowException) else "damaged"
        return CorpusError(f"{self.name}: cannot be read ({reason}); fetch it again")


class LinesFile(ConversationFile):
    """JSON Lines, plain or packed with gzip: then reached by seek points every 4 MiB, made when the first is read."""

    def __init__(self, path: AnyPath, name: str) -> None:
        super().__init__(path, name)
        self.packed = name.endswith(".gz")
        self._points = b""

    def scan(self) -> Iterator[Found]:
        number = num_empty = at = 0
        with self._opened() as file:
            stream = _lines_of(_Unpacked(Gunzip(file, self.name)) if self.packed else file)
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                place, at = Place(number, at, len(line)), at + len(line)
                if len(line) > MAX_LINE_BYTES:
                    at += _skip_line(stream)
                    yield Found(replace(place, num_bytes=0), None, f"longer than {MAX_LINE_BYTES:,} bytes")
                elif line.strip():
                    values, problem = _decode(line)
                    yield Found(place, values, problem)
                else:
                    num_empty += 1
                    if num_empty > MAX_EMPTY_LINES:
                        raise CorpusError(
                            f"{self.name}: more than {MAX_EMPTY_LINES:,} empty lines; is it the right file?"
                        )

    def read(self, places: Sequence[Place]) -> Iterator[Found]:
        for place, line in zip(places, self._lines(places), strict=True):
            values, problem = _decode(line)
            yield Found(place, values, problem)

    def _lines(self, places: Sequence[Place]) -> Iterator[bytes]:
        if not self.packed and not is_local(self.path):
            # One request a line: a block of a megabyte around each would fetch the file many times over.
            fs, where = self.path.fs, self.path.path  # type: ignore[union-attr]
            try:
                yield from (fs.cat_file(where, start=one.at, end=one.at + one.num_bytes) for one in places)
            except _DAMAGED as error:
                raise self._unreadable(error) from None
            return
        with self._opened() as file:
            stream = self._at_any_offset(file) if self.packed else file
            for place in places:
                stream.seek(place.at)
                yield stream.read(place.num_bytes)

    def _at_any_offset(self, file: BinaryIO) -> Any:
        unpacked = indexed_gzip.IndexedGzipFile(fileobj=file, spacing=_SPACING_BYTES)
        if self._points:
            unpacked.import_index(fileobj=io.BytesIO(self._points))
        else:
            unpacked.build_full_index()
            points = io.BytesIO()
            unpacked.export_index(fileobj=points)
            self._points = points.getvalue()
        return unpacked

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with open_file(self.path) as file:
                yield file
        except CorpusError:
            raise
        except _DAMAGED as error:
            raise self._unreadable(error) from None


class _Unpacked(io.RawIOBase):
    """A checked pass over gzip, as a stream."""

    def __init__(self, gunzip: Gunzip) -> None:
        self._gunzip = gunzip

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._gunzip.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class ParquetFile(ConversationFile):
    """Parquet. A row is read with its whole row group, of which the last few are kept: where one user's rows lie all
    over a large file, sort it by ``user_id``."""

    def __init__(self, path: AnyPath, name: str) -> None:
        super().__init__(path, name)
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def scan(self) -> Iterator[Found]:
        with self._opened() as parquet:
            number = 0
            for group in range(parquet.num_row_groups):
                row = 0
                for batch in batches_of(parquet, group, _INDEXED, MAX_ROW_GROUP_BYTES, self.name):
                    for values in batch.to_pylist():
                        number += 1
                        yield Found(Place(number, group, row), values)
                        row += 1

    def read(self, places: Sequence[Place]) -> Iterator[Found]:
        for place in places:
            rows = self._row_group(place.at)
            if place.num_bytes >= rows.num_rows:
                raise CorpusError(f"{self.name}: has changed while it was read; start again")
            try:
                values = rows.slice(place.num_bytes, 1).to_pylist()[0]
            except (ValueError, OverflowError, pa.ArrowException):
                reason = "a text that is not UTF-8, or a time after all times"
                raise CorpusError(f"{self.name}: line {place.number}: messages: holds {reason}") from None
            yield Found(place, values)

    def _row_group(self, group: int) -> pa.Table:
        if group not in self._kept:
            with self._opened() as parquet:
                batches = list(batches_of(parquet, group, list(_COLUMNS), MAX_ROW_GROUP_BYTES, self.name))
                self._kept[group] = pa.Table.from_batches(batches)
            while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > _KEPT_ROW_GROUP_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with open_file(self.path) as file:
                parquet = pq.ParquetFile(file)
                self._check(parquet)
                yield parquet
        except CorpusError:
            raise
        except (*_DAMAGED, KeyError) as error:
            raise self._unreadable(error) from None

    def _check(self, parquet: pq.ParquetFile) -> None:
        schema = parquet.schema_arrow
        for column, (is_fitting, wanted) in _COLUMNS.items():
            if column not in schema.names:
                raise CorpusError(f"{self.name}: column {column} is missing; it must be {wanted}")
            if not is_fitting(schema.field(column).type):
                raise CorpusError(f"{self.name}: column {column} has another type than {wanted}; write it as that")
        for group in range(parquet.num_row_groups):
            num_bytes = parquet.metadata.row_group(group).total_byte_size
            if num_bytes > MAX_ROW_GROUP_BYTES:
                raise CorpusError(
                    f"{self.name}: row group {group} has {num_bytes:,} bytes, above {MAX_ROW_GROUP_BYTES:,}; write it "
                    "with smaller row groups"
                )


def batches_of(
    parquet: pq.ParquetFile, group: int, columns: Sequence[str] | None, max_bytes: int, name: str
) -> Iterator[pa.RecordBatch]:
    """A row group in small pieces, on this thread (:func:`moodscale.storage.read_parquet`).

    A long text that Parquet keeps once is unpacked for every row, and no size in the file tells how large it becomes.

    Raises:
        CorpusError: it becomes larger than ``max_bytes``.
    """
    num_bytes = 0
    for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
        num_bytes += batch.nbytes
        if num_bytes > max_bytes:
            raise CorpusError(f"{name}: row group {group} unpacks to more than {max_bytes:,} bytes; use smaller ones")
        yield batch


def open_conversations(path: AnyPath, name: str) -> ConversationFile:
    """The file by the end of its name."""
    return ParquetFile(path, name) if name.endswith(".parquet") else LinesFile(path, name)


def _lines_of(stream: Any) -> Any:
    """With lines found in a buffer, and not byte by byte."""
    return stream if isinstance(stream, io.BufferedIOBase) else io.BufferedReader(stream, 2**20)


def _skip_line(stream: Any) -> int:
    """Go over the rest of a line; how many bytes it had."""
    num_bytes = 0
    while piece := stream.readline(MAX_LINE_BYTES):
        num_bytes += len(piece)
        if piece.endswith(b"\n"):
            break
    return num_bytes


def _decode(line: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        values = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except RecursionError:
        return None, "nested too deeply"
    except (ValueError, MemoryError):
        return None, "not JSON"
    if not isinstance(values, dict):
        return None, "no JSON object"
    return values, ""


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_id(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


def _is_time(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_timestamp(kind))


def _is_messages(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    fields = {one.name: one.type for one in kind.value_type}
    return _is_text(fields.get("role", pa.null())) and _is_text(fields.get("content", pa.null()))


_INDEXED = ("user_id", "conversation_id", "started_at")
_BATCH_ROWS = 64
_COLUMNS = {
    "user_id": (_is_id, "text"),
    "conversation_id": (_is_id, "text"),
    "started_at": (_is_time, "text (ISO 8601) or a timestamp"),
    "messages": (_is_messages, "a list of {role: text, content: text, at: text}"),
}
