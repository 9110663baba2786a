"""Turns as spans of time: what is cut out, trimmed at an edge, or clipped at a recording's end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
