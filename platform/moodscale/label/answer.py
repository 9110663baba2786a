"""A teacher's answer, checked: item scores, total, confidence, and where in the transcript the evidence stands.

What a teacher quotes is looked up in the transcript and kept as a span of a turn. So an answer holds no words, and a
quotation of what nobody said is noticed.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from moodscale.label.quotes import QuoteFinder
from moodscale.label.transcript import Transcript
from moodscale.schema import Instrument

UNKNOWN = "unknown"
"""What a teacher writes for an item that the transcript says nothing about."""
_FIELDS = frozenset({"items", "total", "confidence"})
_ITEM_FIELDS = frozenset({"score", "quotes"})
_MAX_CHARS = 2**20
_MAX_QUOTES = 32
_MAX_STARTS = 64
_TOLERANCE = 1e-6


class Refusal(enum.StrEnum):
    """Why there is no answer. Stored with the unit; says what was wrong and never what was written."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_NUMBER_OF_ITEMS = "wrong_number_of_items"
    ITEM_OUT_OF_RANGE = "item_out_of_range"
    TOTAL_OUT_OF_RANGE = "total_out_of_range"
    TOTAL_DOES_NOT_ADD_UP = "total_does_not_add_up"
    CONFIDENCE_OUT_OF_RANGE = "confidence_out_of_range"
    QUOTES_MALFORMED = "quotes_malformed"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    DECLINED = "declined"
    CONTENT_FILTER = "content_filter"
    TOO_LONG = "too_long"
    NO_EVIDENCE = "no_evidence"
    NOT_RECORDED = "not_recorded"


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply, as the teacher's server counted them."""

    input_tokens: int = 0
    output_tokens: int = 0


class RefusedAnswer(Exception):
    """A reply that is no answer. It was paid for, so it is stored: asking again is a decision.

    The message is the reason code alone, never the transcript's words or the teacher's.
    """

    def __init__(self, reason: Refusal, usage: Usage | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.usage = usage
        """What was paid, ``None`` where nobody said."""


@dataclass(frozen=True)
class Evidence:
    """Where something that speaks for an item's score was said.

    Attributes:
        item: index of the item, from 0.
        turn: index of the turn in the transcript.
        start, stop: characters of that turn's text.
    """

    item: int
    turn: int
    start: int
    stop: int


@dataclass(frozen=True)
class Answer:
    """A teacher's scores of one transcript.

    Attributes:
        items: 0 to 3 an item, ``None`` where the transcript does not tell.
        total: 0 to the instrument's maximum; the sum of the items where all are known.
        confidence: 0 to 1, the teacher's own.
        num_ungrounded: quotations that stand nowhere in the transcript.
    """

    items: tuple[int | None, ...]
    total: float
    confidence: float
    evidence: tuple[Evidence, ...] = ()
    num_ungrounded: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "items": list(self.items),
            "evidence": [[one.item, one.turn, one.start, one.stop] for one in self.evidence],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], instrument: Instrument) -> Answer:
        """What ``to_json`` gave.

        Raises:
            KeyError, TypeError, ValueError: the values are not of that form.
            RefusedAnswer: they are, and out of range.
        """
        evidence = tuple(Evidence(*(int(number) for number in one)) for one in values["evidence"])
        answer = cls(tuple(values["items"]), values["total"], values["confidence"], evidence, values["num_ungrounded"])
        return check_answer(answer, instrument)


def parse_text(text: str) -> Mapping[str, Any]:
    """The JSON object in what a teacher wrote.

    Models without constrained decoding think aloud and fence their answer, so the last object that has an answer's
    fields counts, after ``</think>`` where there is one.

    Raises:
        RefusedAnswer: none is in it.
    """
    if not text.strip():
        raise RefusedAnswer(Refusal.EMPTY)
    found: Mapping[str, Any] | None = None
    for broken, value in _objects(text[:_MAX_CHARS].rpartition("</think>")[2]):
        # Inside of what is broken, any part is whole: only one that looks like an answer is taken for one.
        if _FIELDS & set(value) or (found is None and not broken):
            found = value
    if found is None:
        raise RefusedAnswer(Refusal.NOT_JSON)
    return found


def _objects(text: str) -> Iterator[tuple[bool, Mapping[str, Any]]]:
    """JSON objects in a text, and whether something broken stands before; at most a few starts that lead nowhere."""
    decoder = json.JSONDecoder(parse_constant=_no_number)
    at, num_broken = text.find("{"), 0
    while at >= 0 and num_broken < _MAX_STARTS:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            num_broken += 1
            end = at + 1
        else:
            yield num_broken > 0, value
        at = text.find("{", end)


