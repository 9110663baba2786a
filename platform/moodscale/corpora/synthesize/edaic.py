"""E-DAIC as it comes: recordings with a transcript that names no speaker, feature files, five label tables."""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from moodscale.corpora.synthesize import defects as daic_woz_defects
from moodscale.corpora.synthesize.audio import write_audio
from moodscale.corpora.synthesize.base import CorpusSynthesizer, PlantedDefect, SynthesisSummary, SynthesizeConfig
from moodscale.corpora.synthesize.choices import choose_feature_kinds, refuse_settings
from moodscale.corpora.synthesize.defects import BrokenAudio
from moodscale.corpora.synthesize.directory import claim, finish
from moodscale.corpora.synthesize.edaic_defects import Plan, TextRow, plan_defects, select, spoil_transcript
from moodscale.corpora.synthesize.edaic_features import DEFAULT_KINDS, FILES, write_features
from moodscale.corpora.synthesize.edaic_labels import SPLITS, write_label_tables
from moodscale.corpora.synthesize.files import add_apple_doubles, write_table
from moodscale.corpora.synthesize.people import Person, draw_person, draw_person_disposition, take_stratified
from moodscale.corpora.synthesize.pool import choose_num_workers, run_all
from moodscale.corpora.synthesize.questionnaire import is_depressed
from moodscale.corpora.synthesize.session import Session, SessionPlan, render_session
from moodscale.corpora.synthesize.speaking import PARTICIPANT

_LOG = logging.getLogger(__name__)

TRANSCRIPT_COLUMNS = ("Start_Time", "End_Time", "Text", "Confidence")
FIRST_AUTOMATIC_ID = 600
"""From here on nobody sits behind the interviewer. Lower ids are people of DAIC-WOZ too."""
LEAKED_SHARE = 0.1
"""Share of the interviewer's lines that the transcript has as if the participant had said them."""

_FIRST_ID, _LAST_WIZARD_ID = 300, 492
_SPLIT_SIZES = (163, 56, 56)
"""Train, development and test people of the real corpus: the proportions of ours."""
_WIZARD_SHARE = 189 / 275
_NOT_OURS = {*daic_woz_defects.ABSENT, *daic_woz_defects.forced_answers(daic_woz_defects.select("all"))}
"""Ids without a session, and those whose questionnaire DAIC-WOZ's defects prescribe: whoever bears an id in both
corpora is the same person, with whatever defects either was written."""
_SPLIT_STREAM, _TRANSCRIPT_STREAM, _FEATURE_STREAM = 23, 20, 21


@dataclass(frozen=True)
class SessionTask:
    """One session to speak and write, as a worker process gets it."""

    plan: SessionPlan
    defects: frozenset[str]
    broken_audio: BrokenAudio | None
    data: Path = field(repr=False)
    archive: bool
    feature_kinds: tuple[str, ...]
    rates_hz: tuple[float, float]


@dataclass(frozen=True)
class SessionResult:
    audio_s: float
    participant_s: float
    planted: tuple[PlantedDefect, ...]


class EdaicSynthesizer(CorpusSynthesizer):
    """``synthesize edaic``: people 300-492 are those of ``synthesize daic_woz`` with the same seed."""

    kind: Literal["edaic"] = "edaic"

    def synthesize(self, config: SynthesizeConfig) -> SynthesisSummary:
        kinds = choose_feature_kinds(config, FILES, DEFAULT_KINDS, by_habit=True)
        refuse_settings(config, self.kind, "format", "unlabelled_share")
        selected = select(config, kinds)
        people = [draw_person(config.seed, interview_id, {}) for interview_id in choose_ids(config.num_participants)]
        splits = split_people(people, config.seed)
        ids = [person.interview_id for person in people]
        defects = plan_defects(selected, ids, [one for one in ids if splits[one] == "train"])
        already = claim(config, self.kind)
        if already is not None:
            _LOG.info("%s: already there, nothing to do", config.out)
            return already
        started = time.perf_counter()
        planted = write_label_tables(config.out / "labels", config.seed, people, splits, defects)
        (config.out / "data").mkdir(exist_ok=True)
        tasks = [_plan_session(config, person, defects, kinds) for person in people]
        num_workers = choose_num_workers(config.num_workers, sum(task.plan.duration_s for task in tasks))
        results = list(run_all(write_session, tasks, num_workers))
        planted += [one for result in results for one in result.planted]
        summary = SynthesisSummary(
            out=config.out,
            num_participants=len(people),
            num_depressed=sum(is_depressed(person.answers) for person in people),
            split_sizes={name: sum(split == name for split in splits.values()) for name in SPLITS},
            audio_s=round(sum(result.audio_s for result in results), 3),
            participant_s=round(sum(result.participant_s for result in results), 3),
            elapsed_s=round(time.perf_counter() - started, 3),
            planted=tuple(sorted(planted, key=lambda one: (one.interview_id, one.defect))),
        )
        finish(config, self.kind, summary)
        _LOG.info("%s: %d participants, %.1f h of audio", config.out, len(people), summary.audio_s / 3600)
        return summary


