"""DAIC-WOZ: 189 interviews by a remote-controlled interviewer, PHQ-8 (Gratch et al. 2014; AVEC 2017 label tables).

Sessions lie as folders ``300_P/`` or archives ``300_P.zip``; the corpus' published defects are repaired here, each
with a line in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from pydantic import Field
from upath import UPath

from moodscale.corpora.base import CORPUS_ROOT, MANIFEST_ROOT, FolderCorpusConfig, InputFile, Reading
from moodscale.corpora.reading.archives import SafeZip
from moodscale.corpora.reading.labels import read_label
from moodscale.corpora.reading.paths import AnyPath, resolve, why
from moodscale.corpora.reading.tables import (
    MAX_TABLE_BYTES,
    Table,
    is_blank,
    parse_table,
    read_bytes,
    to_number,
    to_whole_number,
)
from moodscale.corpora.reading.turns import Cut, clip_to_recording, remove_span
from moodscale.corpora.reading.wav import probe
from moodscale.schema import (
    AudioFile,
    CorpusError,
    Instrument,
    Interview,
    Label,
    Quarantined,
    Repair,
    Speaker,
    Split,
    Turn,
)
from moodscale.storage import location

NAME = "daic_woz"
NUM_SESSIONS = 189
NUM_CLIPS = 9_044
"""10 s clips of participant speech in the complete corpus, as published for the clip-level system."""

OFFSETS_S = {"318": 34.319917, "321": 3.8379167, "341": 6.1892, "362": 16.8582}
"""Transcripts that start late: added to both times. They belong to this corpus' transcripts alone."""
INTERRUPTIONS_S = {"373": (395.0, 428.0), "444": (286.0, 387.0)}
"""Someone enters the room: cut."""
NOTES = {"402": ("video_ends_early", "video ends about 120 s before the audio", "speech unaffected, nothing changed")}

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
_SESSION = re.compile(r"^(\d+)_P(\.zip)?$")
_SYNC = re.compile(r"<\s*sync(?:ing)?\s*>|\[\s*sync(?:ing)?\s*\]", re.IGNORECASE)
_UNINTELLIGIBLE = re.compile(r"\bxxx+\b", re.IGNORECASE)
_SPEAKERS = {"ellie": Speaker.INTERVIEWER, "participant": Speaker.PARTICIPANT}
APPROXIMATIONS = (
    "DAIC-WOZ: the test split was published with totals only, so per-item figures cover train and validation.",
    "DAIC-WOZ: that Gender 0 means male is not documented with the corpus; gender_codes changes it.",
)
_PUBLISHED = "known defects of the corpus"


class DaicWozConfig(FolderCorpusConfig):
    kind: Literal["daic_woz"] = "daic_woz"
    gender_codes: dict[str, Literal["female", "male"]] = Field(
        default={"0": "male", "1": "female"},
        description="what the label tables' Gender codes mean; that 0 is male is not documented with the corpus",
    )
    published_defects: bool = Field(
        default=True,
        description="apply the published offsets and interruptions of single sessions; false for other recordings "
        "in this layout that reuse the session numbers",
    )
    max_audio_bytes: int = Field(default=2 * 2**30, gt=0, description="largest wav that is unpacked from an archive")

    def open(self, unpack_to: UPath | None = None) -> DaicWoz:
        return DaicWoz(self, unpack_to)

    def expected_num_clips(self, num_interviews: int) -> int | None:
        return NUM_CLIPS if num_interviews == NUM_SESSIONS else None


@dataclass(frozen=True)
class _Person:
    """One person's row of a label table, before it is understood."""

    table: str
    split: Split
    row: Mapping[str, str]
    duplicate: str | None = None


