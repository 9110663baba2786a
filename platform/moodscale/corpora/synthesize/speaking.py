"""Speech on a time line: who says what when, and a participant who speaks the way their burden has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from moodscale.corpora.synthesize.espeak import FloatArray
from moodscale.corpora.synthesize.language import Language
from moodscale.corpora.synthesize.severity import Delivery
from moodscale.corpora.synthesize.voices import SAMPLE_RATE_HZ, Talker

PARTICIPANT = "Participant"
ANSWER_S = (3.0, 7.5)
"""How long an answer within an interview lasts, from shortest to longest."""

_TWO_ROWS_SHARE = 0.15
"""Share of answers that the transcript splits into two rows."""
_PAUSE_SPREAD = 0.35
_LONGEST_PAUSE_S = 3.5


@dataclass(frozen=True)
class Row:
    """A transcript row, times in seconds of the audio file."""

    start_s: float
    stop_s: float
    speaker: str
    value: str = field(repr=False)


class TimeLine:
    """Speech in order, with a transcript that knows where it lies."""

    def __init__(self, start_s: float) -> None:
        self._position = round(start_s * SAMPLE_RATE_HZ)
        self._pieces: list[tuple[int, FloatArray]] = []
        self.rows: list[Row] = []

    @property
    def now_s(self) -> float:
        return self._position / SAMPLE_RATE_HZ

    def wait(self, seconds: float) -> None:
        self._position += round(seconds * SAMPLE_RATE_HZ)

    def play(self, samples: FloatArray) -> None:
        self._pieces.append((self._position, samples))
        self._position += len(samples)

    def note(self, start_s: float, speaker: str, value: str) -> None:
        """A transcript row from then until now, to the millisecond as the corpus has it."""
        self.rows.append(Row(round(start_s, 3), round(self.now_s, 3), speaker, value))

    def mix(self) -> FloatArray:
        audio = np.zeros(self._position, dtype=np.float32)
        for start, samples in self._pieces:
            audio[start : start + len(samples)] += samples
        return audio


class Participant:
    """A voice that speaks the way its burden has it."""

    def __init__(self, talker: Talker, delivery: Delivery, rng: np.random.Generator, language: Language) -> None:
        self._talker = talker
        self._language = language
        self._delivery = delivery
        self._rng = rng
        self._gain = np.float32(10 ** (delivery.level_db / 20))

    def answer(self, line: TimeLine, phrases: Sequence[str], length_s: tuple[float, float] = ANSWER_S) -> None:
        """Speak phrases, with pauses between and within, until the answer is long enough; one row, now and then two.

        How long an answer lasts is drawn the same way for everyone, so that a slow speaker says less in as many turns
        and neither turn counts nor lengths give away what the voice is there to tell.

        Args:
            phrases: as many are spoken as there is time for, at least one.
            length_s: the answer ends with the phrase whose end is nearest to a length drawn from this range.
        """
        begun_s = start_s = line.now_s
        enough_s = begun_s + self._rng.uniform(*length_s)
        in_two_rows = self._rng.random() < _TWO_ROWS_SHARE
        said = [self._phrase(line, phrases[0])]
        for index, phrase in enumerate(phrases[1:], start=1):
            split = in_two_rows and index == 1
            # Another phrase only if it brings the end nearer to the length drawn: overshoot would grow with slowness.
            half_a_phrase_s = 0.5 * (line.now_s - begun_s) / index
            if line.now_s + half_a_phrase_s >= enough_s and not split:
                break
            if split:
                line.note(start_s, PARTICIPANT, said.pop())
            self._pause(line, self._delivery.pause_s)
            if split:
                start_s = line.now_s
            said.append(self._phrase(line, phrase))
        line.note(start_s, PARTICIPANT, self._language.join_phrases(said))

    def _phrase(self, line: TimeLine, phrase: str) -> str:
        words = phrase.replace(",", "").split()
        if self._rng.random() < self._delivery.filler_share:
            fillers = self._language.fillers
            words.insert(0, fillers[self._rng.integers(len(fillers))])
        pitch_shift = self._delivery.pitch_shift + self._rng.normal(0, 2)
        rate = self._delivery.rate * self._rng.normal(1, 0.03)
        # A place to hesitate comes every three words or so.
        for start in range(0, len(words), 3):
            if start and len(words) - start < 2:
                continue
            stop = start + 3 if len(words) - start - 3 >= 2 else len(words)
            chunk = self._language.join_words(words[start:stop])
            hesitates = start and self._rng.random() < self._delivery.hesitation_share
            if hesitates:
                self._pause(line, self._delivery.hesitation_s)
            line.play(self._gain * self._talker.say(chunk, rate, self._delivery.pitch_range, pitch_shift))
        return self._language.join_words(words)

    def _pause(self, line: TimeLine, median_s: float) -> None:
        line.wait(min(median_s * float(np.exp(_PAUSE_SPREAD * self._rng.standard_normal())), _LONGEST_PAUSE_S))
