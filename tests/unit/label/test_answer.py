"""What counts as an answer, and what becomes of everything else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from moodscale.label.answer import Answer, Evidence, Refusal, RefusedAnswer, check_answer, parse_answer, parse_text
from moodscale.schema import Instrument, Speaker, Turn
from spoken import transcript
from teacher_server import good_answer

TOLD = "I'm  tired, “every single day”\nand I can't sleep"


def parsed(raw: Any, said: str = TOLD) -> Answer:
    return parse_answer(raw, transcript("u1", said))


def refused(raw: Any) -> Refusal:
    with pytest.raises(RefusedAnswer) as caught:
        parsed(raw)
    assert str(caught.value) == caught.value.reason.value, "the message is a code, no word of anybody's"
    return caught.value.reason


def test_a_whole_answer_is_read() -> None:
    answer = parsed(good_answer((1, 2, 0, 3, 1, 0, 2, 1, 0)))
    assert answer == Answer((1, 2, 0, 3, 1, 0, 2, 1, 0), 10.0, 0.75)


def test_unknown_items_are_none_and_the_total_may_be_an_estimate_within_what_they_leave_open() -> None:
    raw = good_answer((3, 3, 3, 0, 0, 0, 0, 0, 0))
    raw["items"]["item_8"]["score"], raw["items"]["item_9"]["score"] = "unknown", None
    for total in (9, 12.5, 15):
        raw["total"] = total
        assert parsed(raw).items[7:] == (None, None)
        assert parsed(raw).total == total
    for total in (8.9, 15.1):
        raw["total"] = total
        assert refused(raw) is Refusal.TOTAL_DOES_NOT_ADD_UP


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("items", "item_3", "score"), 4, Refusal.ITEM_OUT_OF_RANGE),
        (("items", "item_3", "score"), -1, Refusal.ITEM_OUT_OF_RANGE),
        (("items", "item_3", "score"), 1.5, Refusal.ITEM_OUT_OF_RANGE),
        (("items", "item_3", "score"), True, Refusal.ITEM_OUT_OF_RANGE),
        (("items", "item_3", "score"), "2", Refusal.ITEM_OUT_OF_RANGE),
        (("items", "item_3", "score"), 10**400, Refusal.ITEM_OUT_OF_RANGE),
        (("items", "item_3", "quotes"), "no list", Refusal.QUOTES_MALFORMED),
        (("items", "item_3", "quotes"), [3], Refusal.QUOTES_MALFORMED),
        (("items", "item_3", "quotes"), ["x"] * 1000, Refusal.QUOTES_MALFORMED),
        (("items", "item_3"), {"score": 0}, Refusal.MISSING_FIELD),
        (("items", "item_3"), {"score": 0, "quotes": [], "why": "x"}, Refusal.UNKNOWN_FIELD),
        (("items", "item_3"), 0, Refusal.NOT_AN_OBJECT),
        (("items", "item_10"), {"score": 0, "quotes": []}, Refusal.WRONG_NUMBER_OF_ITEMS),
        (("items",), [1, 2], Refusal.WRONG_NUMBER_OF_ITEMS),
        (("total",), 28, Refusal.TOTAL_OUT_OF_RANGE),
        (("total",), float("nan"), Refusal.TOTAL_OUT_OF_RANGE),
        (("total",), "10", Refusal.TOTAL_OUT_OF_RANGE),
        (("total",), 11, Refusal.TOTAL_DOES_NOT_ADD_UP),
        (("confidence",), 1.01, Refusal.CONFIDENCE_OUT_OF_RANGE),
        (("confidence",), None, Refusal.CONFIDENCE_OUT_OF_RANGE),
        (("note",), "x", Refusal.UNKNOWN_FIELD),
    ],
)
def test_anything_else_is_refused_by_reason_and_not_repaired(
    path: tuple[str, ...], value: Any, reason: Refusal
) -> None:
    raw = copy.deepcopy(good_answer())
    place = raw
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert refused(raw) is reason


def test_a_missing_item_or_field_is_refused() -> None:
    raw = good_answer()
    del raw["items"]["item_9"]
    assert refused(raw) is Refusal.WRONG_NUMBER_OF_ITEMS
    raw = good_answer()
    del raw["confidence"]
    assert refused(raw) is Refusal.MISSING_FIELD
    assert refused([1, 2]) is Refusal.NOT_AN_OBJECT


def test_the_phq8_has_eight_items_and_refuses_nine() -> None:
    eight = transcript("u1", TOLD, instrument=Instrument.PHQ8)
    assert len(parse_answer(good_answer((1,) * 8), eight).items) == 8
    with pytest.raises(RefusedAnswer, match="wrong_number_of_items"):
        parse_answer(good_answer((1,) * 9), eight)


@pytest.mark.parametrize(
    "quote", ["i'm tired", "I’m  TIRED", '"every single day" and', "“Every single day”", "... can't sleep"]
)
def test_a_quotation_becomes_a_span_whatever_its_case_spaces_and_marks(quote: str) -> None:
    answer = parsed(good_answer(quote=quote))
    assert answer.num_ungrounded == 0
    (found,) = answer.evidence
    assert found.item == 0
    assert found.turn == 1
    shown = TOLD[found.start : found.stop]
    plain = str.maketrans({"“": None, "”": None, "’": "'", '"': None, ".": None})
    assert " ".join(shown.translate(plain).split()).lower() == " ".join(quote.translate(plain).split()).lower()


@pytest.mark.parametrize("quote", ["I feel wonderful", "t", "...", "tired every day"])
def test_a_quotation_of_what_nobody_said_is_counted_and_not_kept(quote: str) -> None:
    answer = parsed(good_answer(quote=quote))
    assert answer.num_ungrounded == 1
    assert answer.evidence == ()


def test_what_both_said_is_the_participants_evidence() -> None:
    both = transcript("u1", "yes, trouble sleeping", asked="trouble sleeping?")
    assert parse_answer(good_answer(quote="trouble sleeping"), both).evidence == (Evidence(0, 1, 5, 21),)


def test_chinese_full_width_text_is_found() -> None:
    said = transcript("u1", "我每天都睡不着，ＡＢＣ")
    found = parse_answer(good_answer(quote="睡不着,abc"), said).evidence
    assert found == (Evidence(0, 1, 4, 11),)


def test_an_answer_holds_no_words_and_survives_its_json() -> None:
    answer = parsed(good_answer(quote="I'm tired"))
    written = json.dumps(answer.to_json())
    assert "tired" not in written
    assert "tired" not in repr(answer)
    assert Answer.from_json(json.loads(written), Instrument.PHQ9) == answer


def test_a_transcripts_words_are_not_in_its_repr() -> None:
    assert "tired" not in repr(transcript("u1", TOLD))
    assert "tired" not in repr(Turn(Speaker.PARTICIPANT, 0, 1, TOLD))


def test_totals_alone_are_an_answer_of_a_teacher_that_scores_no_items() -> None:
    answer = Answer((None,) * 9, 13.4, 0.5)
    assert check_answer(answer, Instrument.PHQ9).total == 13.4
    with pytest.raises(RefusedAnswer, match="total_out_of_range"):
        check_answer(Answer((None,) * 9, 27.5, 0.5), Instrument.PHQ9)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(good_answer()),
        f"```json\n{json.dumps(good_answer(), indent=2)}\n```",
        f"<think>{{maybe}} {json.dumps(good_answer((0,) * 9))}</think>\n{json.dumps(good_answer())} done {{}}",
        f"First {{broken: then {json.dumps(good_answer())}",
    ],
)
def test_the_object_is_found_in_what_a_model_writes_around_it(text: str) -> None:
    assert parse_text(text) == good_answer()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("no idea", "not_json"),
        (json.dumps(good_answer())[:-5], "not_json"),
        ("[1, 2]", "not_json"),
        ('{"total": NaN}', "not_json"),
        ("{" * 100_000, "not_json"),
    ],
)
def test_text_without_an_answer_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RefusedAnswer, match=reason):
        parse_text(text)