def _no_number(name: str) -> float:
    raise ValueError("not a number")  # its name would be text of the teacher's


def parse_answer(raw: Mapping[str, Any], transcript: Transcript) -> Answer:
    """Check what a teacher gave against the schema of :mod:`moodscale.label.prompt`.

    Args:
        raw: ``{"items": {"item_1": {"score": 0-3 | "unknown" | null, "quotes": [...]}, ...}, "total": number,
            "confidence": number}``.
    Raises:
        RefusedAnswer: with the reason; nothing is repaired, since a repaired label is an invented one.
    """
    if not isinstance(raw, Mapping):
        raise RefusedAnswer(Refusal.NOT_AN_OBJECT)
    _exactly(raw, _FIELDS)
    given = raw["items"]
    num_items = transcript.instrument.num_items
    if not isinstance(given, Mapping) or set(given) != {f"item_{number}" for number in range(1, num_items + 1)}:
        raise RefusedAnswer(Refusal.WRONG_NUMBER_OF_ITEMS)
    finder = QuoteFinder(transcript)
    items: list[int | None] = []
    evidence: list[Evidence] = []
    num_ungrounded = 0
    for item in range(num_items):
        entry = given[f"item_{item + 1}"]
        if not isinstance(entry, Mapping):
            raise RefusedAnswer(Refusal.NOT_AN_OBJECT)
        _exactly(entry, _ITEM_FIELDS)
        items.append(_score(entry["score"]))
        for quote in _quotes(entry["quotes"]):
            span = finder.find(quote)
            if span is None:
                num_ungrounded += 1
            else:
                evidence.append(Evidence(item, *span))
    answer = Answer(
        tuple(items), _number(raw["total"], Refusal.TOTAL_OUT_OF_RANGE),
        _number(raw["confidence"], Refusal.CONFIDENCE_OUT_OF_RANGE),
        tuple(dict.fromkeys(evidence)), num_ungrounded,
    )  # fmt: skip
    return check_answer(answer, transcript.instrument)


def check_answer(answer: Answer, instrument: Instrument) -> Answer:
    """An answer of a teacher that writes no JSON, or of the store, held to the same ranges.

    Raises:
        RefusedAnswer: an item, the total or the confidence is out of range, or they contradict each other.
    """
    if len(answer.items) != instrument.num_items:
        raise RefusedAnswer(Refusal.WRONG_NUMBER_OF_ITEMS)
    items = tuple(_score(item) for item in answer.items)
    total = _number(answer.total, Refusal.TOTAL_OUT_OF_RANGE)
    confidence = _number(answer.confidence, Refusal.CONFIDENCE_OUT_OF_RANGE)
    if not 0 <= total <= instrument.max_total:
        raise RefusedAnswer(Refusal.TOTAL_OUT_OF_RANGE)
    if not 0 <= confidence <= 1:
        raise RefusedAnswer(Refusal.CONFIDENCE_OUT_OF_RANGE)
    known = sum(item for item in items if item is not None)
    largest = known + 3 * sum(item is None for item in items)
    if not known - _TOLERANCE <= total <= largest + _TOLERANCE:
        raise RefusedAnswer(Refusal.TOTAL_DOES_NOT_ADD_UP)
    return replace(answer, items=items, total=total, confidence=confidence)


def _exactly(values: Mapping[str, Any], fields: frozenset[str]) -> None:
    if fields - set(values):
        raise RefusedAnswer(Refusal.MISSING_FIELD)
    if set(values) - fields:
        raise RefusedAnswer(Refusal.UNKNOWN_FIELD)


def _score(value: Any) -> int | None:
    if value is None or value == UNKNOWN:
        return None
    number = _number(value, Refusal.ITEM_OUT_OF_RANGE)
    if number not in (0, 1, 2, 3):
        raise RefusedAnswer(Refusal.ITEM_OUT_OF_RANGE)
    return int(number)


def _number(value: Any, otherwise: Refusal) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedAnswer(otherwise)
    try:
        number = float(value)
    except OverflowError:
        raise RefusedAnswer(otherwise) from None
    if not math.isfinite(number):
        raise RefusedAnswer(otherwise)
    return number


def _quotes(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > _MAX_QUOTES or not all(isinstance(one, str) for one in value):
        raise RefusedAnswer(Refusal.QUOTES_MALFORMED)
    return value
