"""Labelling with teachers that are here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from moodscale.config import ConfigError
from moodscale.config.lookup import find_component
from moodscale.label.answer import Answer, Refusal, RefusedAnswer, Usage
from moodscale.label.ask import label_transcripts
from moodscale.label.teachers.base import Failure, Outcome, Reply, TeacherConfig, TeacherFailure
from moodscale.label.teachers.lexicon import LexiconConfig
from moodscale.label.transcript import Transcript
from spoken import transcript, transcripts

ANSWER = Answer((1,) * 9, 9.0, 0.5)
KINDS = ("anthropic", "lexicon", "openai_compatible", "recorded", "vllm")


class FakeConfig(TeacherConfig):
    """A teacher of this process: what it says of a unit is in ``said``, and an answer otherwise."""

    kind: Literal["fake"] = "fake"
    said: dict[str, Any] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def open(self) -> FakeTeacher:
        return FakeTeacher(self)


class FakeTeacher:
    def __init__(self, config: FakeConfig) -> None:
        self._config = config
        self.identity = {"kind": "fake"}

    def ask_all(self, transcripts: Sequence[Transcript]) -> Iterator[tuple[int, Outcome]]:
        for at in reversed(range(len(transcripts))):
            self._config.asked.append(transcripts[at].unit_id)
            yield at, self._config.said.get(transcripts[at].unit_id, Reply(ANSWER, Usage(3, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_by_its_name(kind: str) -> None:
    found = find_component("moodscale.label.teachers", TeacherConfig, kind)
    assert found.model_fields["kind"].default == kind


def test_answers_come_in_the_order_of_the_transcripts_whatever_the_teachers_is(tmp_path: Path) -> None:
    said = {
        "u001": RefusedAnswer(Refusal.TRUNCATED, Usage(1, 1)),
        "u002": TeacherFailure(Failure.SERVER_ERROR, passing=True),
        "u003": Reply(Answer((1,) * 9, 10.0, 0.5)),
    }
    found = label_transcripts(FakeConfig(said=said), transcripts(5), tmp_path)
    assert list(found.answers) == ["u000", "u004"]
    assert found.refused == {"u001": "truncated", "u002": "server_error", "u003": "total_does_not_add_up"}
    assert (found.summary.input_tokens, found.summary.output_tokens) == (7, 5)
    assert found.summary.to_json()["refused"] == {"server_error": 1, "total_does_not_add_up": 1, "truncated": 1}


def test_a_failure_is_asked_for_again_and_a_refusal_is_not(tmp_path: Path) -> None:
    said = {
        "u001": RefusedAnswer(Refusal.TRUNCATED),
        "u002": TeacherFailure(Failure.SERVER_ERROR, passing=True),
    }
    label_transcripts(FakeConfig(said=said), transcripts(3), tmp_path)
    again = FakeConfig(said=said)
    label_transcripts(again, transcripts(3), tmp_path)
    assert again.asked == ["u002"]
    refused_too = FakeConfig()
    assert len(label_transcripts(refused_too, transcripts(3), tmp_path, retry_refused=True).answers) == 3
    assert sorted(refused_too.asked) == ["u001", "u002"]


def test_what_was_stored_before_the_teacher_broke_is_kept(tmp_path: Path) -> None:
    class Breaking(FakeTeacher):
        def ask_all(self, transcripts: Sequence[Transcript]) -> Iterator[tuple[int, Outcome]]:
            yield 0, Reply(ANSWER)
            raise RuntimeError("the engines stopped")

    class BreakingConfig(FakeConfig):
        def open(self) -> FakeTeacher:
            return Breaking(self)

    with pytest.raises(RuntimeError, match="engines"):
        label_transcripts(BreakingConfig(), transcripts(3), tmp_path)
    rest = FakeConfig()
    label_transcripts(rest, transcripts(3), tmp_path)
    assert sorted(rest.asked) == ["u001", "u002"]


def test_units_of_one_person_that_say_the_same_are_asked_once(tmp_path: Path) -> None:
    config = FakeConfig()
    asked = [transcript("u1", "hello", person="p"), transcript("u2", "hello", person="p"), transcript("u3", "hello")]
    found = label_transcripts(config, asked, tmp_path)
    assert sorted(config.asked) == ["u1", "u3"]
    assert list(found.answers) == ["u1", "u2", "u3"]
    assert found.summary.num_asked == 3


def test_one_unit_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 unit_id"):
        label_transcripts(FakeConfig(), [transcript("u1"), transcript("u1", "else")], tmp_path)


def test_nothing_to_label_is_nothing(tmp_path: Path) -> None:
    found = label_transcripts(LexiconConfig(), [], tmp_path)
    assert (found.answers, found.refused, found.summary.num_transcripts) == ({}, {}, 0)


def test_it_works_where_an_event_loop_is_running_as_in_a_notebook(tmp_path: Path) -> None:
    from moodscale.label.teachers.openai_compatible import OpenAiCompatibleConfig
    from teacher_server import teacher_server

    async def cell() -> int:
        return len(label_transcripts(config, transcripts(2), tmp_path).answers)

    with teacher_server() as server:
        config = OpenAiCompatibleConfig(model="m", base_url=f"{server.url}/v1", api_key_env=None)
        assert asyncio.run(cell()) == 2


def test_the_log_holds_counts_and_no_ids_of_people(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        label_transcripts(FakeConfig(), transcripts(50), tmp_path)
    assert "50 labelled" in caplog.text
    assert "u001" not in caplog.text
    assert len(caplog.records) < 30


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("vllm", {"model": "Qwen/Qwen3-8B"}, "hub id is refused"),
        ("vllm", {"model": "/m", "engine": {"trust_remote_code": True}}, "trust_remote_code is refused"),
        ("vllm", {"model": "/m", "engine": {"tensor_parallel_size": 2}}, "setting of its own"),
        ("openai_compatible", {"model": "m", "speech": "interviewer"}, "interviewer"),
        ("lexicon", {"words": "mine"}, "unknown key"),
    ],
)
def test_what_cannot_be_meant_is_refused_on_reading(kind: str, values: dict[str, Any], message: str) -> None:
    from moodscale.config import validate

    with pytest.raises(ConfigError, match=message):
        validate(find_component("moodscale.label.teachers", TeacherConfig, kind), values)
