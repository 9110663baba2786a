"""``kind: model``: a registered moodscale model as the teacher; transcripts stay in this process.

Nobody is labelled by a model that has learned from them, and a model that has learned from anybody of the test split
labels nobody: a package says whom it has learned from, and the table of labels is checked against that
(``train/labels.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from moodscale.config import ConfigError
from moodscale.label.answer import Answer, Refusal, RefusedAnswer
from moodscale.label.teachers.base import Reply, TeacherConfig
from moodscale.label.transcript import Transcript

if TYPE_CHECKING:
    from moodscale.registry.score_worker import Package
    from moodscale.registry.serving.base import ServedModel, Session


class ModelTeacherConfig(TeacherConfig):
    """Which model."""

    kind: Literal["model"] = "model"
    model: str = Field(description="models:/NAME/VERSION, models:/NAME@ALIAS, or the folder of a package")
    tracking_uri: str | None = Field(default=None, description="registry; by default MLFLOW_TRACKING_URI")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1")
    batch: int = Field(default=16, ge=1, description="transcripts at a time")

    def open(self) -> ModelTeacher:
        return ModelTeacher(self)


class ModelTeacher:
    """Gives the model's calibrated total; its confidence is one minus the interval's half-width over the range."""

    def __init__(self, config: ModelTeacherConfig) -> None:
        self._config = config
        if self._package.target != "total":
            raise ConfigError(
                f"label.teacher.model={config.model}: gives probabilities; a teacher gives a questionnaire's total"
            )

    @cached_property
    def _package(self) -> Package:
        from moodscale.registry.score_worker import fetch_package

        return fetch_package(self._config.model, self._config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", ""))

    @cached_property
    def _model(self) -> ServedModel:
        return self._package.open({"device": self._config.device})

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Of the package's content, whatever the registry calls it."""
        return {"kind": "model", "version": self._package.model_version, "package": self._package.sha256}

    @property
    def learned_from(self) -> frozenset[str]:
        """:func:`moodscale.schema.person_hash` of everybody whom the model has learned from."""
        return frozenset(self._model.facts.trained_people)

    def ask_all(self, transcripts: Sequence[Transcript]) -> Iterator[tuple[int, Reply | RefusedAnswer]]:
        askable: list[tuple[int, Session]] = []
        for at, transcript in enumerate(transcripts):
            session = session_of(transcript)
            if self._model.refusal(session):
                yield at, RefusedAnswer(Refusal.EMPTY)
            else:
                askable.append((at, session))
        for first in range(0, len(askable), self._config.batch):
            part = askable[first : first + self._config.batch]
            answers = self._model.score([session for _, session in part])
            for (at, _), answer in zip(part, answers, strict=True):
                instrument = transcripts[at].instrument
                if answer.instrument != instrument.value:
                    raise ConfigError(
                        f"label.teacher.model={self._config.model}: gives totals of {answer.instrument}, the training "
                        f"people filled in {instrument}; points of one are not points of the other"
                    )
                half_width = 0.0
                if answer.low is not None and answer.high is not None:
                    half_width = (answer.high - answer.low) / 2
                confidence = max(0.0, 1.0 - half_width / instrument.max_total)
                yield at, Reply(Answer((None,) * instrument.num_items, answer.score, confidence))


def session_of(transcript: Transcript) -> Session:
    """A transcript as registered models are given interviews: words, and no recording."""
    from moodscale.registry.serving.base import Session

    corpus, _, interview_id = transcript.unit_id.partition(":")
    turns = [
        {
            "person": transcript.person,
            "corpus": corpus,
            "interview_id": interview_id,
            "turn": number,
            "recording": turn.recording,
            "question": turn.question,
            "speaker": turn.speaker.value,
            "start_s": turn.start_s,
            "stop_s": turn.stop_s,
            "num_characters": len(turn.text),
            "text": turn.text,
        }
        for number, turn in enumerate(transcript.turns)
    ]
    return Session(transcript.person, corpus, interview_id, turns)
