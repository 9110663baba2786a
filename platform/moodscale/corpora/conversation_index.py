"""Whose conversations stand where, and when they began: a table of numbers, whatever the size of the text.

The pass over the files is a stream of Hugging Face ``datasets`` (``IterableDataset.from_generator``) in batches:
nothing held, nothing cached on disk, no hub. Its own JSON loader is not used: one broken line, or one of
another type than the first, ends it, and it reads on to the end of a line whatever that line's length.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from moodscale.corpora.conversation_files import ConversationFile, Found, Place
from moodscale.corpora.joining import NO_TIME, parse_time
from moodscale.schema import CorpusError

MAX_LISTED = 1000
"""Defects of one kind that are listed one by one; beyond, they are counted."""
MAX_PROBLEMS = 100_000
"""Lines that are no conversation, beyond which the file is refused: it is another one, or an attack on time."""

_BATCH = 4096
_NUMBERS = ("file", "number", "at", "num_bytes", "started_us")
_ID = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff](?:[^\x00-\x1f\x7f\ud800-\udfff]{0,126}[^\x00-\x20\x7f\ud800-\udfff])?")


@dataclass(frozen=True)
class Entry:
    """One conversation: its file, its place there, and when it began (``NO_TIME`` where that is no time)."""

    file: int
    place: Place
    started_us: int


@dataclass(frozen=True)
class Problem:
    """A line that holds no conversation of anybody."""

    file: int
    number: int
    reason: str


class ConversationIndex:
    """Conversations by user, each user's in order of time; about 50 bytes a conversation.

    Attributes:
        problems: the first ``MAX_LISTED`` of ``num_problems`` lines that hold no conversation of anybody.
    """

    def __init__(self, files: Sequence[ConversationFile]) -> None:
        """Raises CorpusError: a file that cannot be used as a whole."""
        self.problems: list[Problem] = []
        self.num_problems = 0
        users: dict[str, int] = {}
        columns = {name: array("q") for name in ("user", *_NUMBERS)}
        for batch in _stream(files):
            self.num_problems += batch["num_problems"]
            self.problems += [Problem(*one) for one in batch["problems"][: MAX_LISTED - len(self.problems)]]
            if self.num_problems > MAX_PROBLEMS:
                first = self.problems[0]
                raise CorpusError(
                    f"{files[first.file].name}: more than {MAX_PROBLEMS:,} lines are no conversation, the first is "
                    f"line {first.number} ({first.reason}); is it the right file?"
                )
            columns["user"].extend(users.setdefault(user_id, len(users)) for user_id in batch["user_id"])
            for name in _NUMBERS:
                columns[name].frombytes(np.ascontiguousarray(batch[name], np.int64).tobytes())
        self.users: list[str] = sorted(users)
        ranks = np.empty(len(users), np.int64)
        for rank, user_id in enumerate(self.users):
            ranks[users[user_id]] = rank
        owners = ranks[_as_numbers(columns["user"])]
        # A stable sort: conversations that began at one time stay in the order of the file.
        order = np.lexsort((_as_numbers(columns["started_us"]), owners))
        self._columns = {name: _as_numbers(values)[order] for name, values in columns.items() if name != "user"}
        self._starts = np.searchsorted(owners[order], np.arange(len(users) + 1))
        self._rank = {user_id: rank for rank, user_id in enumerate(self.users)}

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._rank

    def times_us(self, user_id: str) -> list[int]:
        """When each of a user's conversations began, in order; those without a time first."""
        return [int(us) for us in self._columns["started_us"][self._slice(user_id)]]

    def entries(self, user_id: str) -> list[Entry]:
        """In the order of ``times_us``."""
        own = self._slice(user_id)
        columns = [self._columns[name][own].tolist() for name in _NUMBERS]
        return [
            Entry(file, Place(number, at, num_bytes), us)
            for file, number, at, num_bytes, us in zip(*columns, strict=True)
        ]

    def _slice(self, user_id: str) -> slice:
        rank = self._rank[user_id]
        return slice(int(self._starts[rank]), int(self._starts[rank + 1]))


def to_id(value: object) -> str | None:
    """An id as text: 1-128 characters without control characters or space around them, or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**18 else ""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _stream(files: Sequence[ConversationFile]) -> Any:
    import datasets  # imported where it is used: it takes a second, and other corpora do without

    return datasets.IterableDataset.from_generator(_batches, gen_kwargs={"files": tuple(files)})


def _batches(files: Sequence[ConversationFile]) -> Iterator[dict[str, Any]]:
    """Examples of up to ``_BATCH`` conversations each: one at a time, ``datasets`` would spend most of the pass."""
    rows = (_look_at(file, found) for file, conversations in enumerate(files) for found in conversations.scan())
    while some := list(islice(rows, _BATCH)):
        problems = [row for row in some if isinstance(row, Problem)]
        usable = [row for row in some if not isinstance(row, Problem)]
        user_ids, *numbers = zip(*usable, strict=True) if usable else [()] * (1 + len(_NUMBERS))
        yield {
            "user_id": list(user_ids),
            **{name: np.array(values, np.int64) for name, values in zip(_NUMBERS, numbers, strict=True)},
            "problems": [(one.file, one.number, one.reason) for one in problems[:MAX_LISTED]],
            "num_problems": len(problems),
        }


def _look_at(file: int, found: Found) -> Problem | tuple[str, int, int, int, int, int]:
    """What the index holds of a conversation: its user and numbers, and nothing of its text."""
    place, values = found.place, found.values
    if values is None:
        return Problem(file, place.number, found.problem)
    user_id = to_id(values.get("user_id"))
    if user_id is None or to_id(values.get("conversation_id")) is None:
        field = "user_id" if user_id is None else "conversation_id"
        return Problem(file, place.number, f"{field} is no text of 1 to 128 characters")
    moment = parse_time(values.get("started_at"))
    return user_id, file, place.number, place.at, place.num_bytes, NO_TIME if moment is None else moment.us


def _as_numbers(values: array[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(values, np.int64) if values else np.empty(0, np.int64)
