"""Answers that somebody gave elsewhere: clinicians, another system, a run of a model that is not here.

A JSON Lines or Parquet file with a row a unit: ``unit_id``, ``total``, ``confidence`` and the items, as a list
``items`` or as columns ``item_1`` …; an item that was not scored is null, and totals alone will do.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from moodscale.config import ConfigError
from moodscale.label.answer import Answer, Refusal, RefusedAnswer, check_answer
from moodscale.label.teachers.base import Reply, TeacherConfig
from moodscale.label.transcript import Transcript
from moodscale.schema import CorpusError, Instrument
from moodscale.storage import display, location

_MAX_BYTES = 2**30
_COLUMNS = {"unit_id", "total", "confidence", "items", *(f"item_{number}" for number in range(1, 10))}


class RecordedConfig(TeacherConfig):
    """The file, and what it is answers to."""

    kind: Literal["recorded"] = "recorded"
    path: str = Field(description="file or URI of the answers, .jsonl or .parquet")
    instrument: Instrument = Field(default=Instrument.PHQ9, description="the questionnaire that was scored")
    default_confidence: float | None = Field(
        default=None, ge=0, le=1, description="for rows that name none; an error where unset"
    )

    def open(self) -> RecordedTeacher:
        return RecordedTeacher(self)


class RecordedTeacher:
    """Gives out the rows of the file."""

    def __init__(self, config: RecordedConfig) -> None:
        self._config = config
        place = location(config.path)
        shown = display(place)
        try:
            if place.stat().st_size > _MAX_BYTES:
                raise ConfigError(f"label.teacher.path={shown}: more than {_MAX_BYTES:,} bytes; split the file")
            data = place.read_bytes()
        except (OSError, KeyError) as error:
            raise ConfigError(f"label.teacher.path={shown}: cannot be read ({type(error).__name__})") from None
        self._hash = hashlib.sha256(data).hexdigest()
        if place.suffix == ".jsonl":
            rows = _json_rows(data, place.name)
        elif place.suffix == ".parquet":
            rows = _parquet_rows(data, place.name)
        else:
            raise ConfigError(f"label.teacher.path={shown}: give a file that ends in .jsonl or .parquet")
        self._answers: dict[str, Answer] = {}
        for number, row in rows:
            unit = _unit(row, f"{place.name}, row {number}")
            if unit in self._answers:
                raise CorpusError(f"{place.name}, row {number}, unit_id: stands in an earlier row too; keep one")
            self._answers[unit] = _answer(row, config, f"{place.name}, row {number}")
        if not self._answers:
            raise ConfigError(f"label.teacher.path={shown}: holds no row")

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Of the content, wherever it lies."""
        return {"kind": self._config.kind, "content": self._hash, "instrument": self._config.instrument.value,
                "default_confidence": self._config.default_confidence}  # fmt: skip

    def ask_all(self, transcripts: Sequence[Transcript]) -> Iterator[tuple[int, Reply | RefusedAnswer]]:
        for at, transcript in enumerate(transcripts):
            if transcript.instrument != self._config.instrument:
                raise ConfigError(
                    f"label.teacher.instrument={self._config.instrument}: transcripts are labelled for "
                    f"{transcript.instrument}; answers of one are never taken for the other"
                )
            answer = self._answers.get(transcript.unit_id)
            yield at, RefusedAnswer(Refusal.NOT_RECORDED) if answer is None else Reply(answer)


def _json_rows(data: bytes, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            raise CorpusError(f"{name}, row {number}: is not JSON; write one object a line") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{name}, row {number}: is not an object; write one object a line")
        yield number, row


def _parquet_rows(data: bytes, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = [column for column in file.schema_arrow.names if column in _COLUMNS]
        table = file.read(columns=names, use_threads=False)  # see storage.read_parquet
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{name}: not readable as Parquet ({type(error).__name__}); write it again") from None
    yield from enumerate(table.to_pylist(), start=1)


def _unit(row: Mapping[str, Any], where: str) -> str:
    unit = row.get("unit_id")
    if not isinstance(unit, str) or not unit:
        raise CorpusError(f"{where}, unit_id: is missing, or no text; write the interview's id")
    return unit


def _answer(row: Mapping[str, Any], config: RecordedConfig, where: str) -> Answer:
    num_items = config.instrument.num_items
    columns = [f"item_{number}" for number in range(1, num_items + 1)]
    items = row.get("items")
    if items is None:
        items = [row.get(column) for column in columns]
    if not isinstance(items, list) or len(items) != num_items:
        raise CorpusError(f"{where}, items: {config.instrument} has {num_items}; write as many, null where unknown")
    scores: list[int | None] = []
    for column, value in zip(columns, items, strict=True):
        score = _number(value)
        if (score is not None and score not in (0, 1, 2, 3)) or (score is None and not _is_blank(value)):
            raise CorpusError(f"{where}, {column}: is none of 0, 1, 2, 3 and null")
        scores.append(None if score is None else int(score))
    total = _number(row.get("total"))
    if total is None or not 0 <= total <= config.instrument.max_total:
        raise CorpusError(f"{where}, total: is no number from 0 to {config.instrument.max_total}")
    given = row.get("confidence")
    confidence = config.default_confidence if _is_blank(given) else _number(given)
    if confidence is None or not 0 <= confidence <= 1:
        raise CorpusError(
            f"{where}, confidence: is no number from 0 to 1; write it, or set label.teacher.default_confidence"
        )
    try:
        return check_answer(Answer(tuple(scores), total, confidence), config.instrument)
    except RefusedAnswer:
        raise CorpusError(f"{where}, total: does not go with the items; correct the row") from None


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
