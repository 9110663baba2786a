"""E-DAIC: 275 interviews, part of them led by an automatic interviewer, PHQ-8 (DeVault et al. 2014; AVEC 2019).

Sessions lie as folders ``300_P/`` or archives ``300_P.tar.gz``, in ``data/`` or at the top; archives are read where
they are. The transcripts are a recogniser's and name no speaker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field, field_validator
from upath import UPath

from moodscale.corpora.reading.ledger import Ledger, note_cells
from moodscale.corpora.reading.people import PersonRow, column, read_people, rows_by_number
from moodscale.corpora.reading.session_corpus import (
    FeatureKind,
    Gender,
    Layout,
    SessionCorpus,
    SessionCorpusConfig,
    check_features,
    first_there,
    gender_of,
    known_person,
    label_of,
    read_table,
)
from moodscale.corpora.reading.tables import is_blank, parse_table, to_number, to_whole_number
from moodscale.corpora.reading.turns import separate
from moodscale.schema import CorpusError, Label, Repair, Speaker, Split, Turn

NAME = "edaic"

LAYOUT = Layout(
    name=NAME,
    title="E-DAIC",
    folders=("data", ""),
    transcripts=("{id}_Transcript.csv", "{id}_TRANSCRIPT.csv", "{id}_transcript.csv"),
    past_end="time_past_end",
    example="300_P or 300_P.tar.gz, there or in data/",
    features=(
        FeatureKind("openface", "edaic.openface", "OpenFace2.1.0_Pose_gaze_AUs.csv"),
        FeatureKind("egemaps", "edaic.egemaps", "OpenSMILE2.3.0_egemaps.csv"),
        FeatureKind("mfcc", "edaic.mfcc", "OpenSMILE2.3.0_mfcc.csv"),
        FeatureKind("boaw_egemaps", "edaic.boaw", "BoAW_openSMILE_2.3.0_eGeMAPS.csv"),
        FeatureKind("boaw_mfcc", "edaic.boaw", "BoAW_openSMILE_2.3.0_MFCC.csv"),
        FeatureKind("bovw", "edaic.bovw", "BoVW_openFace_2.1.0_Pose_Gaze_AUs.csv"),
        FeatureKind("resnet", "edaic.mat", "CNN_ResNet.mat"),
        FeatureKind("vgg", "edaic.mat", "CNN_VGG.mat"),
        FeatureKind("densenet201", "edaic.cnn_csv", "densenet201.csv"),
        FeatureKind("vgg16", "edaic.cnn_csv", "vgg16.csv"),
    ),
)

_SPLITS = (
    ("train_split.csv", Split.TRAIN),
    ("dev_split.csv", Split.VALIDATION),
    ("test_split.csv", Split.TEST),
)
_IDS = ("Participant_ID", "Participant", "participant_ID")
_WIZARD_IDS, _AUTOMATIC_IDS = range(300, 493), range(600, 719)


@dataclass(frozen=True)
class ItemTable:
    """A table of single answers: its columns in the questionnaire's order, and the one with the total."""

    file: str
    items: tuple[str, ...]
    total: str


DETAILED_LABLES = ItemTable(
    "detailed_lables.csv",
    tuple(
        f"PHQ8_{number}_{item}"
        for number, item in enumerate(
            ("NoInterest", "Depressed", "Sleep", "Tired", "Appetite", "Failure", "Concentration", "Psychomotor"), 1
        )
    ),
    "Depression_severity",
)
"""Everybody's answers, spelt as the corpus has it: taken where it is there."""
DETAILED_LABELS = ItemTable(
    "Detailed_PHQ8_Labels.csv",
    tuple(
        f"PHQ_8{item}"
        for item in ("NoInterest", "Depressed", "Sleep", "Tired", "Appetite", "Failure", "Concentrating", "Moving")
    ),
    "PHQ_8Total",
)
"""Train and development people's answers."""


