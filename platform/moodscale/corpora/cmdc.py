"""CMDC, the Chinese Multimodal Depression Corpus: 78 people, twelve recorded answers each, PHQ-9.

``CMDC_EULA/part{N}/{HC..|MDD..}/Q{1..12}.wav`` beside ``SubjectInfo.csv``. There is no interviewer in the recordings:
an answer is one turn that covers its whole file. What public code does not tell (names of transcripts and of visual
files, columns of items, gender codes, which question asks about which item) are settings and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from upath import UPath

from moodscale.corpora.base import CORPUS_ROOT, FolderCorpusConfig, InputFile, Reading
from moodscale.corpora.cmdc_person import FROM_ROOT, NAME, NUM_QUESTIONS, LabelRow, PersonReader, paths_of
from moodscale.corpora.patterns import check_pattern
from moodscale.corpora.reading.paths import resolve, why
from moodscale.corpora.reading.tables import Table, parse_table, read_bytes
from moodscale.schema import (
    CorpusError,
    Instrument,
    Quarantined,
    Repair,
)
from moodscale.storage import location

_INSTRUMENT = Instrument.PHQ9
_PART = re.compile(r"^part\d+$", re.IGNORECASE)
_PERSON = re.compile(r"^(HC|MDD)\d{1,9}\Z")
_PUBLISHED_MAP = "published are only questions 4, 6 → item 1 (interest), 9, 10 → item 2 (mood), 8 → item 9 (self-harm)"
_WORDS: dict[str, Literal["female", "male"]] = {
    "female": "female", "f": "female", "女": "female", "male": "male", "m": "male", "男": "male",
}  # fmt: skip


class CmdcConfig(FolderCorpusConfig):
    """How CMDC is read.

    ``question_items`` says which item of the PHQ-9 (1-9) each question (1-12) asks about. Work on single items needs
    it, so with ``item_columns`` it must be written: as a map, or as ``null`` by who wants items without questions.
    Without ``item_columns`` neither is needed.
    """

    kind: Literal["cmdc"] = "cmdc"
    info_table: str = Field(default="SubjectInfo.csv", description="label table, in the corpus' folder or CMDC_EULA")
    id_column: str = "ID"
    total_column: str = "PHQtotal"
    gender_column: str = "gender"
    item_columns: tuple[str, ...] = Field(
        default=(), description="the label table's nine item columns in the questionnaire's order; none: totals only"
    )
    question_items: dict[int, int] | None = Field(
        default=None, description="question 1-12 → item 1-9; required with item_columns"
    )
    gender_codes: dict[str, Literal["female", "male"]] = Field(
        default=_WORDS, description="what the table's gender codes mean; numbers are not documented with the corpus"
    )
    audio_pattern: str = Field(default="Q{question}.wav", description="recordings, as transcript_pattern")
    sample_rate_hz: int | None = Field(
        default=16_000, description="rate that recordings should have: others are read too, and noted; none: any"
    )
    transcript_pattern: str | None = Field(
        default=None,
        description="text of an answer, from the person's folder on, e.g. 'Q{question}.txt'; {person} is the id, and "
        "'{corpus}/' at the beginning means from the corpus' folder on; none: no transcripts",
    )
    transcript_encoding: Literal["utf-8", "gb18030"] = "utf-8"
    openface_pattern: str | None = Field(
        default=None,
        description="OpenFace tables, as transcript_pattern, e.g. 'openface/Q{question}.csv', or "
        "'{corpus}/visual/{person}.csv' where there is one a person; none: no visual features",
    )
    official_test: bool = Field(
        default=True, description="take the public code's 18 test people as the official split, the others as training"
    )

    @field_validator("audio_pattern", "transcript_pattern", "openface_pattern")
    @classmethod
    def _is_harmless(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        needed = ("question", "person") if info.field_name == "openface_pattern" else ("question",)
        check_pattern(value.removeprefix("{folder}/").removeprefix(FROM_ROOT), ("person", "question"), needed)
        return value

    @model_validator(mode="after")
    def _items_have_questions(self) -> CmdcConfig:
        wanted = _INSTRUMENT.num_items
        if self.item_columns and len(set(self.item_columns)) != wanted:
            raise ValueError(f"item_columns must name {wanted} different columns, one an item of the PHQ-9, in order")
        if self.item_columns and "question_items" not in self.model_fields_set:
            raise ValueError(
                f"question_items is required with item_columns: say which item each question asks about; "
                f"{_PUBLISHED_MAP}. The rest is yours to state; null reads items without their questions"
            )
        pairs = self.question_items or {}
        if unknown := sorted(question for question in pairs if not 1 <= question <= NUM_QUESTIONS):
            raise ValueError(f"question_items: there is no question {unknown[0]}; they are 1-{NUM_QUESTIONS}")
        if unknown := sorted(item for item in pairs.values() if not 1 <= item <= wanted):
            raise ValueError(f"question_items: there is no item {unknown[0]}; the PHQ-9's are 1-{wanted}")
        without = sorted(set(range(1, wanted + 1)) - set(pairs.values()))
        if self.question_items is not None and without:
            raise ValueError(
                f"question_items: no question for item(s) {', '.join(map(str, without))}; {_PUBLISHED_MAP}"
            )
        return self

    def open(self, unpack_to: UPath | None = None) -> Cmdc:
        return Cmdc(self)


class Cmdc:
    """An opened CMDC folder."""

    name = NAME

    def __init__(self, config: CmdcConfig) -> None:
        self.config = config
        self.root = location(config.path)
        if not self.root.is_dir():
            raise CorpusError(f"corpus.path={config.path}: no such folder; set it to where CMDC_EULA lies")
        base = next(folder for folder in (self.root / "CMDC_EULA", self.root) if folder.is_dir())
        self._folders = _find_people(self.root, base)
        if not self._folders:
            raise CorpusError(f"corpus.path={config.path}: no folder like CMDC_EULA/part1/HC01 or part1/HC01")
        self._table_path = self._find_table(base)
        self._table = self._read_table()
        self._rows = _by_person(self._table, config.id_column)
        for setting in ("transcript_pattern", "openface_pattern"):
            self._check_found(setting)

    @property
    def roots(self) -> Mapping[str, UPath]:
        return {CORPUS_ROOT: self.root}

    def interview_ids(self) -> Sequence[str]:
        return list(self._folders)

    def absent(self) -> Sequence[Repair]:
        return [
            Repair(NAME, id_, "absent_session", self._table.name, "label row", "no folder, left out", "label table")
            for id_ in sorted(self._rows.keys() - self._folders.keys(), key=_in_order)
        ]

    def approximations(self) -> Sequence[str]:
        config = self.config
        said = ["CMDC: an answer counts as speech from the first sample of its file to the last, pauses included."]
        if config.official_test:
            said.append(
                "CMDC: the public code's 18 test people (HC41-52, MDD21-26) are the test split and everybody else is "
                "training: it has no validation people. Set them apart by person (splits.validation), or use folds."
            )
        if config.transcript_pattern is None:
            said.append("CMDC: no transcripts were read (corpus.transcript_pattern is not set).")
        if config.openface_pattern is None:
            said.append("CMDC: no visual features were read (corpus.openface_pattern is not set).")
        if config.question_items is not None:
            pairs = ", ".join(f"{question}→{item}" for question, item in sorted(config.question_items.items()))
            said.append(f"CMDC: questions go to items as configured ({pairs}); {_PUBLISHED_MAP}.")
        return said

    def inputs(self) -> Iterator[InputFile]:
        yield InputFile(self._table_path, self._table.name, content=True)
        patterns = (self.config.audio_pattern, self.config.transcript_pattern, self.config.openface_pattern)
        for id_ in self._folders:
            paths = {path for pattern in patterns if pattern for path in self._paths(pattern, id_).values()}
            for relative in sorted(paths):
                yield InputFile(self.root / relative, relative)

    def read(self, interview_id: str) -> Reading:
        if interview_id not in self._folders:
            raise CorpusError(f"interview {interview_id!r} is not in the corpus at {self.config.path}")
        person = PersonReader(self.config, self.root, self._table.name, interview_id, self._folders[interview_id])
        where = self._table.name
        try:
            row = self._rows.get(interview_id)
            label, gender = person.read_label(row), person.read_gender(row)
            where = "session"
            interview = person.read(label, gender)
        except (CorpusError, OSError) as error:
            reason = str(error) if isinstance(error, CorpusError) else f"cannot be read ({why(error)})"
            lines = (*person.quarantined, Quarantined(NAME, interview_id, where, reason))
            return Reading(None, tuple(person.repairs), lines)
        return Reading(interview, tuple(person.repairs), tuple(person.quarantined))

    def _find_table(self, base: UPath) -> UPath:
        for folder in (self.root, base):
            if (folder / self.config.info_table).exists():
                return folder / self.config.info_table
        raise CorpusError(
            f"corpus.path={self.config.path}: there is no {self.config.info_table}; name the label table with "
            "corpus.info_table"
        )

    def _read_table(self) -> Table:
        relative = self._table_path.relative_to(self.root).as_posix()
        name = self._table_path.name
        table = parse_table(read_bytes(resolve(self.roots, CORPUS_ROOT, relative)), name, ())
        wanted = {"id_column": (self.config.id_column,), "total_column": (self.config.total_column,)}
        for setting, columns in (wanted | {"item_columns": self.config.item_columns}).items():
            if missing := [column for column in columns if column not in table.columns]:
                raise CorpusError(f"{name}: has no column {', '.join(missing)}; set corpus.{setting} to its own name")
        return table

    def _paths(self, pattern: str, id_: str) -> dict[int, str]:
        return paths_of(pattern, self._folders[id_][0], id_)

    def _check_found(self, setting: str) -> None:
        pattern = getattr(self.config, setting)
        if pattern is None:
            return
        paths = (path for id_ in self._folders for path in self._paths(pattern, id_).values())
        if not any((self.root / path).exists() for path in paths):
            raise CorpusError(
                f"corpus.{setting}={pattern}: finds no file of anybody in {self.config.path}; correct it, or leave it "
                "out to do without"
            )


def _find_people(root: UPath, base: UPath) -> dict[str, list[str]]:
    """Person → folders relative to the root (one, unless the corpus is damaged), in the order of the ids."""
    found: dict[str, list[str]] = {}
    parts = [folder for folder in base.iterdir() if _PART.match(folder.name) and folder.is_dir()]
    for part in sorted(parts, key=lambda folder: folder.name):
        for folder in sorted(part.iterdir(), key=lambda entry: entry.name):
            if _PERSON.match(folder.name) and folder.is_dir():
                found.setdefault(folder.name, []).append(folder.relative_to(root).as_posix())
    return dict(sorted(found.items(), key=lambda pair: _in_order(pair[0])))


def _by_person(table: Table, id_column: str) -> dict[str, LabelRow]:
    rows: dict[str, LabelRow] = {}
    for line, cells in enumerate(table.rows, start=2):
        id_ = cells[id_column].upper()
        if not id_:
            raise CorpusError(f"{table.name}: row {line} has no {id_column}; correct the row")
        if not _PERSON.match(id_):
            raise CorpusError(f"{table.name}: row {line}: {id_column} is not like HC01 or MDD01; correct the row")
        if id_ in rows and rows[id_].cells != cells:
            reason = f"{table.name}: two rows of {id_column}={id_} disagree; keep the right one"
            rows[id_] = LabelRow(cells, reason)
        rows.setdefault(id_, LabelRow(cells))
    return rows


def _in_order(id_: str) -> tuple[str, int, str]:
    digits = id_.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return id_.removesuffix(digits), int(digits) if digits.isdecimal() else 0, id_
