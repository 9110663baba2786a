"""Turns → clips, in whole samples of the recording.

One person's turns are put end to end and cut into windows without overlap; a clip is the list of stretches of the
recording that it is made of. All arithmetic is in integer samples, so that no sample is lost, used twice or shared
by two clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moodscale.prepare.config import PrepareConfig
from moodscale.schema import AudioFile, Speaker, Turn

_SPEAKERS: dict[str, frozenset[Speaker]] = {
    "participant": frozenset({Speaker.PARTICIPANT}),
    "interviewer": frozenset({Speaker.INTERVIEWER}),
    "everything": frozenset(Speaker),
}


@dataclass(frozen=True)
class Window:
    """One clip: stretches ``[start, stop)`` in samples, in order, and how many turns they come from."""

    segments: tuple[tuple[int, int], ...]
    num_turns: int

    @property
    def num_samples(self) -> int:
        return sum(stop - start for start, stop in self.segments)


@dataclass(frozen=True)
class Cutting:
    """An interview's clips.

    Attributes:
        num_turns: turns of the wanted speaker.
        speech_samples: what they hold together.
        tail_samples: what was left over at the end.
        num_overlapping: turns that began before the one before them ended; the shared part is used once.
    """

    windows: tuple[Window, ...]
    num_turns: int
    speech_samples: int
    tail_samples: int
    num_overlapping: int


def cut_clips(turns: Sequence[Turn], audio: AudioFile, config: PrepareConfig) -> Cutting:
    """Cut one interview's turns into clips of ``config.clip_s`` seconds."""
    rate = audio.sample_rate_hz
    spans, num_overlapping = _spans(turns, config.speech, rate, audio.num_samples)
    length = round(config.clip_s * rate)
    windows: list[Window] = []
    segments: list[tuple[int, int]] = []
    filled = num_turns = 0
    for start, stop in spans:
        while start < stop:
            taken = min(stop - start, length - filled)
            if segments and segments[-1][1] == start:
                segments[-1] = (segments[-1][0], start + taken)
            else:
                segments.append((start, start + taken))
            start, filled, num_turns = start + taken, filled + taken, num_turns + 1
            if filled == length:
                windows.append(Window(tuple(segments), num_turns))
                segments, filled, num_turns = [], 0, 0
    tail_samples = filled
    if config.tail == "pad" and filled >= round(config.min_tail_s * rate) and segments:
        windows.append(Window(tuple(segments), num_turns))
        tail_samples = 0
    speech_samples = sum(stop - start for start, stop in spans)
    return Cutting(tuple(windows), len(spans), speech_samples, tail_samples, num_overlapping)


def _spans(turns: Sequence[Turn], speech: str, rate: int, num_samples: int) -> tuple[list[tuple[int, int]], int]:
    """The wanted speaker's turns in samples, sorted, with no sample in two of them."""
    wanted = sorted((turn for turn in turns if turn.speaker in _SPEAKERS[speech]), key=lambda turn: turn.start_s)
    spans: list[tuple[int, int]] = []
    reached = num_overlapping = 0
    for turn in wanted:
        start, stop = max(round(turn.start_s * rate), 0), min(round(turn.stop_s * rate), num_samples)
        num_overlapping += start < reached
        start = max(start, reached)
        if start < stop:
            spans.append((start, stop))
            reached = stop
    return spans, num_overlapping
