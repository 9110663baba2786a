"""Features that came with a corpus, as blocks of frames: one row a frame, in bounded memory.

A format says how a file is written. Whatever frame has no value (no face found, no voice, not a number) is there with
zeros and marked, so that rows keep their places in time.
"""

from __future__ import annotations

import abc
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from moodscale.corpora.reading.matlab import read_head, read_matrix
from moodscale.corpora.reading.numbers import NumberRows
from moodscale.schema import CorpusError

ROWS_PER_BLOCK = 4096
_CHECKED_ROWS = 8


@dataclass(frozen=True)
class FrameBlock:
    """Some frames that follow each other.

    Attributes:
        values: float32 ``[rows, dim]``, 0 where a frame is not valid.
        valid: bool ``[rows]``.
        times_s: float64 ``[rows]``, from the recording's start.
    """

    values: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    times_s: npt.NDArray[np.float64]


@dataclass(frozen=True)
class FeatureFacts:
    """What a look at a file tells: its columns' number, and their names where it has them."""

    num_columns: int
    columns: tuple[str, ...] = ()


class FeatureFormat(abc.ABC):
    """How a kind of file is written.

    Attributes:
        period_s: time between frames where the file gives no times; ``None`` where nobody says, and the frames are
            spread evenly over the recording.
    """

    period_s: float | None

    @abc.abstractmethod
    def open(self, stream: BinaryIO, name: str) -> tuple[FeatureFacts, Iterator[_Rows]]:
        """Look at the head; rows are read as they are asked for."""


@dataclass(frozen=True)
class _Rows:
    """Rows before frames that failed are found: NaN where there is no number; ``times_s`` where the file has them."""

    values: npt.NDArray[np.float64] | npt.NDArray[np.float32]
    times_s: npt.NDArray[np.float64] | None = None
    failed: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Table(FeatureFormat):
    """A text table.

    Attributes:
        delimiter: spaces around it do not count.
        header: whether the first line names the columns; ``None``: it does where its last cell is no number.
        num_columns: how many there must be, dropped ones too, where a header cannot tell.
        dropped: columns that are no features, by name in lower case, or by place.
        time: which of the columns is the time in seconds.
        needed: a column that is 0 in a frame that failed.
    """

    delimiter: str = ","
    header: bool | None = True
    num_columns: int | None = None
    dropped: tuple[str | int, ...] = ()
    time: str | int | None = None
    needed: str | int | None = None
    period_s: float | None = None

    def open(self, stream: BinaryIO, name: str) -> tuple[FeatureFacts, Iterator[_Rows]]:
        rows = NumberRows(stream, name, self.delimiter, self.header, self.num_columns)
        place: dict[str | int, int] = {column.lower(): index for index, column in enumerate(rows.columns)}
        place |= {index: index for index in range(rows.width)}
        for wanted in (self.time, self.needed):
            if wanted is not None and wanted not in place:
                raise CorpusError(f"{name}: row 1 has no column {wanted!r}; is it a file of the right kind?")
        dropped = {place[one] for one in self.dropped if one in place}
        kept = [index for index in range(rows.width) if index not in dropped]
        if not kept:
            raise CorpusError(f"{name}: has no column that is a feature; is it a file of the right kind?")
        texts = tuple(sorted(dropped - {place[one] for one in (self.time, self.needed) if one is not None}))
        facts = FeatureFacts(len(kept), tuple(rows.columns[index] for index in kept) if rows.columns else ())
        return facts, self._read(rows, place, kept, texts)

    def _read(
        self, rows: NumberRows, place: Mapping[str | int, int], kept: Sequence[int], texts: tuple[int, ...]
    ) -> Iterator[_Rows]:
        for block in rows.blocks(texts):
            yield _Rows(
                block[:, kept],
                None if self.time is None else block[:, place[self.time]],
                None if self.needed is None else ~(block[:, place[self.needed]] > 0),
            )


@dataclass(frozen=True)
class Matrix(FeatureFormat):
    """A MATLAB file with one matrix, a row a frame."""

    key: str
    period_s: float | None = None

    def open(self, stream: BinaryIO, name: str) -> tuple[FeatureFacts, Iterator[_Rows]]:
        head = read_head(stream, self.key, name)
        return FeatureFacts(head.shape[1]), self._read(stream, name)

    def _read(self, stream: BinaryIO, name: str) -> Iterator[_Rows]:
        yield _Rows(read_matrix(stream, self.key, name))