def choose_ids(num_participants: int) -> list[int]:
    """Ascending ids, wizard and automatic sessions in the real corpus' proportions; beyond its size all automatic."""
    wizards = [one for one in range(_FIRST_ID, _LAST_WIZARD_ID + 1) if one not in _NOT_OURS]
    chosen = wizards[: round(num_participants * _WIZARD_SHARE)]
    return [*chosen, *range(FIRST_AUTOMATIC_ID, FIRST_AUTOMATIC_ID + num_participants - len(chosen))]


def split_people(people: Sequence[Person], seed: int) -> dict[int, str]:
    """Split by id: the test split is all automatic, the others are mixed; the depressed are spread alike."""
    rng = np.random.default_rng([seed, 0, _SPLIT_STREAM])

    def shuffled(some: Sequence[Person]) -> list[Person]:
        return [some[index] for index in rng.permutation(len(some))]

    num_dev, num_test = (round(len(people) * size / sum(_SPLIT_SIZES)) for size in _SPLIT_SIZES[1:])
    automatic = [person for person in people if person.interview_id >= FIRST_AUTOMATIC_ID]
    test = {person.interview_id for person in take_stratified(shuffled(automatic), num_test)}
    rest = [person for person in people if person.interview_id not in test]
    dev = {person.interview_id for person in take_stratified(shuffled(rest), num_dev)}
    return {
        person.interview_id: "test" if person.interview_id in test else "dev" if person.interview_id in dev else "train"
        for person in people
    }  # fmt: skip


def _plan_session(config: SynthesizeConfig, person: Person, defects: Plan, kinds: tuple[str, ...]) -> SessionTask:
    return SessionTask(
        plan=SessionPlan(
            interview_id=person.interview_id,
            seed=config.seed,
            gender=person.gender,
            disposition=draw_person_disposition(config.seed, person, config.effect),
            duration_s=60 * config.minutes,
        ),
        defects=defects.by_id.get(person.interview_id, frozenset()),
        broken_audio=defects.broken_audio.get(person.interview_id),
        data=config.out / "data",
        archive=config.archives,
        feature_kinds=kinds,
        rates_hz=(config.visual_hz, config.acoustic_hz),
    )


def write_session(task: SessionTask) -> SessionResult:
    """Speak one session and write its folder or archive; what an interrupted run left of it is replaced."""
    plan, interview_id = task.plan, task.plan.interview_id
    spoken = render_session(plan)
    folder = task.data / f"{interview_id}_P"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_audio(folder / f"{interview_id}_AUDIO.wav", spoken.audio, task.broken_audio)
    rows = transcribe(plan, spoken)
    cells, planted = spoil_transcript(interview_id, rows, task.defects, spoken.duration_s)
    write_table(folder / f"{interview_id}_Transcript.csv", TRANSCRIPT_COLUMNS, cells)
    if task.broken_audio:
        planted.append(PlantedDefect(str(interview_id), "broken_audio", task.broken_audio))
    if task.feature_kinds:
        kinds = tuple(
            kind for kind in task.feature_kinds if not (kind == "openface" and "missing_feature" in task.defects)
        )
        if len(kinds) < len(task.feature_kinds):
            planted.append(PlantedDefect(str(interview_id), "missing_feature", "no OpenFace2.1.0_Pose_gaze_AUs.csv"))
        seeds = (plan.seed, interview_id, _FEATURE_STREAM)
        burden = plan.disposition.burden
        write_features(folder / "features", interview_id, spoken.audio, burden, seeds, kinds, task.rates_hz)
    if "apple_double" in task.defects:
        num_files = sum(add_apple_doubles(one) for one in (folder, folder / "features") if one.is_dir())
        planted.append(PlantedDefect(str(interview_id), "apple_double", f"{num_files} files beside the real ones"))
    if task.archive:
        is_flat = "flat_tar" in task.defects
        num_members = _archive(folder, is_flat)
        if is_flat:
            planted.append(PlantedDefect(str(interview_id), "flat_tar", f"{num_members} members not under a folder"))
    return SessionResult(spoken.duration_s, spoken.participant_s, tuple(planted))


def transcribe(plan: SessionPlan, spoken: Session) -> list[TextRow]:
    """The participant's rows and a few of the interviewer's, as a recogniser has them: no punctuation, a confidence.

    As many numbers are drawn whatever was said.
    """
    rng = np.random.default_rng([plan.seed, plan.interview_id, _TRANSCRIPT_STREAM])
    rows = []
    for row in spoken.rows:
        leaks, confidence = rng.random() < LEAKED_SHARE, float(np.clip(rng.normal(0.9, 0.05), 0.5, 0.99))
        if row.speaker == PARTICIPANT or leaks:
            rows.append(TextRow(row.start_s, row.stop_s, row.value.replace(",", ""), confidence))
    return rows


def _archive(folder: Path, is_flat: bool) -> int:
    """Turn a folder into the tar.gz of the same name, the same bytes for the same files; how many members it has."""
    temporary = folder.with_name(f"{folder.name}.tar.gz.tmp")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with (
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in files:
            member = tarfile.TarInfo(str(path.relative_to(folder if is_flat else folder.parent)))
            member.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(member, file)
    temporary.replace(folder.with_name(f"{folder.name}.tar.gz"))
    shutil.rmtree(folder)
    return len(files)
