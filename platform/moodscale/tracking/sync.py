"""The journal's copy to a tracker: behind the step, in order, each point once, whatever crashes.

Only points up to the last *committed* step are sent: a step after it may be done again after a failure. What the
tracker holds is asked of the tracker itself, whenever this process cannot know: at the start, after a failed
request (which may have been carried out), and after the journal was truncated.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moodscale.tracking.base import MetricPoint, Tracker, TrackerError
from moodscale.tracking.journal import Entry, Position, read_from

_logger = logging.getLogger(__name__)

MAX_BACKOFF_S = 30.0
DRAIN_RETRY_S = 0.5


@dataclass(frozen=True)
class SyncProgress:
    """Where the copy stands."""

    committed_step: int
    num_sent: int
    """Values sent by this process."""
    complete: bool
    """Everything up to the committed step is at the tracker."""
    last_error: str | None


class JournalSync:
    """Copies a journal to a tracker from a background thread of the driver.

    Args:
        tracker: with its run started or attached.
        path: the journal; it may not exist yet.
        committed_step: the step up to which points may be sent now; -1 for none.
        interval_s: pause between looks at the journal.
        batch_points: points of one ``log_points`` call.
    """

    def __init__(
        self,
        tracker: Tracker,
        path: str | Path,
        committed_step: int = -1,
        interval_s: float = 2.0,
        batch_points: int = 500,
    ) -> None:
        self._tracker = tracker
        self._path = path
        self._committed = committed_step
        self._interval_s = interval_s
        self._batch_points = batch_points
        self._position = Position()
        self._held: dict[str, set[int]] = {}
        self._certain = False
        self._num_sent = 0
        self._last_error: str | None = None
        self._pass = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def commit(self, step: int) -> None:
        """Allow points up to ``step`` (a committed checkpoint's). Never waits, nor hurries a tracker that is away."""
        self._committed = step
        if self._last_error is None:
            self._wake.set()

    @property
    def progress(self) -> SyncProgress:
        complete = self._last_error is None and next(iter(self._pending(self._committed)), None) is None
        return SyncProgress(self._committed, self._num_sent, complete, self._last_error)

    def start(self) -> JournalSync:
        """Start the thread. It is a daemon: a tracker that hangs cannot keep the process from ending."""
        assert self._thread is None, "a JournalSync starts once"
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 180.0) -> bool:
        """Send what is left, then end the thread.

        Returns:
            Whether everything up to the committed step arrived. Where not, the journal still holds it and the next
            attempt of the same run sends it.
        """
        deadline = time.monotonic() + timeout_s
        complete = self.drain(timeout_s)
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()) + 1.0)
        if not complete:
            _logger.warning(
                "metrics up to step %d did not all reach %s (%s); they stay in %s and are sent on the next attempt",
                self._committed,
                self._tracker.place,
                self._last_error or "no time left",
                self._path,
            )
        return complete

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything up to the committed step arrived; False when the time is up first."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._thread is None:
                self._try_once()
            if self.progress.complete:
                return True
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self._wake.set()
            time.sleep(min(DRAIN_RETRY_S, left_s))

    def sync_now(self) -> int:
        """One pass in the calling thread.

        Returns:
            Number of values sent.
        Raises:
            TrackerError: the tracker refused or is unreachable; nothing is lost and nothing will be sent twice.
        """
        with self._pass:
            committed = self._committed
            sent = 0
            batch: list[Entry] = []
            for entry in self._pending(committed):
                batch.append(entry)
                if len(batch) >= self._batch_points:
                    sent += self._send(batch)
                    batch = []
            if batch:
                sent += self._send(batch)
            self._last_error = None
            return sent

    def _pending(self, committed: int) -> list[Entry]:
        # Validation points may come after the step's own, never before: the first later step ends the search.
        pending = []
        for entry in read_from(self._path, self._position):
            if entry.point.step > committed:
                break
            pending.append(entry)
        return pending

    def _send(self, batch: Sequence[Entry]) -> int:
        keys = {key for entry in batch for key in entry.point.metrics}
        generation = batch[-1].end.generation
        if not self._certain or generation != self._position.generation:
            self._held = {}
        try:
            unknown = keys - self._held.keys()
            if unknown:
                self._held.update(self._tracker.logged_steps(sorted(unknown)))
            missing = self._missing([entry.point for entry in batch])
            if missing:
                self._tracker.log_points(missing)
        except Exception:
            self._certain = False
            raise
        self._certain = True
        for point in missing:
            for key in point.metrics:
                self._held.setdefault(key, set()).add(point.step)
        self._position = batch[-1].end
        sent = sum(len(point.metrics) for point in missing)
        self._num_sent += sent
        return sent

    def _missing(self, points: Sequence[MetricPoint]) -> list[MetricPoint]:
        missing = []
        taken: set[tuple[str, int]] = set()
        for point in points:
            metrics = {}
            for key, value in point.metrics.items():
                if point.step not in self._held.get(key, ()) and (key, point.step) not in taken:
                    taken.add((key, point.step))
                    metrics[key] = value
            if metrics:
                missing.append(MetricPoint(point.step, point.time_ms, metrics))
        return missing

    def _try_once(self) -> bool:
        try:
            self.sync_now()
            return True
        except Exception as error:
            # Whatever happens here, training goes on. A foreign exception's text may quote a payload.
            text = str(error) if isinstance(error, TrackerError) else type(error).__name__
            if text != self._last_error:
                _logger.warning("metrics wait in the journal: %s", text)
            self._last_error = text
            return False

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            failures = 0 if self._try_once() else failures + 1
            pause_s = min(MAX_BACKOFF_S, self._interval_s * 2 ** min(failures, 10))
            self._wake.wait(pause_s)
            self._wake.clear()
