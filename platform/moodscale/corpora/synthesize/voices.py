"""Who speaks: voices that belong to a person, drawn from gender and seed alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from moodscale.corpora.synthesize.espeak import Engine, FloatArray
from moodscale.corpora.synthesize.language import ENGLISH, Language

SAMPLE_RATE_HZ = 16_000
_SPEECH_RMS = 0.05
"""Every voice is brought to this level (-26 dB of full scale while speaking) before anything personal is added."""
_ACCENTS = ENGLISH.accents
_VARIANTS = {
    "female": ("f1", "f2", "f4", "f5", "Annie", "Andrea", "anika", "aunty", "belinda", "linda", "shelby", "steph"),
    "male": (
        "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "adam", "Andy", "boris", "Denis", "Diogo", "Gene",
        "Henrique", "kaukovalta", "Lee", "max", "Michael", "michel", "miguel", "Mike", "norbert", "pablo",
        "quincy", "robert", "sandro", "travis", "victor",
    ),
}  # fmt: skip
"""Variants whose pitch, loudness and clarity are those of an adult; neither ``f3`` (the interviewer) nor ``Storm``."""


@dataclass(frozen=True)
class Voice:
    """A person's voice.

    Attributes:
        name: espeak's name, language and variant.
        throat: factor on every frequency: below 1 a longer vocal tract and a deeper voice.
        rate_wpm: words per minute when nothing weighs on them.
        pitch: espeak's 0-100.
        pitch_range: espeak's 0-100.
        level_db: how much louder than others this person talks.
    """

    name: str
    throat: float
    rate_wpm: float
    pitch: float
    pitch_range: float
    level_db: float


INTERVIEWER = Voice("en-us+f3", throat=1.0, rate_wpm=168, pitch=50, pitch_range=55, level_db=0)
BYSTANDER = Voice("en-us+Storm", throat=0.97, rate_wpm=185, pitch=45, pitch_range=60, level_db=3)
"""Whoever interrupts a session or talks before it begins."""


def draw_voice(rng: np.random.Generator, gender: str, language: Language = ENGLISH) -> Voice:
    """A voice for a person of this gender (``female`` or ``male``) and language."""
    return Voice(
        name=f"{rng.choice(language.accents)}+{rng.choice(_VARIANTS[gender])}",
        throat=float(rng.uniform(0.93, 1.07)),
        rate_wpm=language.pace * float(np.clip(rng.normal(168, 7), 150, 186)),
        pitch=float(np.clip(rng.normal(50, 8), 30, 70)),
        pitch_range=float(np.clip(rng.normal(60, 6), 45, 75)),
        level_db=float(np.clip(rng.normal(0, 1.0), -2.5, 2.5)),
    )


class Talker:
    """A voice at work: measures itself once, then speaks at a known level and pace."""

    def __init__(self, engine: Engine, voice: Voice, language: Language = ENGLISH) -> None:
        self._engine = engine
        self._voice = voice
        self._gain = self._pace = 1.0
        engine.set_voice(voice.name)
        sample = self.say(language.calibration, rate=language.calibration_wpm / voice.rate_wpm)
        loud = sample[np.abs(sample) > 0.02 * np.abs(sample).max()]
        self._gain = _SPEECH_RMS / float(np.sqrt(np.mean(np.square(loud)))) * 10 ** (voice.level_db / 20)
        self._pace = float(np.clip(len(sample) / SAMPLE_RATE_HZ / language.calibration_s, 0.7, 1.4))

    def say(self, text: str, rate: float = 1.0, pitch_range: float = 1.0, pitch_shift: float = 0.0) -> FloatArray:
        """Samples [T] at 16 kHz. ``rate`` and ``pitch_range`` are factors, ``pitch_shift`` is in espeak's units."""
        voice = self._voice
        # Reading the samples as if taken at another rate moves the formants; the pace is set so that it stays the same.
        spoken = self._engine.speak(
            text,
            rate_wpm=voice.rate_wpm * rate * self._pace,
            pitch=voice.pitch + pitch_shift,
            pitch_range=voice.pitch_range * pitch_range,
        )
        resampled = soxr.resample(spoken, self._engine.sample_rate_hz * voice.throat, SAMPLE_RATE_HZ, quality="MQ")
        return np.asarray(resampled * self._gain, dtype=np.float32)
