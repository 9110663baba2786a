"""One person of CMDC: twelve answers in Mandarin, each a recording, a transcript and a table of the face."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from moodscale.corpora.synthesize.audio import write_audio
from moodscale.corpora.synthesize.base import PlantedDefect
from moodscale.corpora.synthesize.cmdc_defects import BROKEN_QUESTION, FAILED_QUESTION, MISSING_QUESTION
from moodscale.corpora.synthesize.defects import BrokenAudio
from moodscale.corpora.synthesize.espeak import Engine, FloatArray
from moodscale.corpora.synthesize.faces import Face, draw_face
from moodscale.corpora.synthesize.files import add_apple_doubles
from moodscale.corpora.synthesize.language import MANDARIN
from moodscale.corpora.synthesize.openface import write_full
from moodscale.corpora.synthesize.phrases_zh import ITEM_ANSWERS, NEUTRAL, QUESTION_ITEMS
from moodscale.corpora.synthesize.session import in_room
from moodscale.corpora.synthesize.severity import Disposition, delivery_of
from moodscale.corpora.synthesize.speaking import Participant, TimeLine
from moodscale.corpora.synthesize.voices import SAMPLE_RATE_HZ, Talker, draw_voice

VISUAL_FOLDER = "openface"

_VOICE, _SCRIPT, _TIMING, _ROOM, _FACE = range(30, 35)
_EDGE_S = 0.3
_SHORTEST, _LONGEST = 0.7, 1.3
"""Of the mean length of an answer."""
_FAILED = slice(0, 3)
"""Frames in which no face was found, where a defect says so."""


@dataclass(frozen=True)
class PersonTask:
    """One person's answers to speak and write, as a worker process gets it.

    Attributes:
        number: of the person's own streams of random numbers.
        answer_s: mean length of an answer.
        visual_hz: rows a second of the OpenFace tables; 0 writes none.
    """

    interview_id: str
    number: int
    seed: int
    gender: str
    disposition: Disposition = field(repr=False)
    answer_s: float
    folder: Path
    visual_hz: float
    defects: frozenset[str]
    broken_audio: BrokenAudio | None

    def rng(self, stream: int, question: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.number, stream, question])


@dataclass(frozen=True)
class PersonResult:
    audio_s: float
    planted: tuple[PlantedDefect, ...]


@dataclass(frozen=True)
class Answer:
    """Samples [T] at 16 kHz, and what they say."""

    question: int
    audio: FloatArray = field(repr=False)
    text: str = field(repr=False)


def write_person(task: PersonTask) -> PersonResult:
    """Speak one person's answers and write their folder; what an interrupted run left of it is replaced."""
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True)
    planted: list[PlantedDefect] = []

    def note(defect: str, detail: str) -> None:
        planted.append(PlantedDefect(task.interview_id, defect, detail))

    has_visual = task.visual_hz > 0 and "missing_visual" not in task.defects
    if has_visual:
        (task.folder / VISUAL_FOLDER).mkdir()
    audio_s = 0.0
    for answer in speak_answers(task):
        if answer.question == MISSING_QUESTION and "missing_question" in task.defects:
            note("missing_question", f"no Q{MISSING_QUESTION}.wav")
            continue
        audio_s += len(answer.audio) / SAMPLE_RATE_HZ
        _write_recording(task, answer)
        (task.folder / f"Q{answer.question}.txt").write_text(answer.text + "\n", encoding="utf-8")
        if has_visual:
            num_failed = _write_face(task, answer)
            if num_failed:
                note("failed_frames", f"{num_failed} frames in Q{answer.question}.csv")
    if task.broken_audio:
        note("broken_audio", task.broken_audio)
    if "missing_visual" in task.defects:
        note("missing_visual", f"no {VISUAL_FOLDER} files")
    if "apple_double" in task.defects:
        num_files = sum(add_apple_doubles(one) for one in (task.folder, task.folder / VISUAL_FOLDER) if one.is_dir())
        note("apple_double", f"{num_files} files beside the real ones")
    return PersonResult(audio_s, tuple(planted))


def speak_answers(task: PersonTask) -> Iterator[Answer]:
    """The twelve answers in order, each about the item of its question."""
    with Engine() as engine:
        talker = Talker(engine, draw_voice(task.rng(_VOICE), task.gender, MANDARIN), MANDARIN)
        for question, item in QUESTION_ITEMS.items():
            delivery = delivery_of(task.disposition.burden)
            speaker = Participant(talker, delivery, task.rng(_TIMING, question), MANDARIN)
            pools = (ITEM_ANSWERS[item][task.disposition.answers[item]], NEUTRAL)
            script_rng = task.rng(_SCRIPT, question)
            phrases = [pool[index] for pool in pools for index in script_rng.permutation(len(pool))]
            line = TimeLine(_EDGE_S)
            speaker.answer(line, phrases, (_SHORTEST * task.answer_s, _LONGEST * task.answer_s))
            line.wait(_EDGE_S)
            text = MANDARIN.join_phrases([row.value for row in line.rows]) + "。"
            # One room a person: the same stream for every answer begins with the same gain and noise level.
            yield Answer(question, in_room(line.mix(), task.rng(_ROOM)), text)


def _write_recording(task: PersonTask, answer: Answer) -> None:
    path = task.folder / f"Q{answer.question}.wav"
    if "other_sample_rate" in task.defects:
        resampled = soxr.resample(answer.audio, SAMPLE_RATE_HZ, 44_100)
        soundfile.write(path, np.stack([resampled, resampled], axis=1), 44_100, subtype="PCM_16", format="WAV")
    else:
        write_audio(path, answer.audio, task.broken_audio if answer.question == BROKEN_QUESTION else None)


def _write_face(task: PersonTask, answer: Answer) -> int:
    """Write the question's OpenFace table; how many frames in it have no face."""
    duration_s = len(answer.audio) / SAMPLE_RATE_HZ
    face = draw_face(task.rng(_FACE, answer.question), duration_s, task.visual_hz, task.disposition.burden)
    num_failed = 0
    if "failed_frames" in task.defects and answer.question == FAILED_QUESTION:
        face, num_failed = _lose(face)
    write_full(task.folder / VISUAL_FOLDER / f"Q{answer.question}.csv", face)
    return num_failed


def _lose(face: Face) -> tuple[Face, int]:
    success, confidence = face.success.copy(), face.confidence.copy()
    success[_FAILED], confidence[_FAILED] = 0, 0
    return replace(face, success=success, confidence=confidence), int(np.sum(success == 0))
