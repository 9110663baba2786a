"""DAIC-WOZ: 189 interviews by a remote-controlled interviewer, PHQ-8 (Gratch et al. 2014; AVEC 2017 label tables).

Sessions lie as folders ``300_P/`` or archives ``300_P.zip``; the corpus' published defects are repaired here, each
with a line in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator
from upath import UPath

from moodscale.corpora.reading.ledger import Ledger, note_cells
from moodscale.corpora.reading.people import PersonRow, column, read_people
from moodscale.corpora.reading.session_corpus import (
    FeatureKind,
    Gender,
    Layout,
    SessionCorpus,
    SessionCorpusConfig,
    check_features,
    counted,
    gender_of,
    known_person,
    label_of,
    note_cut,
    read_table,
)
from moodscale.corpora.reading.tables import is_blank, parse_table, to_number
from moodscale.corpora.reading.turns import remove_span
from moodscale.schema import CorpusError, Interview, Label, Repair, Speaker, Split, Turn

NAME = "daic_woz"
NUM_SESSIONS = 189
NUM_CLIPS = 9_044
"""10 s clips of participant speech in the complete corpus, as published for the clip-level system."""

OFFSETS_S = {"318": 34.319917, "321": 3.8379167, "341": 6.1892, "362": 16.8582}
"""Transcripts that start late: added to both times. They belong to this corpus' transcripts alone."""
INTERRUPTIONS_S = {"373": (395.0, 428.0), "444": (286.0, 387.0)}
"""Someone enters the room: cut."""
VIDEO_NOTES = {
    "402": ("video_ends_early", "video ends about 120 s before the audio", "speech unaffected, nothing changed")
}

ITEMS = tuple(
    f"PHQ8_{item}"
    for item in ("NoInterest", "Depressed", "Sleep", "Tired", "Appetite", "Failure", "Concentrating", "Moving")
)
_TABLES = (
    ("train_split_Depression_AVEC2017.csv", Split.TRAIN),
    ("dev_split_Depression_AVEC2017.csv", Split.VALIDATION),
    ("full_test_split.csv", Split.TEST),
    ("test_split_Depression_AVEC2017.csv", Split.TEST),
)
LAYOUT = Layout(
    name=NAME,
    title="DAIC-WOZ",
    folders=("",),
    transcripts=("{id}_TRANSCRIPT.csv",),
    past_end="past_end",
    example="300_P or 300_P.zip",
    features=(
        FeatureKind("covarep", "daic_woz.covarep", "COVAREP.csv"),
        FeatureKind("formant", "daic_woz.formant", "FORMANT.csv"),
        *(
            FeatureKind(f"clnf_{kind.lower()}", f"daic_woz.clnf_{kind.lower()}", f"CLNF_{kind}.txt")
            for kind in ("features", "features3D", "AUs", "gaze", "pose")
        ),
    ),
)
_IDS = ("Participant_ID", "participant_ID")
_SYNC = re.compile(r"<\s*sync(?:ing)?\s*>|\[\s*sync(?:ing)?\s*\]", re.IGNORECASE)
_UNINTELLIGIBLE = re.compile(r"\bxxx+\b", re.IGNORECASE)
_SPEAKERS = {"ellie": Speaker.INTERVIEWER, "participant": Speaker.PARTICIPANT}
APPROXIMATIONS = (
    "DAIC-WOZ: the test split was published with totals only, so per-item figures cover train and validation.",
    "DAIC-WOZ: that Gender 0 means male is not documented with the corpus; gender_codes changes it.",
)
_PUBLISHED = "known defects of the corpus"


