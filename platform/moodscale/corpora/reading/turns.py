"""Turns as spans of time: what is cut out, trimmed at an edge, or clipped at a recording's end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from moodscale.schema import Turn


@dataclass(frozen=True)
class Cut:
    """Turns after a span was taken out, and how many it touched."""

    turns: tuple[Turn, ...]
    num_dropped: int
    num_trimmed: int

    @property
    def touched(self) -> bool:
        return self.num_dropped + self.num_trimmed > 0


def remove_span(turns: Sequence[Turn], start_s: float, stop_s: float) -> Cut:
    """Take ``[start_s, stop_s)`` out. A turn that crosses an edge is trimmed, one that lies inside is dropped.

    A turn that spans the whole cut becomes two; the first keeps the words, so that none is counted twice.
    """
    kept: list[Turn] = []
    num_dropped = num_trimmed = 0
    for turn in turns:
        if turn.stop_s <= start_s or turn.start_s >= stop_s:
            kept.append(turn)
            continue
        pieces = []
        if turn.start_s < start_s:
            pieces.append(replace(turn, stop_s=start_s))
        if turn.stop_s > stop_s:
            pieces.append(replace(turn, start_s=stop_s, text="" if pieces else turn.text))
        kept.extend(pieces)
        num_dropped += not pieces
        num_trimmed += bool(pieces)
    return Cut(tuple(kept), num_dropped, num_trimmed)


def clip_to_recording(turns: Sequence[Turn], duration_s: float) -> Cut:
    """Clip turns to ``[0, duration_s]``; one that lies wholly outside is dropped."""
    before = remove_span(turns, float("-inf"), 0.0)
    after = remove_span(before.turns, duration_s, float("inf"))
    return Cut(after.turns, before.num_dropped + after.num_dropped, before.num_trimmed + after.num_trimmed)


@dataclass(frozen=True)
class Separated:
    """Turns in order, none beginning before the one before it ends.

    Attributes:
        num_backward: turns that stood after one with a later start.
        num_overlapping: turns that ended after the next began.
    """

    turns: tuple[Turn, ...]
    num_backward: int
    num_overlapping: int


def separate(turns: Sequence[Turn]) -> Separated:
    """Sort turns of one speaker by start and clip what overlaps, so that no stretch is lost or in two of them.

    A turn ends where the next begins; one that lies wholly within the one before it gives that one its words.
    """
    num_backward = sum(later.start_s < earlier.start_s for earlier, later in pairwise(turns))
    kept: list[Turn] = []
    num_overlapping = 0
    for turn in sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s)):
        last = kept[-1] if kept else None
        if last is None or turn.start_s >= last.stop_s:
            kept.append(turn)
            continue
        num_overlapping += 1
        if turn.stop_s <= last.stop_s or turn.start_s == last.start_s:
            kept[-1] = replace(last, stop_s=max(last.stop_s, turn.stop_s), text=f"{last.text} {turn.text}".strip())
        else:
            kept[-1] = replace(last, stop_s=turn.start_s)
            kept.append(turn)
    return Separated(tuple(kept), num_backward, num_overlapping)
