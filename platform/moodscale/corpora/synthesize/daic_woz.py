"""DAIC-WOZ as it comes: 16 kHz recordings, tab-separated transcripts, four label tables that each differ."""

from __future__ import annotations

import logging
import shutil
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.audio import write_audio
from moodscale.corpora.synthesize.base import CorpusSynthesizer, PlantedDefect, SynthesisSummary, SynthesizeConfig
from moodscale.corpora.synthesize.choices import choose_feature_kinds, refuse_settings
from moodscale.corpora.synthesize.daic_woz_features import DEFAULT_KINDS as DEFAULT_FEATURE_KINDS
from moodscale.corpora.synthesize.daic_woz_features import KINDS as FEATURE_KINDS
from moodscale.corpora.synthesize.daic_woz_features import write_features
from moodscale.corpora.synthesize.defects import (
    ABSENT,
    NEEDED_MINUTES,
    VIDEO_ENDS_EARLY,
    SessionDefects,
    avoided_sessions,
    forced_answers,
    needed_sessions,
    plan_defects,
    select,
    spoil_transcript,
)
from moodscale.corpora.synthesize.directory import claim, finish
from moodscale.corpora.synthesize.files import APPLE_DOUBLE, add_apple_doubles, write_table
from moodscale.corpora.synthesize.people import Person, draw_person, draw_person_disposition
from moodscale.corpora.synthesize.pool import choose_num_workers, run_all
from moodscale.corpora.synthesize.questionnaire import is_depressed, total
from moodscale.corpora.synthesize.session import Session, SessionPlan, render_session

_LOG = logging.getLogger(__name__)

_FIRST_ID = 300
_SPLIT_SIZES = (107, 35, 47)
"""Train, development and test people of the real corpus: the proportions of ours."""
_ITEM_COLUMNS = ("PHQ8_NoInterest", "PHQ8_Depressed", "PHQ8_Sleep", "PHQ8_Tired", "PHQ8_Appetite", "PHQ8_Failure",
                 "PHQ8_Concentrating", "PHQ8_Moving")  # fmt: skip
_SLEEP = _ITEM_COLUMNS.index("PHQ8_Sleep")
_TRAIN_TABLE = "train_split_Depression_AVEC2017.csv"
_DEV_TABLE = "dev_split_Depression_AVEC2017.csv"
_TEST_TABLE = "test_split_Depression_AVEC2017.csv"
_FULL_TEST_TABLE = "full_test_split.csv"
_GENDER_CODE = {"male": 0, "female": 1}
_SPLIT_STREAM, _FEATURE_STREAM = 13, 21
_VIDEO_MISSING_S = 120.0
_FIXED_TIME = (2000, 1, 1, 0, 0, 0)

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class SessionTask:
    """One session to speak and write, as a worker process gets it."""

    plan: SessionPlan
    defects: SessionDefects
    out: Path
    archive: bool
    feature_kinds: tuple[str, ...] = ()
    visual_hz: float = 0.0


@dataclass(frozen=True)
class SessionResult:
    audio_s: float
    participant_s: float
    planted: tuple[PlantedDefect, ...]


class DaicWozSynthesizer(CorpusSynthesizer):
    """``synthesize daic_woz``: 189 participants with all defects have the ids and split sizes of the real corpus."""

    kind: Literal["daic_woz"] = "daic_woz"

    def synthesize(self, config: SynthesizeConfig) -> SynthesisSummary:
        selected = select(config.defects)
        if selected and config.minutes < NEEDED_MINUTES:
            raise ConfigError(f"minutes={config.minutes} is too short to plant defects; take at least {NEEDED_MINUTES}")
        kinds = choose_feature_kinds(config, FEATURE_KINDS, DEFAULT_FEATURE_KINDS, by_habit=False)
        refuse_settings(config, self.kind, "acoustic_hz", "format", "unlabelled_share")
        ids = choose_ids(config.num_participants, needed_sessions(selected), avoided_sessions(selected))
        defects = plan_defects(selected, ids)
        already = claim(config, self.kind)
        if already is not None:
            _LOG.info("%s: already there, nothing to do", config.out)
            return already
        started = time.perf_counter()
        forced = forced_answers(selected)
        people = [draw_person(config.seed, interview_id, forced) for interview_id in ids]
        splits = split_people(people, config.seed, in_train=set(forced))
        planted = _write_label_tables(config, people, splits, selected)
        tasks = [_plan_session(config, person, defects.get(person.interview_id), kinds) for person in people]
        results = _write_sessions(tasks, choose_num_workers(config.num_workers, sum(t.plan.duration_s for t in tasks)))
        planted += [one for result in results for one in result.planted]
        summary = SynthesisSummary(
            out=config.out,
            num_participants=len(people),
            num_depressed=sum(is_depressed(person.answers) for person in people),
            split_sizes={name: sum(split == name for split in splits.values()) for name in ("train", "dev", "test")},
            audio_s=round(sum(result.audio_s for result in results), 3),
            participant_s=round(sum(result.participant_s for result in results), 3),
            elapsed_s=round(time.perf_counter() - started, 3),
            planted=tuple(sorted(planted, key=lambda one: (one.interview_id, one.defect))),
        )
        finish(config, self.kind, summary)
        _LOG.info(
            "%s: %d participants, %.1f h of audio, %.0f times real time",
            config.out, len(people), summary.audio_s / 3600, summary.real_time_factor,
        )  # fmt: skip
        return summary


