"""The real corpus' known defects, planted on purpose: what a reader must repair, listed so that a test can compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.base import PlantedDefect
from moodscale.corpora.synthesize.questionnaire import Answers
from moodscale.corpora.synthesize.session import ELLIE, Session
from moodscale.corpora.synthesize.speaking import PARTICIPANT, Row

DEFECTS: dict[str, str] = {
    "interruption": "373 (395-428 s) and 444 (286-387 s): somebody interrupts; the transcript carries on as if not",
    "offset": "318, 321, 341, 362: the transcript is early by 34.319917, 3.8379167, 6.1892 and 16.8582 s",
    "no_interviewer": "451, 458, 480: the transcript has no Ellie rows, the recording has her",
    "binary_contradicts_score": "409: score 10 with binary 0",
    "blank_item": "319: PHQ8_Sleep is blank; the total is 13, the other items sum to 11",
    "absent_session": "342, 394, 398, 460: named in the label table, without a session",
    "apple_double": "487, 300, 303: AppleDouble ._* files beside the real ones, and one beside the label tables",
    "sync_token": "487, 300, 303: <sync>, [sync] and [syncing], alone in a row and within speech",
    "unintelligible": "487, 301: xxx where nothing was understood, alone in a participant row and within speech",
    "before_interviewer": "487, 300, 303: participant rows before Ellie's first line; in 303's file they follow it",
    "blank_row": "487, 302, 305: an empty line, a row of tabs, a row of nan, a participant row without words",
    "broken_audio": "not in the real corpus and not part of 'all': nine otherwise sound sessions with a truncated, an "
    "empty, a 44.1 kHz stereo, an 8 kHz, a 24-bit, a NaN, a not-a-wav, a FLAC file and a header that claims 4 GB",
}
"""What ``defects`` may name, and what each plants where. Readers call the repair the same."""

_EXTRA = {"broken_audio"}

ABSENT = (342, 394, 398, 460)
"""Ids that the real corpus skips, with or without defects."""
_INTERRUPTIONS_S = {373: (395.0, 428.0), 444: (286.0, 387.0)}
_OFFSETS_S = {318: 34.319917, 321: 3.8379167, 341: 6.1892, 362: 16.8582}
_NO_INTERVIEWER = (451, 458, 480)
_APPLE_DOUBLE = _SYNC = _CHATTER = (487, 300, 303)
_CHATTER_OUT_OF_ORDER = 303
_XXX = (487, 301)
_BLANK = (487, 302, 305)
VIDEO_ENDS_EARLY = 402
"""Known for a defect of its video: among the people with all defects, whether or not there is a video to cut."""

_SESSIONS: dict[str, tuple[int, ...]] = {
    "interruption": tuple(_INTERRUPTIONS_S),
    "offset": tuple(_OFFSETS_S),
    "no_interviewer": _NO_INTERVIEWER,
    "binary_contradicts_score": (409,),
    "blank_item": (319,),
    "apple_double": _APPLE_DOUBLE,
    "sync_token": _SYNC,
    "unintelligible": _XXX,
    "before_interviewer": _CHATTER,
    "blank_row": _BLANK,
}
_ANSWERS: dict[str, Answers] = {
    "blank_item": (2, 2, 2, 2, 1, 2, 1, 1),
    "binary_contradicts_score": (1, 1, 2, 2, 1, 1, 1, 1),
}
"""The answers that a defect of the label table needs: totals 13 and 10."""

BrokenAudio = Literal[
    "truncated", "empty", "stereo_44100_hz", "mono_8000_hz", "pcm_24", "nan", "not_a_wav", "flac", "claims_4_gb"
]
BROKEN_KINDS: tuple[BrokenAudio, ...] = (
    "truncated", "empty", "stereo_44100_hz", "mono_8000_hz", "pcm_24", "nan", "not_a_wav", "flac",
    "claims_4_gb",
)  # fmt: skip

_NEEDED_ANSWERS = 5
NEEDED_MINUTES = 1.0
"""Sessions shorter than this have too few turns to plant in."""


@dataclass(frozen=True)
class SessionDefects:
    """What is wrong with one session."""

    offset_s: float = 0.0
    interruption_s: tuple[float, float] | None = None
    no_interviewer: bool = False
    apple_double: bool = False
    sync: bool = False
    xxx: bool = False
    chatter: bool = False
    chatter_out_of_order: bool = False
    blank: bool = False
    broken_audio: BrokenAudio | None = None


def select(defects: Literal["none", "all"] | tuple[str, ...]) -> frozenset[str]:
    """The defects that a setting names.

    Raises:
        ConfigError: an unknown name.
    """
    names = set() if defects == "none" else {"all"} if defects == "all" else set(defects)
    if "all" in names:
        names = names - {"all"} | DEFECTS.keys() - _EXTRA
    unknown = sorted(names - DEFECTS.keys())
    if unknown:
        raise ConfigError(f"defects={','.join(unknown)}: no such defect; known are none, all, {', '.join(DEFECTS)}")
    return frozenset(names)


def needed_sessions(selected: frozenset[str]) -> set[int]:
    """Ids that must be among the participants."""
    needed = {session for defect in selected for session in _SESSIONS.get(defect, ())}
    if select("all") <= selected:
        needed.add(VIDEO_ENDS_EARLY)
    return needed


def avoided_sessions(selected: frozenset[str]) -> set[int]:
    """Ids that must not be among the participants: a reader repairs them by their number, and would do harm to sound
    sessions that bear it."""
    by_number = {"offset": set(_OFFSETS_S), "interruption": set(_INTERRUPTIONS_S)}
    avoided = set().union(*(sessions for defect, sessions in by_number.items() if defect not in selected))
    return (avoided | {VIDEO_ENDS_EARLY}) - needed_sessions(selected) | set(ABSENT)


def forced_answers(selected: frozenset[str]) -> dict[int, Answers]:
    """Questionnaires that a label defect prescribes, by id."""
    return {_SESSIONS[defect][0]: answers for defect, answers in _ANSWERS.items() if defect in selected}


def plan_defects(selected: frozenset[str], ids: Sequence[int]) -> dict[int, SessionDefects]:
    """What goes wrong in which session, by id, sessions without a defect left out.

    Raises:
        ConfigError: too few sound sessions to break the audio of.
    """

    def has(defect: str, session: int) -> bool:
        return defect in selected and session in _SESSIONS[defect]

    planned = {
        session: SessionDefects(
            offset_s=_OFFSETS_S[session] if has("offset", session) else 0.0,
            interruption_s=_INTERRUPTIONS_S[session] if has("interruption", session) else None,
            no_interviewer=has("no_interviewer", session),
            apple_double=has("apple_double", session),
            sync=has("sync_token", session),
            xxx=has("unintelligible", session),
            chatter=has("before_interviewer", session),
            chatter_out_of_order=has("before_interviewer", session) and session == _CHATTER_OUT_OF_ORDER,
            blank=has("blank_row", session),
        )
        for session in sorted(needed_sessions(selected))
    }
    if "broken_audio" in selected:
        sound = [session for session in reversed(ids) if session not in planned]
        if len(sound) < len(BROKEN_KINDS):
            raise ConfigError(
                f"num_participants={len(ids)} leaves {len(sound)} sessions without another defect, and broken_audio "
                f"needs {len(BROKEN_KINDS)}; take at least {len(planned) + len(BROKEN_KINDS)} participants"
            )
        for session, kind in zip(sound, BROKEN_KINDS, strict=False):
            planned[session] = SessionDefects(broken_audio=kind)
    return planned


Cells = tuple[str, ...]
"""A transcript row as written: start, stop, speaker, value; or fewer."""


def spoil_transcript(session: int, spoken: Session, defects: SessionDefects) -> tuple[list[Cells], list[PlantedDefect]]:
    """The transcript's cells with defects, and the list of what was planted.

    Raises:
        ConfigError: the session is too short to plant in.
    """
    rows, planted = list(spoken.rows), list[PlantedDefect]()

    def note(defect: str, detail: str) -> None:
        planted.append(PlantedDefect(str(session), defect, detail))

    interview = [index for index, row in enumerate(rows) if row.speaker == PARTICIPANT]
    if defects.chatter:
        first_line = next(index for index, row in enumerate(rows) if row.speaker == ELLIE)
        interview = [index for index in interview if index > first_line]
        note("before_interviewer", f"{first_line} rows before {rows[first_line].start_s:.3f} s")
    if defects != SessionDefects() and len(interview) < _NEEDED_ANSWERS:
        raise ConfigError(f"session {session} has {len(interview)} answers, too few for its defects; raise minutes")
    if defects.xxx:
        rows[interview[1]] = replace(rows[interview[1]], value="xxx")
        rows[interview[2]] = replace(rows[interview[2]], value=_insert(rows[interview[2]].value, "xxx"))
        note("unintelligible", f"1 row of nothing else, from {rows[interview[1]].start_s:.3f} s")
        note("unintelligible_words", f"1 row, from {rows[interview[2]].start_s:.3f} s")
    if defects.sync:
        rows[interview[3]] = replace(rows[interview[3]], value=f"{rows[interview[3]].value} [sync]")
    if defects.blank:
        rows[interview[4]] = replace(rows[interview[4]], value="")
        note("blank_row", f"no words from {rows[interview[4]].start_s:.3f} s; 1 empty line, 1 of tabs, 1 of nan")
    if defects.sync:
        rows = _with_sync_rows(rows, after=interview[2])
        note("sync_token", "2 rows of nothing else, 1 within speech")
    if defects.no_interviewer:
        num_before = len(rows)
        rows = [row for row in rows if row.speaker != ELLIE]
        note("no_interviewer", f"{num_before - len(rows)} rows left out")
    if defects.chatter_out_of_order:
        first_line = next(index for index, row in enumerate(rows) if row.speaker == ELLIE)
        rows = [rows[first_line], *rows[:first_line], *rows[first_line + 1 :]]
        note("rows_out_of_order", f"Ellie's first line stands before {first_line} earlier rows")
    if defects.offset_s:
        rows = [
            replace(row, start_s=row.start_s - defects.offset_s, stop_s=row.stop_s - defects.offset_s) for row in rows
        ]
        note("offset", f"{defects.offset_s} s too early")
    if defects.interruption_s is not None:
        note("interruption", "{:g}-{:g} s".format(*defects.interruption_s))
    cells: list[Cells] = [(f"{row.start_s:.3f}", f"{row.stop_s:.3f}", row.speaker, row.value) for row in rows]
    if defects.blank:
        for place, blank in ((3, ("",)), (6, ("", "", "", "")), (8, ("nan", "nan", "nan", "nan"))):
            cells.insert(place, blank)
    return cells, planted


def _insert(value: str, token: str) -> str:
    words = value.split()
    return " ".join([*words[:1], token, *words[1:]])


def _with_sync_rows(rows: list[Row], after: int) -> list[Row]:
    """One before the first word and one in the pause after a row; neither overlaps speech."""
    pause = (rows[after].stop_s + 0.05, rows[after + 1].start_s - 0.05)
    within = Row(*pause, PARTICIPANT, "[syncing]")
    before = Row(0.2, 0.8, PARTICIPANT, "<sync>")
    return [before, *rows[: after + 1], within, *rows[after + 1 :]]