_ABOUT_A_FRAME = ("frame", "face_id", "timestamp", "confidence", "success")
_FACE = Table(dropped=_ABOUT_A_FRAME, time="timestamp", needed="success")
_OPENSMILE = Table(delimiter=";", dropped=("name", "frametime"), time="frametime")
_BAG = Table(header=None, dropped=(0, 1), time=1)

FORMATS: dict[str, FeatureFormat] = {
    # F0, VUV, …: without voice the other columns mean nothing.
    "daic_woz.covarep": Table(header=False, num_columns=74, needed=1, period_s=0.01),
    "daic_woz.formant": Table(header=False, num_columns=5, period_s=0.01),
    "daic_woz.clnf_features": _FACE,
    "daic_woz.clnf_features3d": _FACE,
    "daic_woz.clnf_aus": _FACE,
    "daic_woz.clnf_gaze": _FACE,
    "daic_woz.clnf_pose": _FACE,
    "edaic.openface": _FACE,
    "edaic.egemaps": _OPENSMILE,
    "edaic.mfcc": _OPENSMILE,
    "edaic.boaw": _BAG,
    "edaic.bovw": _BAG,
    "edaic.cnn_csv": Table(dropped=("name", "timestamp"), time="timestamp"),
    "edaic.mat": Matrix("feature"),
    "openface.spaced": _FACE,
}
"""By the names that a ``FeatureFile`` has."""


def read_frames(
    stream: BinaryIO,
    format: str,
    rows_per_block: int = ROWS_PER_BLOCK,
    *,
    name: str | None = None,
    duration_s: float | None = None,
) -> Iterator[FrameBlock]:
    """Read a file of features.

    Memory: a block of at most ``rows_per_block`` rows; an ``edaic.mat`` is held whole, since it stores columns.

    Args:
        stream: seekable, e.g. of ``open_input``.
        format: a name of ``FORMATS``.
        name: the file's, for messages; the stream's own where it has one.
        duration_s: of the recording: what the frames are spread over where neither file nor format tells their
            times. Without it they count as a second apart.
    Raises:
        CorpusError: not of this format, another number of columns in a row, or a cell that is no number; it names
            file, row and column, and no cell.
    """
    name = _name(stream, name, format)
    known = _format(format)
    _, parts = known.open(stream, name)
    row = 0
    for part in parts:
        period_s = known.period_s
        if period_s is None:
            period_s = duration_s / len(part.values) if duration_s is not None else 1.0
        for start in range(0, len(part.values), rows_per_block):
            block = _frames(part, slice(start, start + rows_per_block), (row + start) * period_s, period_s)
            yield block
        row += len(part.values)


def check_features(stream: BinaryIO, format: str, name: str | None = None) -> FeatureFacts:
    """Look at a file's head and first rows: enough to know that it is what its name says. Raises as ``read_frames``."""
    name = _name(stream, name, format)
    known = _format(format)
    facts, _ = known.open(stream, name)
    if isinstance(known, Table):
        head = io.BytesIO(NumberRows.head(stream, name, _CHECKED_ROWS))
        _, parts = known.open(head, name)
        if sum(len(part.values) for part in parts) == 0:
            raise CorpusError(f"{name}: has no rows; extract it again")
    return facts


def num_columns(stream: BinaryIO, format: str, name: str | None = None) -> int:
    """How many features a frame has. Raises as ``read_frames`` does."""
    return _format(format).open(stream, _name(stream, name, format))[0].num_columns


def _frames(part: _Rows, rows: slice, start_s: float, period_s: float) -> FrameBlock:
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(part.values[rows], dtype=np.float32, order="C")
    valid: npt.NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    if part.failed is not None:
        valid &= ~part.failed[rows]
    times_s: npt.NDArray[np.float64] = start_s + np.arange(len(values), dtype=np.float64) * period_s
    if part.times_s is not None:
        given = part.times_s[rows]
        known = np.isfinite(given)
        valid &= known
        # A frame without a time is nowhere; it is given the one before so that none is NaN.
        latest = np.maximum.accumulate(np.where(known, np.arange(len(given)), -1))
        times_s = np.where(latest >= 0, given[latest], 0.0)
    values[~valid] = 0
    return FrameBlock(values, valid, times_s)


def _format(name: str) -> FeatureFormat:
    known = FORMATS.get(name)
    if known is None:
        raise CorpusError(f"format={name!r} is not one of {', '.join(FORMATS)}: the table is not from this version")
    return known


def _name(stream: Any, name: str | None, format: str) -> str:
    own = getattr(stream, "name", None)
    return name or (own.rpartition("/")[2] if isinstance(own, str) else f"a file of {format}")