class DaicWoz:
    """An opened DAIC-WOZ folder."""

    name = NAME

    def __init__(self, config: DaicWozConfig, unpack_to: AnyPath | None = None) -> None:
        self.config = config
        self.root = location(config.path)
        self.roots: Mapping[str, UPath] = {CORPUS_ROOT: self.root}
        self._unpack_to = unpack_to
        if not self.root.is_dir():
            raise CorpusError(f"corpus.path={config.path}: no such folder; set it to where the sessions lie")
        self._sessions = _find_sessions(self.root)
        if not self._sessions:
            raise CorpusError(f"corpus.path={config.path}: no session folder or archive named like 300_P or 300_P.zip")
        self._tables = [
            (_read_labels(self.root, name), split) for name, split in _TABLES if (self.root / name).exists()
        ]
        if not self._tables:
            raise CorpusError(f"corpus.path={config.path}: none of the label tables {', '.join(n for n, _ in _TABLES)}")
        self._people = _merge(self._tables)

    def interview_ids(self) -> Sequence[str]:
        return list(self._sessions)

    def approximations(self) -> Sequence[str]:
        return APPROXIMATIONS

    def absent(self) -> Sequence[Repair]:
        lines = [
            Repair(NAME, id_, "absent_session", person.table, "label row", "no session folder, left out", "label table")
            for id_, person in sorted(self._people.items(), key=lambda pair: int(pair[0]))
            if id_ not in self._sessions
        ]
        present = {table.name for table, _ in self._tables}
        lines += [
            Repair(
                NAME, "", "absent_label_table", name, "expected", "missing, its people have no label", "corpus layout"
            )
            for name, split in _TABLES
            if name not in present and split is not Split.TEST
        ]
        return lines

    def inputs(self) -> Iterator[InputFile]:
        for table, _ in self._tables:
            yield InputFile(self.root / table.name, table.name, content=True)
        for id_, path in self._sessions.items():
            if path.suffix == ".zip":
                yield InputFile(path, path.name)
                continue
            for file in (f"{id_}_TRANSCRIPT.csv", f"{id_}_AUDIO.wav"):
                yield InputFile(path / file, f"{path.name}/{file}")

    def read(self, interview_id: str) -> Reading:
        if interview_id not in self._sessions:
            raise CorpusError(f"interview {interview_id!r} is not in the corpus at {self.config.path}")
        session = _Session(self.config, interview_id, self.roots, self._unpack_to)
        where = "label table"
        try:
            person = self._people.get(interview_id)
            label = session.read_label(person)
            gender = session.read_gender(person)
            where = "session"
            interview = session.read(self._sessions[interview_id])
        except (CorpusError, OSError) as error:
            reason = str(error) if isinstance(error, CorpusError) else f"cannot be read ({why(error)})"
            quarantined = Quarantined(NAME, interview_id, where, reason)
            return Reading(None, tuple(session.repairs), (quarantined,))
        split = person.split if person else None
        return Reading(replace(interview, label=label, gender=gender, split=split), tuple(session.repairs))


