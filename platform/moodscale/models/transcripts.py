"""Transcripts → token ids: whose turns, which of them, and how they are laid into windows.

What was said is in no message and in no ``repr`` here: log lines name interviews and counts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from moodscale.models.context import ContextSettings, Speech
from moodscale.schema import Speaker

logger = logging.getLogger(__name__)

Ids: TypeAlias = "np.ndarray[Any, np.dtype[np.int32]]"
ROLE_MARKS = {Speaker.PARTICIPANT: "Participant: ", Speaker.INTERVIEWER: "Interviewer: ", Speaker.UNKNOWN: "Unknown: "}
"""Before each turn, where both are read: without them a model cannot tell an answer from its question."""
_ENCODED_AT_ONCE = 64
_reported: set[str] = set()


def spoken(turns: Sequence[Mapping[str, Any]], speech: Speech) -> list[Mapping[str, Any]]:
    """The turns of those who are listened to, without empty ones."""
    return [
        turn for turn in turns if (turn["text"] or "").strip() and (speech == "everything" or turn["speaker"] == speech)
    ]


def rendered(turn: Mapping[str, Any], speech: Speech) -> str:
    """A turn as the model reads it; each ends with a line break."""
    mark = ROLE_MARKS[Speaker(turn["speaker"])] if speech == "everything" else ""
    return f"{mark}{turn['text'].strip()}\n"


def spread(num: int) -> list[int]:
    """0 to ``num`` - 1 in an order whose every beginning is spread evenly: the bits of a counter, read backwards."""
    bits = max(1, (num - 1).bit_length())
    order = (int(format(counter, f"0{bits}b")[::-1], 2) for counter in range(2**bits))
    return [index for index in order if index < num]


@dataclass(frozen=True)
class Choice:
    """Which turns fit.

    Attributes:
        turns: their indices, in the order of time.
        cut_to: the tokens that are left of the only one, where it did not fit whole.
    """

    turns: tuple[int, ...]
    cut_to: int | None = None


def choose_turns(lengths: Iterator[tuple[int, int]], budget: int, skips: bool) -> Choice:
    """Take turns as they come until the budget is used up.

    Args:
        lengths: (index of the turn, its tokens), the most wanted first; read no further than needed.
        skips: go on after one that does not fit, rather than stop there (which leaves no gap).
    """
    chosen: list[int] = []
    left = budget
    for index, length in lengths:
        if length <= left:
            chosen.append(index)
            left -= length
        elif not chosen and left == budget:
            return Choice((index,), budget)
        elif not skips:
            break
        if left == 0:
            break
    return Choice(tuple(sorted(chosen)))


@dataclass(frozen=True)
class TranscriptTokens:
    """One interview's row → the token ids of its chosen turns, int32 ``[T]``, without special tokens.

    Picklable: the tokenizer's files travel with it.
    """

    tokenizer: Any = field(repr=False)
    speech: Speech
    context: ContextSettings
    num_special: int
    """Special tokens of each window."""

    @property
    def budget(self) -> int:
        """Tokens of speech that all windows hold."""
        return self.context.max_tokens - self.num_special * (self.context.max_windows or 1)

    def __call__(self, row: Mapping[str, Any]) -> Ids:
        turns = spoken(row["turns"], self.speech)
        newest = self.context.choice == "newest_first"
        order = list(range(len(turns)))[::-1] if newest else spread(len(turns))
        encoded: dict[int, list[int]] = {}

        def lengths() -> Iterator[tuple[int, int]]:
            for start in range(0, len(order), _ENCODED_AT_ONCE):
                some = order[start : start + _ENCODED_AT_ONCE]
                texts = [rendered(turns[index], self.speech) for index in some]
                encoded.update(zip(some, self.tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
                for index in some:
                    yield index, len(encoded[index])

        choice = choose_turns(lengths(), self.budget, skips=not newest)
        if choice.cut_to is not None:
            _report_cut(f"{row['corpus']}:{row['interview_id']}", len(encoded[choice.turns[0]]), choice.cut_to)
        ids = [token for index in choice.turns for token in encoded[index]][: self.budget]
        return np.asarray(ids, dtype=np.int32)


def _report_cut(interview: str, num_tokens: int, kept: int) -> None:
    """Once a process: a row is read in every epoch."""
    if interview not in _reported:
        _reported.add(interview)
        logger.warning("interview %s: a turn of %d tokens was cut to the %d that fit", interview, num_tokens, kept)


@dataclass(frozen=True)
class Windows:
    """Windows of a batch, padded on the right.

    Attributes:
        input_ids, mask: int64 ``[W, T]``, 1 where there is a token.
        num_windows: int64 ``[B]``, how many of the W are each example's, in order.
    """

    input_ids: np.ndarray[Any, Any]
    mask: np.ndarray[Any, Any]
    num_windows: np.ndarray[Any, Any]


def lay_out(
    examples: Sequence[Ids], per_window: int, specials: tuple[Sequence[int], Sequence[int]], pad: int
) -> Windows:
    """Cut each example's tokens into windows of nearly equal length, with the special tokens around each."""
    before, after = specials
    room = per_window - len(before) - len(after)
    windows: list[list[int]] = []
    counts = []
    for ids in examples:
        count = max(1, -(-len(ids) // room))
        windows += [[*before, *part.tolist(), *after] for part in np.array_split(ids, count)]
        counts.append(count)
    longest = max(1, *(len(window) for window in windows))
    input_ids = np.full((len(windows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for index, window in enumerate(windows):
        input_ids[index, : len(window)] = window
        mask[index, : len(window)] = 1
    return Windows(input_ids, mask, np.asarray(counts, dtype=np.int64))
