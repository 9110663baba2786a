"""A handful of transcripts, said by nobody."""

from __future__ import annotations

from moodscale.label.transcript import Transcript
from moodscale.schema import Instrument, Speaker, Turn


def transcript(
    unit: str = "u1",
    *said: str,
    asked: str = "how do you sleep?",
    instrument: Instrument = Instrument.PHQ9,
    deidentified: bool = False,
    person: str | None = None,
) -> Transcript:
    """A question, and turns of the participant."""
    turns = [Turn(Speaker.INTERVIEWER, 0.0, 1.0, asked)]
    turns += [Turn(Speaker.PARTICIPANT, at, at + 1.0, text) for at, text in enumerate(said or (f"i am {unit}",), 1)]
    return Transcript(unit, person or f"test:{unit}", instrument, tuple(turns), deidentified)


def transcripts(number: int, *said: str) -> list[Transcript]:
    """So many people, each with words of their own."""
    return [transcript(f"u{at:03d}", f"i am number {at}", *said) for at in range(number)]