class _Session:
    """Reads one session and collects what was repaired on the way."""

    def __init__(
        self, config: DaicWozConfig, interview_id: str, roots: Mapping[str, UPath], unpack_to: AnyPath | None
    ) -> None:
        self.config = config
        self.id = interview_id
        self.roots = roots
        self.unpack_to = unpack_to
        self.repairs: list[Repair] = []

    def note(self, defect: str, where: str, before: str, after: str, source: str = "checked on reading") -> None:
        self.repairs.append(Repair(NAME, self.id, defect, where, before, after, source))

    def read_label(self, person: _Person | None) -> Label | None:
        if person is None:
            self.note("no_label", "label tables", "no row", "kept without a label, gives no clips")
            return None
        if person.duplicate is not None:
            raise CorpusError(person.duplicate)
        total = _column(person.row, "PHQ8_Score", "PHQ_Score")
        if total is None:
            self.note("no_label", person.table, "table without totals", "kept without a label, gives no clips")
            return None
        items = ITEMS if all(item in person.row for item in ITEMS) else ()
        try:
            reading = read_label(
                person.row, Instrument.PHQ8, total, _column(person.row, "PHQ8_Binary", "PHQ_Binary"), items
            )
        except CorpusError as error:
            raise CorpusError(f"{person.table}: {error}") from None
        for repair in reading.repairs:
            self.note(repair.defect, f"{person.table}: {repair.field}", repair.before, repair.after, "label arithmetic")
        return reading.label

    def read_gender(self, person: _Person | None) -> str:
        code = person.row.get("Gender", "") if person else ""
        if code in self.config.gender_codes:
            return self.config.gender_codes[code]
        if person is not None:
            self.note(
                "unknown_gender", f"{person.table}: Gender", "a code without a meaning", "unknown", "gender_codes"
            )
        return "unknown"

    def read(self, path: AnyPath) -> Interview:
        transcript_name, audio_name = f"{self.id}_TRANSCRIPT.csv", f"{self.id}_AUDIO.wav"
        if path.suffix == ".zip":
            with SafeZip(resolve(self.roots, CORPUS_ROOT, path.name)) as archive:
                self._note_apple_doubles(archive.names())
                member = archive.find(transcript_name)
                if member is None:
                    raise CorpusError(f"{path.name}: {transcript_name} is missing in it")
                turns = self._read_turns(archive.read(member, MAX_TABLE_BYTES), transcript_name)
                audio = self._unpack(archive, audio_name)
        else:
            roots = self.roots
            resolve(roots, CORPUS_ROOT, path.name)
            self._note_apple_doubles([file.name for file in path.iterdir()])
            turns = self._read_turns(
                read_bytes(resolve(roots, CORPUS_ROOT, f"{path.name}/{transcript_name}")), transcript_name
            )
            relative = f"{path.name}/{audio_name}"
            audio = self._probe(resolve(roots, CORPUS_ROOT, relative), CORPUS_ROOT, relative)
        turns = self._repair_turns(turns, transcript_name, audio.duration_s)
        return Interview(self.id, f"daic:{self.id}", NAME, turns, (audio,), None)

    def _note_apple_doubles(self, names: Sequence[str]) -> None:
        count = sum(name.rsplit("/", 1)[-1].startswith("._") for name in names)
        if count:
            self.note("apple_double", "session files", f"{count} file(s) named ._*", "ignored")

    def _unpack(self, archive: SafeZip, audio_name: str) -> AudioFile:
        if self.unpack_to is None:
            raise CorpusError(f"{archive.path.name}: recordings in archives need a folder to be unpacked to")
        member = archive.find(audio_name)
        if member is None:
            raise CorpusError(f"{archive.path.name}: {audio_name} is missing in it")
        target = self.unpack_to / audio_name
        if not target.is_file() or target.stat().st_size != archive.size(member):
            archive.unpack(member, target, self.config.max_audio_bytes)
        return self._probe(target, MANIFEST_ROOT, f"{self.unpack_to.name}/{audio_name}")

    def _probe(self, file: AnyPath, root: str, relative: str) -> AudioFile:
        facts = probe(file)
        if facts.container not in ("WAV", "WAVEX"):
            self.note("mislabelled_audio", file.name, "named .wav", f"decoded as {facts.container}")
        return AudioFile(root, relative, facts.sample_rate_hz, facts.num_samples)

    def _read_turns(self, data: bytes, name: str) -> tuple[Turn, ...]:
        columns = ("start_time", "stop_time", "speaker", "value")
        table = parse_table(data, name, columns, delimiter="\t", quoted=False)
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
                self.note(defect, name, f"{counts[defect]} {before}", after)
        return tuple(turns)

    def _repair_turns(self, turns: tuple[Turn, ...], name: str, duration_s: float) -> tuple[Turn, ...]:
        if self.config.published_defects and self.id in OFFSETS_S:
            offset = OFFSETS_S[self.id]
            turns = tuple(replace(t, start_s=t.start_s + offset, stop_s=t.stop_s + offset) for t in turns)
            self.note("offset", name, "+0 s", f"+{offset} s", _PUBLISHED)
        if any(later.start_s < earlier.start_s for earlier, later in pairwise(turns)):
            self.note("rows_out_of_order", name, "times go backwards", "sorted by start")
        turns = tuple(sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s)))
        interviewer = [turn.start_s for turn in turns if turn.speaker is Speaker.INTERVIEWER]
        if not interviewer:
            self.note("no_interviewer", name, "no rows of the interviewer", "nothing dropped as chatter")
        else:
            cut = remove_span(turns, float("-inf"), interviewer[0])
            turns = self._note_cut(cut, "before_interviewer", name, f"up to {interviewer[0]:g} s")
        if self.config.published_defects and self.id in INTERRUPTIONS_S:
            start_s, stop_s = INTERRUPTIONS_S[self.id]
            cut = remove_span(turns, start_s, stop_s)
            self.note("interruption", name, f"{start_s:g}-{stop_s:g} s", _counted(cut), _PUBLISHED)
            turns = cut.turns
        if self.config.published_defects and self.id in NOTES:
            self.note(NOTES[self.id][0], "video", *NOTES[self.id][1:], _PUBLISHED)
        return self._note_cut(clip_to_recording(turns, duration_s), "past_end", name, f"outside 0-{duration_s:.3f} s")

    def _note_cut(self, cut: Cut, defect: str, name: str, span: str) -> tuple[Turn, ...]:
        if cut.touched:
            self.note(defect, name, f"turns {span}", _counted(cut))
        return cut.turns


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


