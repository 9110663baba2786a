"""E-DAIC's five label tables: three splits, and two tables of items that do not quite agree on how to spell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from moodscale.corpora.synthesize.base import PlantedDefect
from moodscale.corpora.synthesize.edaic_defects import ABSENT, Plan, spoil_item
from moodscale.corpora.synthesize.files import APPLE_DOUBLE, Cell, write_table
from moodscale.corpora.synthesize.people import Person, draw_person
from moodscale.corpora.synthesize.questionnaire import Answers, is_depressed, total

SPLITS = ("train", "dev", "test")
SPLIT_COLUMNS = ("Participant_ID", "Gender", "PHQ_Binary", "PHQ_Score", "PCL-C (PTSD)", "PTSD Severity")
DETAILED_COLUMNS = (
    "Participant_ID", "PHQ_8NoInterest", "PHQ_8Depressed", "PHQ_8Sleep", "PHQ_8Tired", "PHQ_8Appetite",
    "PHQ_8Failure", "PHQ_8Concentrating", "PHQ_8Moving", "PHQ_8Total",
)  # fmt: skip
LABLES_COLUMNS = (
    "Participant", "gender", "age", "split", "Depression_severity", "Depression_label", "PTSD_severity", "PTSD_label",
    "PHQ8_1_NoInterest", "PHQ8_2_Depressed", "PHQ8_3_Sleep", "PHQ8_4_Tired", "PHQ8_5_Appetite", "PHQ8_6_Failure",
    "PHQ8_7_Concentration", "PHQ8_8_Psychomotor",
)  # fmt: skip
DETAILED_TABLE, LABLES_TABLE = "Detailed_PHQ8_Labels.csv", "detailed_lables.csv"

_STREAM = 22
_PTSD_FROM = 44
_OUT_OF_RANGE = 7


def write_label_tables(
    folder: Path, seed: int, people: Sequence[Person], splits: Mapping[int, str], plan: Plan
) -> list[PlantedDefect]:
    """Write all five tables; what was planted in them."""
    planted: list[PlantedDefect] = []
    splits = dict(splits)
    if "absent_session" in plan.selected:
        people = sorted(
            [*people, *(draw_person(seed, one, {}) for one in ABSENT)], key=lambda person: person.interview_id
        )
        splits |= dict.fromkeys(ABSENT, "train")
        planted += [PlantedDefect(str(one), "absent_session", "named in train_split.csv") for one in ABSENT]
    detailed, lables = list[list[Cell]](), list[list[Cell]]()
    rows: dict[str, list[list[Cell]]] = {split: [] for split in SPLITS}
    for person in people:
        split = splits[person.interview_id]
        row, of_split = _split_row(seed, person, plan)
        rows[split].append(row)
        tables, of_items = _item_answers(seed, person, plan)
        planted += of_split + of_items
        severity, label = row[5], row[4]
        lables.append(
            [person.interview_id, person.gender, _age(seed, person), split, total(person.answers),
             int(is_depressed(person.answers)), severity, label, *tables[1]]
        )  # fmt: skip
        if split != "test":
            detailed.append([person.interview_id, *tables[0], total(person.answers)])
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        write_table(folder / f"{split}_split.csv", SPLIT_COLUMNS, rows[split])
    write_table(folder / DETAILED_TABLE, DETAILED_COLUMNS, detailed)
    write_table(folder / LABLES_TABLE, LABLES_COLUMNS, lables)
    if "apple_double" in plan.selected:
        (folder / "._train_split.csv").write_bytes(APPLE_DOUBLE)
    return planted


def _split_row(seed: int, person: Person, plan: Plan) -> tuple[list[Cell], list[PlantedDefect]]:
    rng = np.random.default_rng([seed, person.interview_id, _STREAM, 0])
    planted = []
    gender, score, binary = person.gender, total(person.answers), int(is_depressed(person.answers))
    ptsd = int(np.clip(round(17 + 1.7 * score + 9 * rng.standard_normal()), 17, 85))
    if plan.has(person.interview_id, "stray_spaces"):
        gender = f" {gender}" if rng.random() < 0.5 else f"{gender}  "
        planted.append(PlantedDefect(str(person.interview_id), "stray_spaces", f"{len(gender)} characters"))
    if plan.has(person.interview_id, "binary_contradicts_score"):
        binary = 1 - binary
        detail = f"PHQ_Score {score}, PHQ_Binary {binary}"
        planted.append(PlantedDefect(str(person.interview_id), "binary_contradicts_score", detail))
    return [person.interview_id, gender, binary, score, int(ptsd >= _PTSD_FROM), ptsd], planted


def _item_answers(seed: int, person: Person, plan: Plan) -> tuple[tuple[Answers, Answers], list[PlantedDefect]]:
    """A person's items for ``Detailed_PHQ8_Labels.csv`` and for ``detailed_lables.csv``."""
    rng = np.random.default_rng([seed, person.interview_id, _STREAM, 1])
    detailed = lables = person.answers
    planted = []

    def note(defect: str, detail: str) -> None:
        planted.append(PlantedDefect(str(person.interview_id), defect, detail))

    if plan.has(person.interview_id, "label_out_of_range"):
        detailed = lables = (_OUT_OF_RANGE, *person.answers[1:])
        note("label_out_of_range", f"{LABLES_COLUMNS[8]} is {_OUT_OF_RANGE}")
    if plan.has(person.interview_id, "items_do_not_add_up"):
        detailed = lables = spoil_item(person.answers, rng)
        note("items_do_not_add_up", f"items sum to {sum(lables)}, total {total(person.answers)}")
    if plan.has(person.interview_id, "item_tables_disagree"):
        detailed = spoil_item(lables, rng)
        place = next(index for index, (a, b) in enumerate(zip(detailed, lables, strict=True)) if a != b)
        note("item_tables_disagree", f"{DETAILED_COLUMNS[1 + place]} {detailed[place]}, {lables[place]}")
    return (detailed, lables), planted


def _age(seed: int, person: Person) -> int:
    return int(np.random.default_rng([seed, person.interview_id, _STREAM, 2]).integers(18, 70))
