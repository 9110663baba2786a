"""One session as sound: a script spoken, paused, laid on a time line with its transcript."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from moodscale.corpora.synthesize.espeak import Engine, FloatArray
from moodscale.corpora.synthesize.language import ENGLISH
from moodscale.corpora.synthesize.phrases import CHATTER, CLOSING, INTERRUPTION
from moodscale.corpora.synthesize.script import draw_exchanges, interviewer_lines
from moodscale.corpora.synthesize.severity import Disposition, delivery_of
from moodscale.corpora.synthesize.speaking import PARTICIPANT, Participant, Row, TimeLine
from moodscale.corpora.synthesize.voices import BYSTANDER, INTERVIEWER, SAMPLE_RATE_HZ, Talker, draw_voice

ELLIE = "Ellie"

_LEAD_IN_S = 1.5
_TAIL_S = 1.5
_CLOSING_S = 7.0


@dataclass(frozen=True)
class SessionPlan:
    """All that a session is made from; picklable, so that a worker process can make it.

    Attributes:
        interview_id: also selects the session's own stream of random numbers.
        disposition: what reaches the speech of this person's state.
        duration_s: about how long the session is.
        lead_in_s: room before the first word.
        chatter: people talk before the interviewer's first line.
        interruption_s: from when to when somebody else interrupts; the session lasts beyond.
    """

    interview_id: int
    seed: int
    gender: str
    disposition: Disposition = field(repr=False)
    duration_s: float
    lead_in_s: float = _LEAD_IN_S
    chatter: bool = False
    interruption_s: tuple[float, float] | None = None


@dataclass(frozen=True)
class Session:
    """Audio [T] at 16 kHz in -1 to 1, and the transcript in order of time."""

    audio: FloatArray = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)

    @property
    def duration_s(self) -> float:
        return len(self.audio) / SAMPLE_RATE_HZ

    @property
    def participant_s(self) -> float:
        return sum(row.stop_s - row.start_s for row in self.rows if row.speaker == PARTICIPANT)


def render_session(plan: SessionPlan) -> Session:
    """Speak the plan. The same plan gives the same samples, in any process and after any other."""
    # One stream a purpose: what is drawn for the words never shifts what is drawn for the room.
    voice_rng, script_rng, timing_rng, room_rng = (
        np.random.default_rng([plan.seed, plan.interview_id, stream]) for stream in range(4)
    )
    line = TimeLine(plan.lead_in_s)
    with Engine() as engine:
        if plan.interruption_s is not None or plan.chatter:
            bystander = _bystander_lines(engine)
        participant = Talker(engine, draw_voice(voice_rng, plan.gender))
        speaker = Participant(participant, delivery_of(plan.disposition.burden), timing_rng, ENGLISH)
        if plan.chatter:
            _speak_chatter(line, participant, bystander[CHATTER[1]])
        last_s = plan.duration_s if plan.interruption_s is None else max(plan.duration_s, plan.interruption_s[1] + 20)
        for exchange in draw_exchanges(script_rng, plan.disposition.answers):
            _ask(line, exchange.interviewer, timing_rng)
            line.wait(timing_rng.uniform(0.3, 1.0))
            speaker.answer(line, exchange.participant)
            line.wait(timing_rng.uniform(0.5, 1.2))
            if line.now_s >= last_s - _CLOSING_S:
                break
        _ask(line, (CLOSING,), timing_rng)
        line.wait(_TAIL_S)
    audio = line.mix()
    if plan.interruption_s is not None:
        _interrupt(audio, plan.interruption_s, [bystander[text] for text in INTERRUPTION])
    return Session(in_room(audio, room_rng), tuple(line.rows))


def _ask(line: TimeLine, texts: Sequence[str], rng: np.random.Generator) -> None:
    spoken = _interviewer()
    for index, text in enumerate(texts):
        if index:
            line.wait(rng.uniform(0.2, 0.5))
        start_s = line.now_s
        line.play(spoken[text])
        line.note(start_s, ELLIE, text)


@functools.cache
def _interviewer() -> dict[str, FloatArray]:
    """All the interviewer's lines, spoken once a process by an engine of its own and in a fixed order."""
    with Engine() as engine:
        talker = Talker(engine, INTERVIEWER)
        return {text: talker.say(text) for text in interviewer_lines()}


def _bystander_lines(engine: Engine) -> dict[str, FloatArray]:
    talker = Talker(engine, BYSTANDER)
    return {text: talker.say(text) for text in (*CHATTER, *INTERRUPTION)}


def _speak_chatter(line: TimeLine, participant: Talker, bystander: FloatArray) -> None:
    """The room before the interview: transcribed as the participant, whoever spoke."""
    for spoken, text in (
        (participant.say(CHATTER[0]), CHATTER[0]),
        (bystander, CHATTER[1]),
        (participant.say(CHATTER[2]), CHATTER[2]),
    ):
        start_s = line.now_s
        line.play(spoken)
        line.note(start_s, PARTICIPANT, text)
        line.wait(0.6)
    line.wait(0.8)


def _interrupt(audio: FloatArray, window_s: tuple[float, float], lines: Sequence[FloatArray]) -> None:
    """Somebody else takes over: within the window nothing of the interview is left."""
    start, stop = (round(seconds * SAMPLE_RATE_HZ) for seconds in window_s)
    audio[start:stop] = 0
    position, turn = start, 0
    gap = SAMPLE_RATE_HZ // 4
    while position + gap < stop:
        spoken = lines[turn % len(lines)][: stop - position]
        audio[position : position + len(spoken)] = spoken
        position += len(spoken) + gap
        turn += 1


def in_room(audio: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Microphone gain and background noise of the session, the same for everything that is heard in it."""
    gain_db = np.clip(rng.normal(0, 1.0), -2.5, 2.5)
    noise_db = rng.uniform(-66, -58)
    noise = rng.standard_normal(len(audio) + 1, dtype=np.float32)
    # The sum of neighbours takes away some of the hiss: rooms are not white.
    room = (noise[1:] + noise[:-1]) * np.float32(10 ** (noise_db / 20) / np.sqrt(2))
    return np.clip((audio + room) * np.float32(10 ** (gain_db / 20)), -1, 1)
