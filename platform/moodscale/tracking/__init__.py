"""Where runs are written: one small protocol, one file a tracker.

The training worker of rank 0 writes a :class:`JournalWriter`; the driver owns the run in a :class:`Tracker` and
copies the journal to it with :class:`JournalSync`, up to the last committed checkpoint.
"""

from moodscale.tracking.base import (
    MetricPoint,
    RunSpec,
    RunState,
    RunStatus,
    Tracker,
    TrackerConfig,
    TrackerError,
)
from moodscale.tracking.console import Progress
from moodscale.tracking.journal import JournalWriter, read_journal, truncate
from moodscale.tracking.sync import JournalSync, SyncProgress

__all__ = [
    "JournalSync",
    "JournalWriter",
    "MetricPoint",
    "Progress",
    "RunSpec",
    "RunState",
    "RunStatus",
    "SyncProgress",
    "Tracker",
    "TrackerConfig",
    "TrackerError",
    "read_journal",
    "truncate",
]
