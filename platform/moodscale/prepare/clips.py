"""Turns → clips, in whole samples of the recordings.

One person's turns are put end to end and cut into windows without overlap; a clip is the list of stretches of
recordings that it is made of. All arithmetic is in integer samples, so that no sample is lost, used twice or shared
by two clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from moodscale.prepare.config import PrepareConfig
from moodscale.schema import AudioFile, Speaker, Turn

_SPEAKERS: dict[str, frozenset[Speaker]] = {
    "participant": frozenset({Speaker.PARTICIPANT}),
    "interviewer": frozenset({Speaker.INTERVIEWER}),
    "everything": frozenset(Speaker),
}

Stretch = tuple[int, int, int]
"""Recording, first sample, and the sample after the last."""


@dataclass(frozen=True)
class Window:
    """One clip: its stretches in order, all of recordings at one rate, and how many turns they come from."""

    segments: tuple[Stretch, ...]
    num_turns: int

    @property
    def num_samples(self) -> int:
        return sum(stop - start for _, start, stop in self.segments)


@dataclass(frozen=True)
class Cutting:
    """An interview's clips.

    Attributes:
        num_turns: turns of the wanted speaker.
        speech_s: what they hold together.
        tail_s: what was left over at the end.
        num_overlapping: turns that began before the one before them ended; the shared part is used once.
    """

    windows: tuple[Window, ...]
    num_turns: int
    speech_s: float
    tail_s: float
    num_overlapping: int


def cut_clips(turns: Sequence[Turn], recordings: Mapping[int, AudioFile], config: PrepareConfig) -> Cutting:
    """Cut one interview's turns into clips of ``config.clip_s`` seconds.

    A clip may go on from one recording to the next, but not to one of another sample rate: what is left over there
    is a tail as at the end.

    Args:
        recordings: by their index; turns of others are passed over.
    """
    spans, num_overlapping = _spans(turns, config.speech, recordings)
    windows: list[Window] = []
    speech_s = tail_s = 0.0
    for rate, group in groupby(spans, key=lambda span: recordings[span[0]].sample_rate_hz):
        stretches = list(group)
        cut, tail = _cut(stretches, rate, config)
        windows += cut
        speech_s += sum(stop - start for _, start, stop in stretches) / rate
        tail_s += tail / rate
    return Cutting(tuple(windows), len(spans), speech_s, tail_s, num_overlapping)


def _cut(spans: Sequence[Stretch], rate: int, config: PrepareConfig) -> tuple[list[Window], int]:
    """Windows of one rate, and the samples left over."""
    length = round(config.clip_s * rate)
    windows: list[Window] = []
    segments: list[Stretch] = []
    filled = num_turns = 0
    for recording, first, stop in spans:
        start = first
        while start < stop:
            taken = min(stop - start, length - filled)
            if segments and segments[-1][0] == recording and segments[-1][2] == start:
                segments[-1] = (recording, segments[-1][1], start + taken)
            else:
                segments.append((recording, start, start + taken))
            start, filled, num_turns = start + taken, filled + taken, num_turns + 1
            if filled == length:
                windows.append(Window(tuple(segments), num_turns))
                segments, filled, num_turns = [], 0, 0
    if config.tail == "pad" and filled >= round(config.min_tail_s * rate) and segments:
        windows.append(Window(tuple(segments), num_turns))
        filled = 0
    return windows, filled


def _spans(turns: Sequence[Turn], speech: str, recordings: Mapping[int, AudioFile]) -> tuple[list[Stretch], int]:
    """The wanted speaker's turns in samples, sorted, with no sample in two of them."""
    wanted = [turn for turn in turns if turn.speaker in _SPEAKERS[speech] and turn.recording in recordings]
    spans: list[Stretch] = []
    reached: dict[int, int] = {}
    num_overlapping = 0
    for turn in sorted(wanted, key=lambda turn: (turn.recording, turn.start_s)):
        audio, before = recordings[turn.recording], reached.get(turn.recording, 0)
        rate = audio.sample_rate_hz
        start, stop = max(round(turn.start_s * rate), 0), min(round(turn.stop_s * rate), audio.num_samples)
        num_overlapping += start < before
        start = max(start, before)
        if start < stop:
            spans.append((turn.recording, start, stop))
            reached[turn.recording] = stop
    return spans, num_overlapping