def _counted(cut: Cut) -> str:
    return f"{cut.num_dropped} dropped, {cut.num_trimmed} trimmed"


def _find_sessions(root: UPath) -> dict[str, UPath]:
    """Session number → folder or archive, in the order of the numbers; a folder goes before an archive."""
    found: dict[str, UPath] = {}
    for path in sorted(root.iterdir(), key=lambda entry: entry.name, reverse=True):
        match = _SESSION.match(path.name)
        if match and (match[2] is not None or path.is_dir()):
            found[match[1]] = path
    return dict(sorted(found.items(), key=lambda pair: (int(pair[0]), pair[0])))


def _read_labels(root: UPath, name: str) -> Table:
    table = parse_table(read_bytes(resolve({CORPUS_ROOT: root}, CORPUS_ROOT, name)), name, ())
    if _column(dict.fromkeys(table.columns, ""), "Participant_ID", "participant_ID") is None:
        raise CorpusError(f"{name}: column Participant_ID is missing; is it the right table?")
    return table


def _merge(tables: Sequence[tuple[Table, Split]]) -> dict[str, _Person]:
    """Label rows by session number; of two tables of one split the first, which has the totals, is taken."""
    people: dict[str, _Person] = {}
    for table, split in tables:
        for line, row in enumerate(table.rows, start=2):
            number = to_whole_number(row[_column(row, "Participant_ID", "participant_ID") or ""])
            if number is None:
                raise CorpusError(f"{table.name}: row {line} has no whole number as Participant_ID; correct the row")
            earlier = people.get(str(number))
            if earlier is None:
                people[str(number)] = _Person(table.name, split, row)
            elif earlier.split is not split:
                raise CorpusError(
                    f"person daic:{number} is in two splits: {earlier.table} and {table.name}; remove one of the rows"
                )
            elif earlier.table == table.name and earlier.row != row:
                reason = f"{table.name}: two rows of Participant_ID={number} disagree; keep the right one"
                people[str(number)] = replace(earlier, duplicate=reason)
    return people


def _column(row: Mapping[str, str], *names: str) -> str | None:
    """The first of several spellings of a column that a table has."""
    return next((name for name in names if name in row), None)
