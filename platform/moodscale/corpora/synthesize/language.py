"""What differs between the languages that people are made to speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from moodscale.corpora.synthesize import phrases, phrases_zh


@dataclass(frozen=True)
class Language:
    """A language as the synthesiser speaks and writes it.

    Attributes:
        accents: espeak's names of it.
        fillers: what one says while looking for words.
        calibration: a sentence to measure a voice by.
        calibration_wpm: espeak's words per minute to say it at.
        calibration_s: how long the average voice takes for it.
        pace: factor on words per minute: what espeak counts as a word differs between languages.
        word_separator: between words in writing. Phrases are kept in words here, whatever the writing does.
        phrase_separator: between the phrases of an answer.
    """

    accents: tuple[str, ...]
    fillers: tuple[str, ...]
    calibration: str = field(repr=False)
    calibration_wpm: float
    calibration_s: float
    pace: float = 1.0
    word_separator: str = " "
    phrase_separator: str = " "

    def join_words(self, words: Sequence[str]) -> str:
        return self.word_separator.join(words)

    def join_phrases(self, said: Sequence[str]) -> str:
        return self.phrase_separator.join(said)


ENGLISH = Language(
    accents=(
        "en-us", "en-us", "en-us-nyc", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd",
        "en-029",
    ),
    fillers=phrases.FILLERS,
    calibration="The quick brown fox ran along the river and over the hill before the sun came up.",
    calibration_wpm=160.0,
    calibration_s=4.3,
)  # fmt: skip
MANDARIN = Language(
    accents=("cmn",),
    fillers=phrases_zh.FILLERS,
    calibration="今天早上我们沿着河边走到山上，太阳还没有出来。",
    calibration_wpm=216.0,
    calibration_s=4.3,
    pace=1.35,
    word_separator="",
    phrase_separator="，",
)
