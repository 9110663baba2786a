"""The synthesised conversations: both formats, words that follow the questionnaire within its look-back, defects."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.synthesize import SynthesisSummary, SynthesizeConfig, conversation_script, synthesize
from moodscale.corpora.synthesize.conversation_defects import BAD_TIME, DEFECTS
from moodscale.corpora.synthesize.conversation_script import LOOK_BACK_DAYS
from moodscale.corpora.synthesize.phrases_chat import PHQ9_TOPICS

LABEL_HEADER = ["user_id", "instrument", "administered_at", "total", *(f"item_{number}" for number in range(1, 10))]


def run(out: Path, **fields: object) -> SynthesisSummary:
    return synthesize("conversations", validate(SynthesizeConfig, {"out": out, "num_participants": 30, **fields}))


def lines(out: Path) -> list[str]:
    return (out / "conversations.jsonl").read_text(encoding="utf-8").splitlines()


def conversations(out: Path) -> list[dict]:
    return [json.loads(line) for line in lines(out)]


def labels(out: Path) -> list[dict[str, str]]:
    with (out / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthesisSummary]:
    out = tmp_path_factory.mktemp("plain") / "corpus"
    return out, run(out, num_participants=100)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthesisSummary]:
    out = tmp_path_factory.mktemp("spoiled") / "corpus"
    return out, run(out, num_participants=12, defects="all")


class TestLayout:
    def test_a_line_is_a_conversation_of_messages_by_user_and_assistant(
        self, plain: tuple[Path, SynthesisSummary]
    ) -> None:
        found = conversations(plain[0])
        assert len({one["conversation_id"] for one in found}) == len(found)
        for one in found:
            assert list(one) == ["user_id", "conversation_id", "started_at", "messages"]
            assert datetime.fromisoformat(one["started_at"]).utcoffset() == timedelta(0)
            assert {message["role"] for message in one["messages"]} == {"user", "assistant"}
            assert all(message["content"].strip() for message in one["messages"])
            times = [message["at"] for message in one["messages"] if "at" in message]
            assert times == sorted(times)
            assert len(times) in (0, len(one["messages"]))

    def test_labels_have_all_columns_and_totals_that_are_the_items_sum(
        self, plain: tuple[Path, SynthesisSummary]
    ) -> None:
        rows = labels(plain[0])
        assert list(rows[0]) == LABEL_HEADER
        for row in rows:
            assert row["instrument"] == "PHQ-9"
            assert sum(int(row[f"item_{number}"]) for number in range(1, 10)) == int(row["total"])

    def test_some_users_have_two_questionnaires_that_differ_and_some_none(
        self, plain: tuple[Path, SynthesisSummary]
    ) -> None:
        out, summary = plain
        totals = defaultdict(list)
        for row in labels(out):
            totals[row["user_id"]].append(int(row["total"]))
        twice = [both for both in totals.values() if len(both) == 2]
        assert len(twice) > 15
        assert sum(first != second for first, second in twice) > 0.7 * len(twice)
        unlabelled = {one["user_id"] for one in conversations(out)} - totals.keys()
        assert 8 < len(unlabelled) < 35
        assert {one.interview_id for one in summary.planted if one.defect == "no_label"} == unlabelled

    def test_who_wrote_outside_the_look_back_is_listed_and_nobody_else(
        self, plain: tuple[Path, SynthesisSummary]
    ) -> None:
        out, summary = plain
        answered = defaultdict(list)
        for row in labels(out):
            answered[row["user_id"]].append(datetime.fromisoformat(row["administered_at"]))
        outside: dict[str, int] = defaultdict(int)
        inside: dict[str, set] = defaultdict(set)
        for one in conversations(out):
            started_at = datetime.fromisoformat(one["started_at"])
            waits = [at - started_at for at in answered[one["user_id"]]]
            if any(timedelta(0) <= wait <= timedelta(days=LOOK_BACK_DAYS) for wait in waits):
                inside[one["user_id"]].add(started_at.date())
            elif waits:
                outside[one["user_id"]] += 1
        listed = {one.interview_id: one.detail for one in summary.planted if one.defect == "out_of_window"}
        assert listed == {user: f"{number} conversations" for user, number in outside.items()}
        assert len(listed) > 10
        assert all(len(inside[user]) >= 3 for user in answered if answered[user]), "several days a user"
        assert {one.defect for one in summary.planted} == {"no_label", "out_of_window"}

    def test_parquet_holds_the_same_as_json_lines(self, tmp_path: Path) -> None:
        text, columns = run(tmp_path / "text").out, run(tmp_path / "columns", format="parquet").out
        rows = pq.read_table(columns / "conversations.parquet").to_pylist()
        for row in rows:
            row["messages"] = [{k: v for k, v in one.items() if v is not None} for one in row["messages"]]
        assert rows == conversations(text)
        typed = pq.read_table(columns / "labels.parquet").to_pylist()
        assert [{name: str(value) for name, value in row.items()} for row in typed] == labels(text)

    def test_a_share_without_labels_can_be_set(self, tmp_path: Path) -> None:
        assert not labels(run(tmp_path / "none", unlabelled_share=1.0).out)
        everyone = labels(run(tmp_path / "all", unlabelled_share=0.0).out)
        assert len({row["user_id"] for row in everyone}) == 30


class TestWords:
    def test_at_full_effect_the_words_before_a_questionnaire_are_those_of_its_answers(self, tmp_path: Path) -> None:
        out = run(tmp_path / "corpus", unlabelled_share=0.0).out
        levels = {
            phrase: (topic.item, level)
            for topic in PHQ9_TOPICS for level, pool in enumerate(topic.answers) for phrase in pool
        }  # fmt: skip
        said = defaultdict(list)
        for one in conversations(out):
            for message in one["messages"]:
                if message["role"] == "user":
                    phrases = [levels[part] for part in message["content"].split(". ") if part in levels]
                    said[one["user_id"]] += [(one["started_at"], *phrase) for phrase in phrases]
        for row in labels(out):
            at = datetime.fromisoformat(row["administered_at"])
            heard = {
                (item, level)
                for started_at, item, level in said[row["user_id"]]
                if timedelta(0) <= at - datetime.fromisoformat(started_at) <= timedelta(days=LOOK_BACK_DAYS)
            }
            assert heard == {(item, int(row[f"item_{item + 1}"])) for item in range(9)}

    @pytest.mark.parametrize("effect", [0.0, 1.0])
    def test_other_labels_change_conversations_only_with_an_effect(
        self, effect: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = conversation_script.draw_both_answers

        def swapped(seed: int, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
            first, second = drawn(seed, number)
            return tuple(3 - answer for answer in first), tuple(3 - answer for answer in second)

        as_drawn = run(tmp_path / "drawn", effect=effect).out
        monkeypatch.setattr(conversation_script, "draw_both_answers", swapped)
        as_swapped = run(tmp_path / "swapped", effect=effect).out
        assert labels(as_drawn) != labels(as_swapped)
        assert (lines(as_drawn) == lines(as_swapped)) is (effect == 0)

    def test_bytes_follow_from_the_seed(self, tmp_path: Path) -> None:
        one, same, other = (run(tmp_path / name, seed=seed).out for name, seed in (("a", 1), ("b", 1), ("c", 2)))
        assert lines(one) == lines(same)
        assert lines(one) != lines(other)


class TestDefects:
    def test_every_defect_is_planted_and_listed(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        _, summary = spoiled
        assert {one.defect for one in summary.planted} == DEFECTS.keys()
        assert len({(one.interview_id, one.defect) for one in summary.planted}) == len(summary.planted)

    def test_defects_are_where_the_list_says(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, summary = spoiled
        who = {one.defect: one.interview_id for one in summary.planted}
        number = int(who["invalid_line"].removeprefix("line "))
        all_lines = lines(out)
        with pytest.raises(json.JSONDecodeError):
            json.loads(all_lines[number - 1])
        assert "messages" not in all_lines[number - 1], "breaks off before anybody's words"
        by_user = defaultdict(list)
        for line in all_lines[: number - 1] + all_lines[number:]:
            one = json.loads(line)
            by_user[one["user_id"]].append(one)

        def messages(defect: str) -> list[dict]:
            return [message for one in by_user[who[defect]] for message in one["messages"]]

        ids = [one["conversation_id"] for one in by_user[who["duplicate_conversation"]]]
        assert len(ids) == len(set(ids)) + 1
        assert any(not message["content"].strip() for message in messages("empty_message"))
        assert [one["started_at"] for one in by_user[who["bad_time"]]].count(BAD_TIME) == 1
        assert {message["role"] for message in messages("unknown_role")} == {"user", "assistant", "moderator"}
        backward = [
            one for one in by_user[who["out_of_order_messages"]]
            if (times := [message["at"] for message in one["messages"]]) != sorted(times)
        ]  # fmt: skip
        assert len(backward) == 1
        assert sum("+" not in one["started_at"] for one in by_user[who["naive_time"]]) == 1
        rows = defaultdict(list)
        for row in labels(out):
            rows[row["user_id"]].append(row)
        first = rows[who["items_do_not_add_up"]][0]
        assert sum(int(first[f"item_{n}"]) for n in range(1, 10)) != int(first["total"])
        assert [row["total"] for row in rows[who["total_out_of_range"]]] == ["28"]
        assert [row["instrument"] for row in rows[who["other_instrument"]]].count("PHQ-8") == 1
        assert not rows.keys() & {one.interview_id for one in summary.planted if one.defect == "no_label"}

    def test_the_list_holds_no_words(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, summary = spoiled
        told = str(summary.to_json())
        readable = [json.loads(line) for line in lines(out) if line.endswith("]}")]
        said = {m["content"] for one in readable for m in one["messages"] if len(m["content"].split()) > 3}
        assert len(said) > 100
        assert not [content for content in said if content in told]

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"defects": "mould"}, "mould"),
            ({"defects": "all", "num_participants": 11}, "take 12"),
            ({"defects": "invalid_line", "format": "parquet"}, "invalid_line: not possible with format=parquet"),
            ({"archives": True}, "archives=True means nothing to conversations"),
            ({"features": True}, "features=True means nothing to conversations"),
        ],
    )
    def test_settings_that_do_not_go_together_are_refused_before_anything_is_written(
        self, fields: dict[str, object], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match=said):
            run(tmp_path / "corpus", **fields)
        assert not (tmp_path / "corpus").exists()