class EdaicConfig(SessionCorpusConfig):
    kind: Literal["edaic"] = "edaic"
    gender_codes: dict[str, Gender] = Field(
        default={"male": "male", "female": "female"}, description="what the tables' genders mean, in lower case"
    )
    min_confidence: float = Field(
        default=0.0, ge=0, le=1, description="rows that the recogniser was less sure of are dropped with their audio"
    )

    @field_validator("features")
    @classmethod
    def _known_features(cls, features: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return check_features(features, LAYOUT)

    def open(self, unpack_to: UPath | None = None) -> Edaic:
        return Edaic(self, unpack_to)


class Edaic(SessionCorpus):
    """An opened E-DAIC folder."""

    layout = LAYOUT

    def __init__(self, config: EdaicConfig, unpack_to: UPath | None = None) -> None:
        self.config = config
        self._items: dict[str, dict[str, tuple[int, Mapping[str, str]]]] = {}
        super().__init__(config, unpack_to)

    def absent(self) -> Sequence[Repair]:
        def line(defect: str, name: str, after: str) -> Repair:
            return Repair(NAME, "", defect, name, "expected", after, "corpus layout")

        there = {path.rpartition("/")[2] for path in self._tables}
        lines = [
            line("absent_label_table", name, "missing, its people have no label")
            for name, _ in _SPLITS
            if name not in there
        ]
        if DETAILED_LABLES.file not in self._items:
            used = self._item_table
            instead = "no items" if used is None else f"items of train and validation from {used.file}"
            lines.append(line("absent_item_table", DETAILED_LABLES.file, f"missing, {instead}"))
        return [*super().absent(), *lines]

    def approximations(self) -> Sequence[str]:
        numbers = [int(id_) for id_ in self.interview_ids()]
        num_wizard = sum(number in _WIZARD_IDS for number in numbers)
        num_automatic = sum(number in _AUTOMATIC_IDS for number in numbers)
        used = self._item_table
        items = "no table of items is there" if used is None else f"items are those of {used.file}"
        return (
            "E-DAIC: the transcript names no speaker, so every row counts as the participant's; the interviewer's "
            "speech leaks in, and participant-only speech is approximate.",
            f"E-DAIC: sessions led by a person at the controls (300-492, {num_wizard} here) and by an automatic "
            f"interviewer (600-718, {num_automatic} here) differ; train and validation mix both, the official test "
            "split is all automatic.",
            "E-DAIC: words and times are a speech recogniser's, with its errors.",
            f"E-DAIC: {items}.",
        )

    @property
    def _item_table(self) -> ItemTable | None:
        return next((table for table in (DETAILED_LABLES, DETAILED_LABELS) if table.file in self._items), None)

    def _read_tables(self) -> tuple[Sequence[str], dict[str, PersonRow]]:
        places = {
            name: first_there(self.root, f"labels/{name}", name)
            for name in (*(name for name, _ in _SPLITS), DETAILED_LABLES.file, DETAILED_LABELS.file)
        }
        paths = [path for path in places.values() if path is not None]
        splits = [(path, split) for name, split in _SPLITS if (path := places[name]) is not None]
        if not splits:
            names = ", ".join(name for name, _ in _SPLITS)
            raise CorpusError(f"corpus.path={self.config.path}: none of the label tables {names}, there or in labels/")
        for items in (DETAILED_LABLES, DETAILED_LABELS):
            path = places[items.file]
            if path is not None:
                self._items[items.file] = rows_by_number(read_table(self.roots, path, items.items), *_IDS)
        people = read_people([(read_table(self.roots, path), split) for path, split in splits], _IDS, "daic")
        return paths, people

    def _label(self, person: PersonRow | None, ledger: Ledger) -> Label | None:
        if not known_person(person, ledger):
            return None
        assert person is not None
        number = str(to_whole_number(person.row[column(person.row, *_IDS) or ""]))
        if person.padded:
            ledger.note("stray_spaces", f"{person.table}: {', '.join(person.padded)}", "spaces around it", "taken off")
        rows = {file: rows[number][1] for file, rows in self._items.items() if number in rows}
        used = next((table for table in (DETAILED_LABLES, DETAILED_LABELS) if table.file in rows), None)
        row, items = dict(person.row), tuple[str, ...]()
        total = column(row, "PHQ_Score", "PHQ8_Score")
        if used is not None:
            items = used.items
            row |= {name: rows[used.file][name] for name in items}
            if total is None and used.total in rows[used.file]:
                total = used.total
                row[total] = rows[used.file][total]
            self._compare(rows, row, total, ledger)
        known = replace(person, row=row)
        binary = column(row, "PHQ_Binary", "PHQ8_Binary")
        return label_of(known, total, binary, items, ledger, used.file if used else "")

    def _compare(
        self, rows: Mapping[str, Mapping[str, str]], row: Mapping[str, str], total: str | None, ledger: Ledger
    ) -> None:
        """Lines for what the tables say differently of one person."""
        taken, other = rows.get(DETAILED_LABLES.file), rows.get(DETAILED_LABELS.file)
        if taken is not None and other is not None:
            differing = [
                (left, right)
                for left, right in zip(DETAILED_LABELS.items, DETAILED_LABLES.items, strict=True)
                if _shown(other[left]) != _shown(taken[right])
            ]
            if differing:
                ledger.note(
                    "item_tables_disagree",
                    f"{DETAILED_LABELS.file}, {DETAILED_LABLES.file}",
                    ", ".join(f"{left} {_shown(other[left])}" for left, _ in differing),
                    ", ".join(f"{right} {_shown(taken[right])}" for _, right in differing),
                    f"{DETAILED_LABLES.file} goes before",
                )
        for table in (DETAILED_LABLES, DETAILED_LABELS):
            stated = rows.get(table.file, {}).get(table.total, "")
            if total is not None and not is_blank(stated) and _shown(stated) != _shown(row[total]):
                ledger.note(
                    "totals_disagree", f"{table.file}: {table.total}", _shown(stated), f"{total} {_shown(row[total])}"
                )

    def _gender(self, person: PersonRow | None, ledger: Ledger) -> str:
        code = person.row.get("Gender", "").lower() if person else None
        return gender_of(person, code, self.config.gender_codes, ledger)

    def _turns(self, interview_id: str, data: bytes, name: str, ledger: Ledger) -> tuple[Turn, ...]:
        if b"\t" in data.split(b"\n", 1)[0]:
            raise CorpusError(
                f"{name}: is separated by tabs, as DAIC-WOZ's transcripts are: on a disk that does not tell capital "
                "letters apart one corpus overwrote the other's; fetch it again into a folder of its own"
            )
        table = parse_table(data, name, ("Start_Time", "End_Time", "Text"), speech=True)
        note_cells(table, ledger)
        turns: list[Turn] = []
        counts: dict[str, int] = {}
        for row in table.rows:
            turn, defect = self._row(row)
            if turn is not None:
                turns.append(turn)
            else:
                counts[defect] = counts.get(defect, 0) + 1
        for defect, before in _ROW_DEFECTS.items():
            if defect in counts:
                ledger.note(defect, name, f"{counts[defect]} {before}", "dropped with their audio")
        separated = separate(turns)
        if separated.num_backward or separated.num_overlapping:
            ledger.note(
                "backward_times",
                name,
                f"{separated.num_backward} row(s) start before the one before them, {separated.num_overlapping} end "
                "after the next begins",
                "sorted by start, overlaps clipped",
            )
        return separated.turns

    def _row(self, row: Mapping[str, str]) -> tuple[Turn | None, str]:
        start_s, stop_s = to_number(row["Start_Time"]), to_number(row["End_Time"])
        if start_s is None or stop_s is None or is_blank(row["Text"]):
            return None, "blank_row"
        if stop_s <= start_s:
            return None, "bad_time"
        confidence = to_number(row.get("Confidence", ""))
        if confidence is not None and confidence < self.config.min_confidence:
            return None, "low_confidence"
        return Turn(Speaker.PARTICIPANT, start_s, stop_s, row["Text"]), ""


_ROW_DEFECTS = {
    "blank_row": "row(s) without time or words",
    "bad_time": "row(s) that end before they start",
    "low_confidence": "row(s) below min_confidence",
}


def _shown(cell: str) -> str:
    """A cell as it may be quoted and compared: a number, or the fact that it is none."""
    number = to_whole_number(cell)
    return str(number) if number is not None else "blank" if is_blank(cell) else "(not a whole number)"
