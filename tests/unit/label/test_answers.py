"""The store of answers."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from moodscale.label.answer import Answer, Evidence, Refusal, Usage
from moodscale.label.answers import AnswerStore, Stored, answer_key, request_key
from moodscale.schema import Instrument
from spoken import transcript

IDENTITY = {"kind": "x", "model": "m"}
STORED = Stored(
    person="test:u1", unit_id="u1", instrument=Instrument.PHQ9, teacher="x",
    answer=Answer((1,) * 9, 9.0, 0.5, (Evidence(0, 1, 2, 3),), 2), usage=Usage(10, 5),
)  # fmt: skip


def test_what_is_put_is_got(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    key = answer_key(IDENTITY, transcript("u1"))
    assert store.get(key) is None
    store.put(key, STORED)
    assert store.get(key) == STORED
    no_answer = replace(STORED, answer=None, refused=Refusal.DECLINED, num_refused=1)
    store.put(key, no_answer)
    assert store.get(key) == no_answer


def test_a_file_names_whose_it_is_and_holds_no_words(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    key = answer_key(IDENTITY, transcript("u1"))
    store.put(key, STORED)
    (file,) = tmp_path.rglob("*.answer.json")
    values = json.loads(file.read_text())
    assert (values["person"], values["unit_id"]) == ("test:u1", "u1")
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b'"x"', b"\xff", b'{"format": 1}',
        json.dumps(STORED.to_json() | {"format": 2}).encode(),
        json.dumps(STORED.to_json() | {"refused": "declined"}).encode(),
        json.dumps(STORED.to_json() | {"answer": None}).encode(),
        json.dumps(STORED.to_json() | {"answer": STORED.to_json()["answer"] | {"items": [9] * 9}}).encode(),
    ],
)  # fmt: skip
def test_a_damaged_file_is_no_answer_and_is_said(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = AnswerStore(tmp_path)
    key = answer_key(IDENTITY, transcript("u1"))
    store.put(key, STORED)
    store.path(key).write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert store.get(key) is None
    assert f"{key}.answer.json" in caplog.text


def test_a_key_follows_whatever_changes_an_answer() -> None:
    one = transcript("u1", "hello")
    key = answer_key(IDENTITY, one)
    assert answer_key(dict(reversed(IDENTITY.items())), one) == key
    assert answer_key(IDENTITY, replace(one, unit_id="another", deidentified=True)) == key
    others = [
        answer_key(IDENTITY | {"model": "n"}, one),
        answer_key(IDENTITY, transcript("u1", "hello!")),
        answer_key(IDENTITY, transcript("u1", "hello", asked="and you?")),
        answer_key(IDENTITY, replace(one, instrument=Instrument.PHQ8)),
    ]
    assert len({key, *others}) == 5


def test_a_person_has_answers_of_their_own_and_the_request_does_not_tell_who_it_is_about() -> None:
    one, other = transcript("u1", "hello"), transcript("u1", "hello", person="daic:300")
    assert answer_key(IDENTITY, one) != answer_key(IDENTITY, other)
    assert request_key(IDENTITY, one) == request_key(IDENTITY, other)


def test_the_store_may_lie_in_object_storage(bucket: UPath) -> None:
    store = AnswerStore(bucket / "answers")
    key = answer_key(IDENTITY, transcript("u1"))
    assert store.get(key) is None
    store.put(key, STORED)
    assert AnswerStore(bucket / "answers").get(key) == STORED