def choose_ids(num_participants: int, needed: set[int], avoided: set[int]) -> list[int]:
    """Ascending ids from 300 without the avoided ones; as few as it takes give way to the needed ones.

    Raises:
        ConfigError: fewer participants than sessions that the defects name.
    """
    if len(needed) > num_participants:
        raise ConfigError(
            f"num_participants={num_participants} is too few: the defects asked for lie in {len(needed)} sessions"
        )
    chosen, candidate = set(needed), _FIRST_ID
    while len(chosen) < num_participants:
        if candidate not in avoided:
            chosen.add(candidate)
        candidate += 1
    return sorted(chosen)


def split_people(people: Sequence[Person], seed: int, in_train: set[int]) -> dict[int, Split]:
    """Split by id, in the real corpus' proportions, the depressed spread alike.

    Args:
        in_train: ids whose label defect needs the tables that have items.
    """
    rng = np.random.default_rng([seed, 0, _SPLIT_STREAM])
    order = [people[index] for index in rng.permutation(len(people))]
    order.sort(key=lambda person: person.interview_id in in_train)
    num_dev, num_test = (round(len(people) * size / sum(_SPLIT_SIZES)) for size in _SPLIT_SIZES[1:])
    splits: dict[int, Split] = {person.interview_id: "train" for person in people}
    groups = [[person for person in order if is_depressed(person.answers) is depressed] for depressed in (True, False)]
    for split, num_wanted in (("test", num_test), ("dev", num_dev)):
        num_first = min(round(num_wanted * len(groups[0]) / max(len(groups[0]) + len(groups[1]), 1)), len(groups[0]))
        for group, num_taken in zip(groups, (num_first, num_wanted - num_first), strict=True):
            for person in group[:num_taken]:
                splits[person.interview_id] = "test" if split == "test" else "dev"
            del group[:num_taken]
    return splits


def _plan_session(
    config: SynthesizeConfig, person: Person, defects: SessionDefects | None, kinds: tuple[str, ...]
) -> SessionTask:
    defects = defects or SessionDefects()
    # A transcript that is early by this much must not begin before the recording does.
    lead_in_s = 1.5 + defects.offset_s
    plan = SessionPlan(
        interview_id=person.interview_id,
        seed=config.seed,
        gender=person.gender,
        disposition=draw_person_disposition(config.seed, person, config.effect),
        duration_s=60 * config.minutes + defects.offset_s,
        lead_in_s=lead_in_s,
        chatter=defects.chatter,
        interruption_s=defects.interruption_s,
    )
    return SessionTask(plan, defects, config.out, config.archives, kinds, config.visual_hz)


def _write_sessions(tasks: Sequence[SessionTask], num_workers: int) -> list[SessionResult]:
    results = []
    for result in run_all(write_session, tasks, num_workers):
        results.append(result)
        if len(results) % 25 == 0:
            _LOG.info("%d of %d sessions", len(results), len(tasks))
    return results


