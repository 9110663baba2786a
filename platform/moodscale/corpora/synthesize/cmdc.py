"""CMDC as it comes: a folder a person, a recording a question, one table of subjects. PHQ-9, Mandarin."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from moodscale.corpora.synthesize.base import CorpusSynthesizer, PlantedDefect, SynthesisSummary, SynthesizeConfig
from moodscale.corpora.synthesize.choices import choose_feature_kinds, refuse_settings
from moodscale.corpora.synthesize.cmdc_defects import Plan, plan_defects, select
from moodscale.corpora.synthesize.cmdc_session import VISUAL_FOLDER, PersonTask, write_person
from moodscale.corpora.synthesize.directory import claim, finish
from moodscale.corpora.synthesize.files import APPLE_DOUBLE, Cell, write_table
from moodscale.corpora.synthesize.phrases_zh import QUESTION_ITEMS
from moodscale.corpora.synthesize.pool import choose_num_workers, run_all
from moodscale.corpora.synthesize.questionnaire import Answers, draw_answers, is_depressed, total
from moodscale.corpora.synthesize.severity import draw_disposition

_LOG = logging.getLogger(__name__)

NUM_ITEMS = 9
ITEM_COLUMNS = tuple(f"PHQ{number}" for number in range(1, NUM_ITEMS + 1))
SUBJECT_COLUMNS = ("ID", "PHQtotal", "gender", "age", *ITEM_COLUMNS)
SUBJECT_TABLE = "SubjectInfo.csv"
GENDER_CODES = {"male": "M", "female": "F"}
TRANSCRIPT_PATTERN = "{folder}/Q{question}.txt"
OPENFACE_PATTERN = f"{{folder}}/{VISUAL_FOLDER}/Q{{question}}.csv"
"""From the corpus' folder on; ``{folder}`` is a person's. The item columns, these two names and the gender codes are
this synthesiser's own: what the real corpus has was not found in public."""
PEOPLE_A_PART = 20

_MDD_SHARE = 26 / 78
_FIRST_TEST = {"HC": 41, "MDD": 21}
"""Public code takes people from these numbers on for its test; there is no validation split."""
_MDD_STREAMS = 1000
"""Added to an MDD's number, so that MDD01 and HC01 draw from streams of their own."""
_ANSWER_STREAM, _GENDER_STREAM, _AGE_STREAM, _DISPOSITION_STREAM, _LABEL_STREAM = range(40, 45)
_OUT_OF_RANGE = 28
_PAUSES_S = 2.0
"""A recording's edges and pauses, about: an answer takes this much more time to make than it is asked to last."""


@dataclass(frozen=True)
class Subject:
    """Somebody who does not exist. ``group`` is why they were recruited, which is not their label."""

    group: Literal["HC", "MDD"]
    place: int
    gender: str
    age: int
    answers: Answers = field(repr=False)

    @property
    def interview_id(self) -> str:
        return f"{self.group}{self.place:02d}"

    @property
    def number(self) -> int:
        return self.place + (_MDD_STREAMS if self.group == "MDD" else 0)

    @property
    def split(self) -> str:
        return "test" if self.place >= _FIRST_TEST[self.group] else "train"


