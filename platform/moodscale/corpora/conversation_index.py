"""Whose conversations stand where, and when they began: a table of numbers, whatever the size of the text.

The pass over the files is a stream of Hugging Face ``datasets`` (``IterableDataset.from_generator``): typed rows in
batches, nothing held, nothing cached on disk, no hub. Its own JSON loader is not used: one broken line, or one of
another type than the first, ends it, and it reads on to the end of a line whatever that line's length.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moodscale.corpora.conversation_files import ConversationFile, Found, Place
from moodscale.corpora.joining import NO_TIME, parse_time

MAX_LISTED = 1000
"""Defects of one kind that are listed one by one; beyond, they are counted."""

_BATCH = 4096
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
        columns = {name: array("q") for name in ("user", "file", "number", "at", "num_bytes", "started_us")}
        for batch in _stream(files).iter(batch_size=_BATCH):
            for place, user_id in enumerate(batch["user_id"]):
                if batch["problem"][place]:
                    self.num_problems += 1
                    if len(self.problems) < MAX_LISTED:
                        reason = batch["problem"][place]
                        self.problems.append(Problem(batch["file"][place], batch["number"][place], reason))
                    continue
                columns["user"].append(users.setdefault(user_id, len(users)))
                for name in ("file", "number", "at", "num_bytes", "started_us"):
                    columns[name].append(batch[name][place])
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
        columns = [self._columns[name][own].tolist() for name in ("file", "number", "at", "num_bytes", "started_us")]
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

    number, text = datasets.Value("int64"), datasets.Value("string")
    numbers = ("file", "number", "at", "num_bytes", "started_us")
    features = datasets.Features({**dict.fromkeys(numbers, number), "user_id": text, "problem": text})
    return datasets.IterableDataset.from_generator(_rows, features=features, gen_kwargs={"files": tuple(files)})


def _rows(files: Sequence[ConversationFile]) -> Iterator[dict[str, Any]]:
    for file, conversations in enumerate(files):
        for found in conversations.scan():
            yield {"file": file, **_row(found)}


def _row(found: Found) -> dict[str, Any]:
    place, values, problem = found.place, found.values or {}, found.problem
    user_id = to_id(values.get("user_id"))
    for field in ("user_id", "conversation_id"):
        if not problem and to_id(values.get(field)) is None:
            problem = f"{field} is no text of 1 to 128 characters"
    moment = parse_time(values.get("started_at"))
    return {
        "number": place.number,
        "at": place.at,
        "num_bytes": place.num_bytes,
        "started_us": NO_TIME if moment is None else moment.us,
        "user_id": user_id or "",
        "problem": problem,
    }


def _as_numbers(values: array[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(values, np.int64) if values else np.empty(0, np.int64)