def write_session(task: SessionTask) -> SessionResult:
    """Speak one session and write its folder or archive; what an interrupted run left of it is replaced."""
    interview_id, defects = task.plan.interview_id, task.defects
    spoken = render_session(task.plan)
    cells, planted = spoil_transcript(interview_id, spoken, defects)
    folder = task.out / f"{interview_id}_P"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_audio(folder / f"{interview_id}_AUDIO.wav", spoken.audio, defects.broken_audio)
    if defects.broken_audio:
        planted.append(PlantedDefect(str(interview_id), "broken_audio", defects.broken_audio))
    header = ("start_time", "stop_time", "speaker", "value")
    lines = ["\t".join(row) for row in (header, *cells)]
    (folder / f"{interview_id}_TRANSCRIPT.csv").write_text("\n".join(lines) + "\n")
    if task.feature_kinds:
        planted += _write_features(folder, task, spoken)
    if defects.apple_double:
        num_files = add_apple_doubles(folder)
        planted.append(PlantedDefect(str(interview_id), "apple_double", f"{num_files} files beside the recording"))
    if task.archive:
        _archive(folder)
    return SessionResult(spoken.duration_s, spoken.participant_s, tuple(planted))


def _write_features(folder: Path, task: SessionTask, spoken: Session) -> list[PlantedDefect]:
    """Feature files of a session; the video of 402 ends before its recording, as it does in the real corpus."""
    plan, video_s, planted = task.plan, None, list[PlantedDefect]()
    if plan.interview_id == VIDEO_ENDS_EARLY and "clnf" in task.feature_kinds:
        missing_s = min(_VIDEO_MISSING_S, 0.4 * spoken.duration_s)
        video_s = spoken.duration_s - missing_s
        planted.append(PlantedDefect(str(plan.interview_id), "video_ends_early", f"{missing_s:.1f} s before the end"))
    write_features(
        folder, plan.interview_id, spoken.audio, plan.disposition.burden,
        (plan.seed, plan.interview_id, _FEATURE_STREAM), task.feature_kinds, task.visual_hz, video_s,
    )  # fmt: skip
    return planted


def _archive(folder: Path) -> None:
    """Turn a folder into the zip of the same name, members at its top, the same bytes for the same files."""
    temporary = folder.with_name(f"{folder.name}.zip.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.iterdir()):
            member = zipfile.ZipInfo(path.name, _FIXED_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes())
    temporary.replace(folder.with_name(f"{folder.name}.zip"))
    shutil.rmtree(folder)


def _write_label_tables(
    config: SynthesizeConfig, people: Sequence[Person], splits: dict[int, Split], selected: frozenset[str]
) -> list[PlantedDefect]:
    by_split: dict[Split, list[Person]] = {"train": [], "dev": [], "test": []}
    for person in people:
        by_split[splits[person.interview_id]].append(person)
    planted = []
    if "absent_session" in selected:
        absent = [draw_person(config.seed, interview_id, {}) for interview_id in ABSENT]
        by_split["train"] = sorted([*by_split["train"], *absent], key=lambda person: person.interview_id)
        planted += [PlantedDefect(str(one), "absent_session", f"named in {_TRAIN_TABLE}") for one in ABSENT]
    if "binary_contradicts_score" in selected:
        planted.append(PlantedDefect("409", "binary_contradicts_score", "PHQ8_Score 10, PHQ8_Binary 0"))
    if "blank_item" in selected:
        planted.append(PlantedDefect("319", "blank_item", "PHQ8_Sleep blank, total 13, other items 11"))
    header = ("Participant_ID", "PHQ8_Binary", "PHQ8_Score", "Gender", *_ITEM_COLUMNS)
    for name, split in ((_TRAIN_TABLE, by_split["train"]), (_DEV_TABLE, by_split["dev"])):
        write_table(config.out / name, header, (_item_row(person, selected) for person in split))
    test = by_split["test"]
    codes = [(person.interview_id, _GENDER_CODE[person.gender]) for person in test]
    write_table(config.out / _TEST_TABLE, ("participant_ID", "Gender"), codes)
    write_table(
        config.out / _FULL_TEST_TABLE,
        ("Participant_ID", "PHQ_Binary", "PHQ_Score", "Gender"),
        (_total_row(person) for person in test),
    )
    if "apple_double" in selected:
        (config.out / f"._{_TRAIN_TABLE}").write_bytes(APPLE_DOUBLE)
    return planted


def _total_row(person: Person) -> tuple[int, ...]:
    return person.interview_id, int(is_depressed(person.answers)), total(person.answers), _GENDER_CODE[person.gender]


def _item_row(person: Person, selected: frozenset[str]) -> tuple[int | str, ...]:
    interview_id, binary, score, gender = _total_row(person)
    items: list[int | str] = list(person.answers)
    if "binary_contradicts_score" in selected and interview_id == 409:
        binary = 0
    if "blank_item" in selected and interview_id == 319:
        items[_SLEEP] = ""
    return interview_id, binary, score, gender, *items