class CmdcSynthesizer(CorpusSynthesizer):
    """``synthesize cmdc``: 78 people are HC01-52 and MDD01-26, as in the real corpus."""

    kind: Literal["cmdc"] = "cmdc"

    def synthesize(self, config: SynthesizeConfig) -> SynthesisSummary:
        kinds = choose_feature_kinds(config, ("openface",), ("openface",), by_habit=True)
        refuse_settings(config, self.kind, "archives", "acoustic_hz", "format", "unlabelled_share")
        selected = select(config, kinds)
        ids = choose_ids(config.num_participants)
        names = [f"{group}{place:02d}" for group, place in ids]
        defects = plan_defects(
            selected, [one for one in names if one.startswith("HC")], [one for one in names if one.startswith("MDD")]
        )
        already = claim(config, self.kind)
        if already is not None:
            _LOG.info("%s: already there, nothing to do", config.out)
            return already
        started = time.perf_counter()
        subjects = [
            draw_subject(config.seed, group, place, "group_contradicts_total" in defects.of(name))
            for (group, place), name in zip(ids, names, strict=True)
        ]
        planted = _write_subject_table(config, subjects, defects)
        tasks = [
            _plan_person(config, subject, defects, index // PEOPLE_A_PART + 1, bool(kinds))
            for index, subject in enumerate(subjects)
        ]
        num_answers = len(QUESTION_ITEMS)
        total_s = sum(num_answers * (task.answer_s + _PAUSES_S) for task in tasks)
        results = list(run_all(write_person, tasks, choose_num_workers(config.num_workers, total_s)))
        planted += [one for result in results for one in result.planted]
        audio_s = round(sum(result.audio_s for result in results), 3)
        summary = SynthesisSummary(
            out=config.out,
            num_participants=len(subjects),
            num_depressed=sum(is_depressed(subject.answers) for subject in subjects),
            split_sizes={name: sum(subject.split == name for subject in subjects) for name in ("train", "test")},
            audio_s=audio_s,
            participant_s=audio_s,
            elapsed_s=round(time.perf_counter() - started, 3),
            planted=tuple(sorted(planted, key=lambda one: (one.interview_id, one.defect))),
        )
        finish(config, self.kind, summary)
        _LOG.info("%s: %d participants, %.1f h of audio", config.out, len(subjects), summary.audio_s / 3600)
        return summary


def choose_ids(num_participants: int) -> list[tuple[Literal["HC", "MDD"], int]]:
    """Group and number of everyone, a third of them MDD."""
    num_depressed = round(num_participants * _MDD_SHARE)
    return [
        *(("HC", place) for place in range(1, num_participants - num_depressed + 1)),
        *(("MDD", place) for place in range(1, num_depressed + 1)),
    ]


def draw_subject(seed: int, group: Literal["HC", "MDD"], place: int, contradicts: bool) -> Subject:
    """A person whose total fits why they were recruited, or contradicts it."""
    number = place + (_MDD_STREAMS if group == "MDD" else 0)
    answers_rng, gender_rng, age_rng = (
        np.random.default_rng([seed, number, stream]) for stream in (_ANSWER_STREAM, _GENDER_STREAM, _AGE_STREAM)
    )
    is_wanted = (group == "MDD") is not contradicts
    while True:
        answers = tuple(int(answer) for answer in draw_answers(answers_rng, 1, NUM_ITEMS)[0])
        if is_depressed(answers) is is_wanted:
            gender = "female" if gender_rng.random() < 0.5 else "male"
            return Subject(group, place, gender, int(age_rng.integers(18, 60)), answers)


def _plan_person(config: SynthesizeConfig, subject: Subject, defects: Plan, part: int, visual: bool) -> PersonTask:
    rng = np.random.default_rng([config.seed, subject.number, _DISPOSITION_STREAM])
    return PersonTask(
        interview_id=subject.interview_id,
        number=subject.number,
        seed=config.seed,
        gender=subject.gender,
        disposition=draw_disposition(rng, subject.answers, config.effect),
        answer_s=60 * config.minutes / len(QUESTION_ITEMS),
        folder=config.out / "CMDC_EULA" / f"part{part}" / subject.interview_id,
        visual_hz=config.visual_hz if visual else 0.0,
        defects=defects.of(subject.interview_id),
        broken_audio=defects.broken_audio.get(subject.interview_id),
    )


def _write_subject_table(config: SynthesizeConfig, subjects: Sequence[Subject], defects: Plan) -> list[PlantedDefect]:
    rows, planted = list[list[Cell]](), list[PlantedDefect]()
    for subject in subjects:
        row, of_row = _subject_row(config.seed, subject, defects.of(subject.interview_id))
        rows.append(row)
        planted += of_row
    if "absent_session" in defects.selected:
        place = 1 + max(subject.place for subject in subjects if subject.group == "HC")
        absent = draw_subject(config.seed, "HC", place, contradicts=False)
        rows.append(_subject_row(config.seed, absent, frozenset())[0])
        planted.append(PlantedDefect(absent.interview_id, "absent_session", f"named in {SUBJECT_TABLE}"))
    write_table(config.out / SUBJECT_TABLE, SUBJECT_COLUMNS, rows)
    if "apple_double" in defects.selected:
        (config.out / f"._{SUBJECT_TABLE}").write_bytes(APPLE_DOUBLE)
    return planted


def _subject_row(seed: int, subject: Subject, defects: frozenset[str]) -> tuple[list[Cell], list[PlantedDefect]]:
    rng = np.random.default_rng([seed, subject.number, _LABEL_STREAM])
    score, items, planted = total(subject.answers), list[Cell](subject.answers), list[PlantedDefect]()
    place = int(rng.integers(NUM_ITEMS))

    def note(defect: str, detail: str) -> None:
        planted.append(PlantedDefect(subject.interview_id, defect, detail))

    if "group_contradicts_total" in defects:
        note("group_contradicts_total", f"{subject.group} with PHQtotal {score}")
    if "blank_item" in defects:
        note("blank_item", f"{ITEM_COLUMNS[place]} blank, total {score}, other items {score - subject.answers[place]}")
        items[place] = ""
    if "items_do_not_add_up" in defects:
        changed = subject.answers[place] - 1 if subject.answers[place] else 1
        note("items_do_not_add_up", f"items sum to {score - subject.answers[place] + changed}, total {score}")
        items[place] = changed
    if "total_out_of_range" in defects:
        score = _OUT_OF_RANGE
        note("total_out_of_range", f"PHQtotal is {_OUT_OF_RANGE}")
    return [subject.interview_id, score, GENDER_CODES[subject.gender], subject.age, *items], planted
