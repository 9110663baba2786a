"""What a teacher reads: the turns of one unit, under keys that say whose they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from moodscale.schema import Instrument, Speaker, Turn

Speech = Literal["participant", "interviewer", "everything"]
"""Whose turns are read, as in ``prepare.speech``; a turn of nobody known is in each."""


@dataclass(frozen=True)
class Transcript:
    """What was said in one unit that is to be labelled.

    Attributes:
        unit_id: the interview's id, unique among the transcripts of a run.
        person: the global person key.
        instrument: the questionnaire that is to be scored.
        deidentified: whether what tells who said it was taken out (``prepare.transcripts: deidentified``).
    """

    unit_id: str
    person: str
    instrument: Instrument
    turns: tuple[Turn, ...] = field(repr=False)
    deidentified: bool = False

    def heard(self, speech: Speech) -> list[tuple[int, Turn]]:
        """The turns that hold words, each with its place among all turns."""
        wanted = {Speaker.UNKNOWN, Speaker(speech)} if speech != "everything" else set(Speaker)
        return [(at, turn) for at, turn in enumerate(self.turns) if turn.speaker in wanted and turn.text.strip()]

    def text(self, speech: Speech = "everything") -> str:
        """One line a turn; with its speaker where several are read."""
        lines = ((turn.speaker, " ".join(turn.text.split())) for _, turn in self.heard(speech))
        return "\n".join(f"{speaker}: {line}" if speech == "everything" else line for speaker, line in lines)

    def content_hash(self) -> str:
        """Hash of the instrument and of who said what, in order; equal in every process and on every machine."""
        content = [self.instrument.value, [[turn.speaker.value, turn.text] for turn in self.turns]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()
