"""The answers that were given: a folder with one small file an answer, written whole and never changed into another's.

A file appears by one rename, or one upload, after its bytes are safe, on local disk and in object storage alike. So a
job that is killed has every answer that it counted, and whoever labels again pays for none of them twice. Refusals are
kept too. A file names its person and unit, so that a deletion request finds it, and holds scores and spans, no words.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upath import UPath

from moodscale.label.answer import Answer, Refusal, RefusedAnswer, Usage
from moodscale.label.prompt import PROMPT_VERSION
from moodscale.label.transcript import Transcript
from moodscale.schema import Instrument
from moodscale.storage import Place, location, write_bytes

_LOG = logging.getLogger(__name__)
_FORMAT = 1
FILE_END = ".answer.json"


def request_key(identity: Mapping[str, Any], transcript: Transcript) -> str:
    """Names what is asked of whom: equal keys, equal questions. Of what the asked server knows anyway, and no more."""
    return _hash([identity, PROMPT_VERSION, transcript.content_hash()])


def answer_key(identity: Mapping[str, Any], transcript: Transcript) -> str:
    """Names an answer in the store: the question, and whom it is about.

    The person is in it so that an answer is one person's alone: what two people said alike is two answers, and
    forgetting one of them leaves the other's. It is never sent: a hash of few possible names gives them away.
    """
    return _hash([request_key(identity, transcript), transcript.person])


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Stored:
    """One file.

    Attributes:
        answer, refused: one of them.
        num_refused: how often this question was refused, with this time.
        usage: what it took, ``None`` where nobody said.
    """

    person: str
    unit_id: str
    instrument: Instrument
    teacher: str
    answer: Answer | None = None
    refused: Refusal | None = None
    num_refused: int = 0
    usage: Usage | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "person": self.person,
            "unit_id": self.unit_id,
            "instrument": self.instrument.value,
            "teacher": self.teacher,
            "prompt_version": PROMPT_VERSION,
            "answer": None if self.answer is None else self.answer.to_json(),
            "refused": None if self.refused is None else self.refused.value,
            "num_refused": self.num_refused,
            "usage": None if self.usage is None else [self.usage.input_tokens, self.usage.output_tokens],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Stored:
        instrument = Instrument(values["instrument"])
        answer, refused, usage = values["answer"], values["refused"], values["usage"]
        if values["format"] != _FORMAT or (answer is None) == (refused is None):
            raise ValueError
        return cls(
            person=values["person"],
            unit_id=values["unit_id"],
            instrument=instrument,
            teacher=values["teacher"],
            answer=None if answer is None else Answer.from_json(answer, instrument),
            refused=None if refused is None else Refusal(refused),
            num_refused=values["num_refused"],
            usage=None if usage is None else Usage(*usage),
        )


class AnswerStore:
    """A folder of answers, on local disk or in object storage. Several jobs may write to it."""

    def __init__(self, folder: str | Place) -> None:
        self.folder: UPath = location(folder)

    def path(self, key: str) -> UPath:
        return self.folder / key[:2] / f"{key}{FILE_END}"

    def get(self, key: str) -> Stored | None:
        """What was stored; ``None`` where nothing was, or where a file is damaged, which is said."""
        path = self.path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Stored.from_json(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError, RefusedAnswer):
            _LOG.warning("%s: not an answer's file, it is asked for again", path.name)
            return None

    def put(self, key: str, stored: Stored) -> None:
        """Store it; it is safe when this returns."""
        write_bytes(self.path(key), json.dumps(stored.to_json(), sort_keys=True).encode())
