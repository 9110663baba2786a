"""Times of questionnaires and conversations, and which conversations a questionnaire looks back on.

Times are whole microseconds since 1970 in UTC, so that both edges of a window are exact.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DAY_US = 24 * 3600 * 10**6
NO_TIME = -(2**63)
"""A time that could not be read, among times."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = 40
_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class Moment:
    """A time as it was given.

    Attributes:
        naive: it named no zone and was taken as UTC.
    """

    us: int
    naive: bool

    @property
    def iso(self) -> str:
        return (_EPOCH + timedelta(microseconds=self.us)).isoformat()


def parse_time(value: object, end_of_day: bool = False) -> Moment | None:
    """ISO 8601 → a time; ``None`` where it is none. A time without zone is UTC.

    Args:
        end_of_day: a day without an hour means its last microsecond instead of its first.
    """
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str) and len(value) <= _LONGEST:
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    else:
        return None
    naive = moment.tzinfo is None
    try:
        us = (moment.replace(tzinfo=UTC) if naive else moment).astimezone(UTC) - _EPOCH
    except (OverflowError, ValueError):
        return None
    found = us // timedelta(microseconds=1)
    if end_of_day and isinstance(value, str) and _DAY.match(value.strip()):
        found += DAY_US - 1
    return Moment(found, naive)


@dataclass(frozen=True)
class Window:
    """What a questionnaire looks back on. Both edges belong to it."""

    start_us: int
    stop_us: int

    @classmethod
    def before(cls, administered_us: int, days: float) -> Window:
        return cls(administered_us - round(days * DAY_US), administered_us)

    def __contains__(self, us: int) -> bool:
        return self.start_us <= us <= self.stop_us

    def of(self, times_us: Sequence[int]) -> range:
        """Places, among sorted times, of those within."""
        return range(bisect_left(times_us, self.start_us), bisect_right(times_us, self.stop_us))


def first_window(us: int, windows: Sequence[Window]) -> int | None:
    """The first of several windows that a time lies in: what is said of a conversation is said there, and once."""
    return next((place for place, window in enumerate(windows) if us in window), None)
