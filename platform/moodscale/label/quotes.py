"""Finding what a teacher quotes in the transcript that it was given."""

from __future__ import annotations

import unicodedata
from functools import cached_property

from moodscale.label.transcript import Transcript
from moodscale.schema import Speaker

_MARKS = {ord(mark): "'" for mark in "‘’‚‛′`´"} | {ord(mark): '"' for mark in "“”„‟″«»「」『』"}
_AROUND = " \"'.…"
_MIN_CHARS = 2
"""Of anything shorter, finding it says nothing; a Chinese word has two."""


class QuoteFinder:
    """Looks up quotations regardless of case, white space, width, and which quotation marks are written."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript

    @cached_property
    def _turns(self) -> list[tuple[int, str, list[int]]]:
        """Turns with their normal form; the interviewer's last: what both said is the participant's evidence."""
        turns = sorted(enumerate(self._transcript.turns), key=lambda one: one[1].speaker == Speaker.INTERVIEWER)
        return [(at, *_normalised(turn.text)) for at, turn in turns]

    def find(self, quote: str) -> tuple[int, int, int] | None:
        """Turn, start and stop of where it stands first; ``None`` where it does not."""
        wanted = _normalised(quote)[0].strip(_AROUND)
        if len(wanted) < _MIN_CHARS:
            return None
        for turn, text, places in self._turns:
            at = text.find(wanted)
            if at >= 0:
                return turn, places[at], places[at + len(wanted) - 1] + 1
        return None


def _normalised(text: str) -> tuple[str, list[int]]:
    """The text in normal form, and for each of its characters the place it comes from."""
    characters: list[str] = []
    places: list[int] = []
    for place, original in enumerate(text):
        for character in unicodedata.normalize("NFKC", original.translate(_MARKS)).casefold().translate(_MARKS):
            shown = " " if character.isspace() else character
            if shown == " " and (not characters or characters[-1] == " "):
                continue
            characters.append(shown)
            places.append(place)
    return "".join(characters), places