class DaicWozConfig(SessionCorpusConfig):
    kind: Literal["daic_woz"] = "daic_woz"
    gender_codes: dict[str, Gender] = Field(
        default={"0": "male", "1": "female"},
        description="what the label tables' Gender codes mean; that 0 is male is not documented with the corpus",
    )
    published_defects: bool = Field(
        default=True,
        description="apply the published offsets and interruptions of single sessions; false for other recordings "
        "in this layout that reuse the session numbers",
    )

    @field_validator("features")
    @classmethod
    def _known_features(cls, features: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return check_features(features, LAYOUT)

    def open(self, unpack_to: UPath | None = None) -> DaicWoz:
        return DaicWoz(self, unpack_to)

    def expected_num_clips(self, num_interviews: int) -> int | None:
        return NUM_CLIPS if num_interviews == NUM_SESSIONS else None


class DaicWoz(SessionCorpus):
    """An opened DAIC-WOZ folder."""

    layout = LAYOUT

    def __init__(self, config: DaicWozConfig, unpack_to: UPath | None = None) -> None:
        self.config = config
        super().__init__(config, unpack_to)

    def absent(self) -> Sequence[Repair]:
        lines = [
            Repair(
                NAME, "", "absent_label_table", name, "expected", "missing, its people have no label", "corpus layout"
            )
            for name, split in _TABLES
            if name not in self._tables and split is not Split.TEST
        ]
        return [*super().absent(), *lines]

    def approximations(self) -> Sequence[str]:
        return APPROXIMATIONS

    def _read_tables(self) -> tuple[Sequence[str], dict[str, PersonRow]]:
        present = [(name, split) for name, split in _TABLES if (self.root / name).exists()]
        if not present:
            names = ", ".join(name for name, _ in _TABLES)
            raise CorpusError(f"corpus.path={self.config.path}: none of the label tables {names}")
        tables = [(read_table(self.roots, name), split) for name, split in present]
        return [name for name, _ in present], read_people(tables, _IDS, "daic")

    def _label(self, person: PersonRow | None, ledger: Ledger) -> Label | None:
        if not known_person(person, ledger):
            return None
        assert person is not None
        absent = [item for item in ITEMS if item not in person.row]
        if 0 < len(absent) < len(ITEMS):
            ledger.note("absent_items", f"{person.table}: {', '.join(absent)}", "no such column", "no items kept")
        items = () if absent else ITEMS
        total, binary = column(person.row, "PHQ8_Score", "PHQ_Score"), column(person.row, "PHQ8_Binary", "PHQ_Binary")
        return label_of(person, total, binary, items, ledger)

    def _gender(self, person: PersonRow | None, ledger: Ledger) -> str:
        return gender_of(person, person.row.get("Gender", "") if person else None, self.config.gender_codes, ledger)

    def _interview(self, interview_id: str, ledger: Ledger) -> Interview:
        interview = super()._interview(interview_id, ledger)
        # What is wrong with the video is nothing to somebody who has no features of it.
        seen = any(feature.kind.startswith("clnf") for feature in interview.features)
        if seen and self.config.published_defects and interview_id in VIDEO_NOTES:
            defect, before, after = VIDEO_NOTES[interview_id]
            ledger.note(defect, "video", before, after, _PUBLISHED)
        return interview

    def _turns(self, interview_id: str, data: bytes, name: str, ledger: Ledger) -> tuple[Turn, ...]:
        columns = ("start_time", "stop_time", "speaker", "value")
        table = parse_table(data, name, columns, delimiter="\t", quoted=False, speech=True)
        note_cells(table, ledger)
        turns: list[Turn] = []
        counts: dict[str, int] = {}
        for row in table.rows:
            turn, defects = _read_row(*(row[column] for column in columns))
            for defect in defects:
                counts[defect] = counts.get(defect, 0) + 1
            if turn is not None:
                turns.append(turn)
        for defect, (before, after) in _ROW_DEFECTS.items():
            if defect in counts:
                ledger.note(defect, name, f"{counts[defect]} {before}", after)
        return self._repair(interview_id, tuple(turns), name, ledger)

    def _repair(self, interview_id: str, turns: tuple[Turn, ...], name: str, ledger: Ledger) -> tuple[Turn, ...]:
        published = self.config.published_defects
        if published and interview_id in OFFSETS_S:
            offset = OFFSETS_S[interview_id]
            turns = tuple(replace(t, start_s=t.start_s + offset, stop_s=t.stop_s + offset) for t in turns)
            ledger.note("offset", name, "+0 s", f"+{offset} s", _PUBLISHED)
        if any(later.start_s < earlier.start_s for earlier, later in pairwise(turns)):
            ledger.note("rows_out_of_order", name, "times go backwards", "sorted by start")
        turns = tuple(sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s)))
        interviewer = [turn.start_s for turn in turns if turn.speaker is Speaker.INTERVIEWER]
        if not interviewer:
            ledger.note("no_interviewer", name, "no rows of the interviewer", "nothing dropped as chatter")
        else:
            cut = remove_span(turns, float("-inf"), interviewer[0])
            turns = note_cut(cut, "before_interviewer", name, f"up to {interviewer[0]:g} s", ledger)
        if published and interview_id in INTERRUPTIONS_S:
            start_s, stop_s = INTERRUPTIONS_S[interview_id]
            cut = remove_span(turns, start_s, stop_s)
            ledger.note("interruption", name, f"{start_s:g}-{stop_s:g} s", counted(cut), _PUBLISHED)
            turns = cut.turns
        return turns


_ROW_DEFECTS = {
    "blank_row": ("row(s) without time, speaker or words", "dropped with their audio"),
    "bad_time": ("row(s) that end before they start", "dropped with their audio"),
    "unintelligible": ("row(s) of nothing but xxx", "dropped with their audio"),
    "unintelligible_words": ("row(s) with xxx among words", "xxx taken out of the words"),
    "sync_token": ("row(s) with a sync token", "token taken out, rows of nothing else dropped"),
    "unknown_speaker": ("row(s) of another speaker", "kept, neither participant nor interviewer"),
}


def _read_row(start: str, stop: str, speaker: str, value: str) -> tuple[Turn | None, list[str]]:
    """One row and the defects in it. An interviewer's row keeps its place without words."""
    start_s, stop_s = to_number(start), to_number(stop)
    if start_s is None or stop_s is None or is_blank(speaker):
        return None, ["blank_row"]
    if stop_s <= start_s:
        return None, ["bad_time"]
    defects = []
    who = _SPEAKERS.get(speaker.lower(), Speaker.UNKNOWN)
    if who is Speaker.UNKNOWN:
        defects.append("unknown_speaker")
    text = "" if is_blank(value) else value
    if not text and who is not Speaker.INTERVIEWER:
        return None, [*defects, "blank_row"]
    for pattern, alone, among in (
        (_SYNC, "sync_token", "sync_token"),
        (_UNINTELLIGIBLE, "unintelligible", "unintelligible_words"),
    ):
        if pattern.search(text):
            text = " ".join(pattern.sub(" ", text).split())
            defects.append(among if text else alone)
            if not text:
                return None, defects
    return Turn(who, start_s, stop_s, text), defects
