"""The metric journal: one JSON line a step, on the run's storage, written by rank 0 of the training workers.

It is the record of the run's metrics and at once the spool for trackers: the driver copies it to a tracker behind
the step (``tracking/sync.py``), so a tracker that is away delays nothing and loses nothing.

The first line holds a generation number. Truncating on resume writes a new file with the next number and renames
it into place: a reader that kept a position notices, and a writer left over from before the failure goes on
writing to a file that nobody reads.

Object storage cannot append: there the writer keeps the file on its own disk and uploads it whole with every commit
(:class:`UploadingJournal`), and a follower reads a copy (:class:`JournalView`). Nothing is later than it would be
otherwise, for trackers are sent no more than what a committed checkpoint covers.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import math
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from moodscale.storage import Place, download, is_local, local_path, location, read_bytes, scratch_directory, upload
from moodscale.tracking.base import MetricPoint, check_metric_key

_logger = logging.getLogger(__name__)


def _as_path(path: str | Path) -> Path:
    if "://" in str(path):
        raise ValueError(
            f"journal path {str(path)!r} is an object store's: a journal is appended to, which those cannot do; "
            "open_journal() writes such a one by uploading it"
        )
    return Path(path)


def open_journal(path: Place, after_step: int) -> JournalWriter:
    """Open a run's journal to continue after ``after_step`` (the last committed checkpoint's; -1 for none).

    Later points are dropped: their steps will be done again.
    """
    if is_local(path):
        truncate(local_path(path), after_step)
        return JournalWriter(local_path(path))
    return UploadingJournal(path, after_step)


class JournalWriter:
    """Appends points. One writer at a time: rank 0 of the worker group.

    A line reaches the kernel before :meth:`append` returns, so killing the process loses none; :meth:`commit`
    makes it survive the machine too.

    Args:
        path: the journal; created with its directory where absent. A torn last line is removed.
    Raises:
        ValueError: the file is not a journal, or the path is an object store's.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = _as_path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or self.path.stat().st_size == 0:
            _replace(self.path, [_header()])
        _read_header(self.path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        _drop_torn_tail(self.path, self._file)

    def append(self, step: int, metrics: Mapping[str, float], time_ms: int | None = None) -> None:
        """Add one point.

        Args:
            step: global step, 0 or more.
            metrics: finite or not; names must be ones every tracker takes.
        Raises:
            ValueError: a negative step or an unusable metric name.
            OSError: the line could not be written in full (naming the path); nothing of it is left behind.
        """
        if step < 0:
            raise ValueError(f"step={step} must be 0 or more")
        for key in metrics:
            check_metric_key(key)
        now_ms = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        values = {key: _plain(float(value)) for key, value in metrics.items()}
        line = json.dumps({"step": int(step), "time_ms": now_ms, "metrics": values}, separators=(",", ":")) + "\n"
        data = line.encode()
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise OSError(error.errno, f"metric journal: {os.strerror(error.errno or 0)}", str(self.path)) from None
        if written < len(data):
            os.ftruncate(self._file, before)
            raise OSError(errno.ENOSPC, "metric journal: the line did not fit on the disk", str(self.path))

    def commit(self) -> None:
        """Force what was appended onto the disk: call before committing a checkpoint."""
        os.fsync(self._file)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class UploadingJournal(JournalWriter):
    """A journal on object storage: appended to here, uploaded whole by every :meth:`commit`.

    What was appended since the last commit is lost with this process, and so are the steps it tells of.
    """

    def __init__(self, path: Place, after_step: int) -> None:
        kept = [point for point in read_journal(path) if point.step <= after_step]
        copy = _copy_of(path)
        _replace(copy, [_header(), *map(_line, kept)])
        super().__init__(copy)
        self.remote = path

    def commit(self) -> None:
        super().commit()
        upload({self.path: self.remote})


class JournalView:
    """A journal for one who follows it: the file itself, or a local copy of what object storage holds.

    Attributes:
        path: the local file.
    """

    def __init__(self, journal: Place) -> None:
        self._journal = journal
        self.path = local_path(journal) if is_local(journal) else _copy_of(journal)

    def refresh(self) -> None:
        """Bring the copy up to what was committed last. A reader of :attr:`path` sees the old or the new one, whole."""
        if is_local(self._journal):
            return
        partial = self.path.with_suffix(".partial")
        with contextlib.suppress(FileNotFoundError):
            download({self._journal: partial})
            partial.replace(self.path)


def _copy_of(journal: Place) -> Path:
    return Path(tempfile.mkdtemp(prefix="journal-", dir=scratch_directory())) / journal.name


@dataclass(frozen=True)
class Position:
    """Where a reader stands: a byte offset within one generation of the file."""

    generation: str = ""
    offset: int = 0


@dataclass(frozen=True)
class Entry:
    point: MetricPoint
    end: Position
    """Position right after this point's line."""


def read_journal(path: str | Place) -> list[MetricPoint]:
    """Every point, in the order written; empty where there is no journal yet."""
    return [entry.point for entry in read_from(path, Position())]


def read_from(path: str | Place, start: Position) -> Iterator[Entry]:
    """Points after ``start``; from the beginning where the journal was truncated since.

    A last line without its newline is still being written and is left for the next call. A complete line that is
    no point (a disk's fault) is skipped with a warning that names the line's offset, not its content.
    """
    place = location(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(place.open("rb") if is_local(place) else io.BytesIO(read_bytes(place)))
        except FileNotFoundError:
            return
        header = file.readline()
        if not header.endswith(b"\n"):
            return
        generation = _parse_header(place, header)
        offset = len(header)
        if generation == start.generation:
            offset = max(offset, start.offset)
            file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            point = _parse_point(line)
            if point is None:
                _logger.warning("%s: the line that ends at byte %d is not a metric point; skipped", place, offset)
                continue
            yield Entry(point, Position(generation, offset))


def truncate(path: str | Path, after_step: int) -> int:
    """Drop every point later than ``after_step`` (the last committed checkpoint's; -1 drops all).

    Called on resume, before a writer opens the journal: the steps after the checkpoint will be done again. The new
    content is complete and on the disk before it takes the old one's place.

    Returns:
        Number of points dropped.
    """
    path = _as_path(path)
    if not path.exists():
        return 0
    points = read_journal(path)
    kept = [point for point in points if point.step <= after_step]
    _replace(path, [_header(), *(_line(point) for point in kept)])
    return len(points) - len(kept)


def _header() -> str:
    return json.dumps({"journal": 1, "generation": uuid.uuid4().hex}, separators=(",", ":")) + "\n"


def _line(point: MetricPoint) -> str:
    values = {key: _plain(value) for key, value in point.metrics.items()}
    return json.dumps({"step": point.step, "time_ms": point.time_ms, "metrics": values}, separators=(",", ":")) + "\n"


def _plain(value: float) -> float | str:
    # JSON has no word for these; float() reads the strings back.
    return value if math.isfinite(value) else str(value)


def _read_header(path: Path) -> str:
    with open(path, "rb") as file:
        return _parse_header(path, file.readline())


def _parse_header(path: Place, line: bytes) -> str:
    try:
        header: Any = json.loads(line)
        if header["journal"] == 1:
            return str(header["generation"])
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is not a metric journal of this version; move it away to start a new one")


def _parse_point(line: bytes) -> MetricPoint | None:
    try:
        values: Any = json.loads(line)
        metrics = {str(key): float(value) for key, value in values["metrics"].items()}
        return MetricPoint(int(values["step"]), int(values["time_ms"]), metrics)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _drop_torn_tail(path: Path, file: int) -> None:
    data = path.read_bytes()
    complete = data.rfind(b"\n") + 1
    if complete < len(data):
        os.ftruncate(file, complete)


def _replace(path: Path, lines: list[str]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
