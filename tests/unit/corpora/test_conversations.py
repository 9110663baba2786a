from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora import conversation_index
from moodscale.corpora.base import CorpusConfig, Reading
from moodscale.corpora.conversations import Conversations, ConversationsConfig
from moodscale.schema import CorpusError, Instrument, Interview, Speaker
from tiny_chats import TOLD, chat, label, write_log

FORMS = ["jsonl", "jsonl.gz", "parquet"]


def open_log(root: Path, rows: Any, labels: Any = (), form: str = "jsonl", **settings: Any) -> Conversations:
    write_log(root, rows, labels, form)
    return ConversationsConfig(path=str(root), **settings).open()


def defects(reading: Reading) -> dict[str, tuple[str, str]]:
    return {repair.defect: (repair.interview_id, repair.before) for repair in reading.repairs}


def interview(reading: Reading) -> Interview:
    assert reading.interview is not None, reading.quarantined
    return reading.interview


@pytest.mark.parametrize("form", FORMS)
def test_a_questionnaire_goes_with_the_conversations_before_it(tmp_path: Path, form: str) -> None:
    messages = (
        {"role": "user", "content": "hello there", "at": "2025-03-01T12:00:05+00:00"},
        {"role": "assistant", "content": "how are you", "at": "2025-03-01T12:00:15+00:00"},
    )
    later = ({"role": "user", "content": "fine", "at": "2025-03-02T12:00:05+00:00"},)
    rows = [chat("u1", "b", "2025-03-02T12:00:00+00:00", later), chat("u2", "c"), chat("u1", "a", messages=messages)]
    corpus = open_log(tmp_path, rows, [label("u1"), label("u2", total=10, items=(2, *(1,) * 8))], form)
    assert corpus.interview_ids() == ["u1", "u2"]
    reading = corpus.read("u1")
    found = interview(reading)
    assert reading.repairs == ()
    assert (found.person, found.corpus, found.recordings, found.split) == ("conv:u1", "conversations", (), None)
    assert found.administered_at == "2025-03-05T12:00:00+00:00"
    assert found.label is not None
    assert (found.label.instrument, found.label.total, found.label.items) == (Instrument.PHQ9, 9, (1,) * 9)
    assert [(turn.speaker, turn.start_s, turn.text, turn.recording) for turn in found.turns] == [
        (Speaker.PARTICIPANT, 0.0, "hello there", 0),
        (Speaker.INTERVIEWER, 10.0, "how are you", 0),
        (Speaker.PARTICIPANT, 86_400.0, "fine", 1),
    ]


def test_both_edges_of_the_look_back_belong_to_it_in_any_zone(tmp_path: Path) -> None:
    rows = [
        chat("u1", "first", "2025-03-01T14:00:00+02:00"),
        chat("u1", "before", "2025-03-01T11:59:59.999999+00:00"),
        chat("u1", "last", "2025-03-15T05:00:00-07:00"),
        chat("u1", "after", "2025-03-15T12:00:00.000001+00:00"),
    ]
    corpus = open_log(tmp_path, rows, [label("u1", "2025-03-15T12:00:00+00:00")])
    reading = corpus.read("u1")
    assert {turn.recording for turn in interview(reading).turns} == {0, 1}
    assert defects(reading)["out_of_window"][1].startswith("2 of 4 conversations")


def test_what_was_written_after_the_questionnaire_is_left_out_and_counted(tmp_path: Path) -> None:
    messages = tuple(
        {"role": "user", "content": f"message {minute}", "at": f"2025-03-01T12:0{minute}:00Z"} for minute in range(5)
    )
    reading = open_log(tmp_path, [chat("u1", "a", messages=messages)], [label("u1", "2025-03-01T12:02:00Z")]).read("u1")
    assert [turn.text for turn in interview(reading).turns] == ["message 0", "message 1", "message 2"]
    assert defects(reading)["after_questionnaire"][1] == "2 message(s) after the questionnaire"


def test_the_look_back_is_a_setting(tmp_path: Path) -> None:
    rows = [chat("u1", "a", "2025-03-01T12:00:00Z"), chat("u1", "b", "2025-03-04T12:00:00Z")]
    labels = [label("u1", "2025-03-05T12:00:00Z")]
    assert len(interview(open_log(tmp_path, rows, labels, look_back_days=1).read("u1")).turns) == 2
    assert len(interview(open_log(tmp_path, rows, labels, look_back_days=4).read("u1")).turns) == 4


def test_several_questionnaires_are_several_interviews_of_one_person(tmp_path: Path) -> None:
    rows = [chat("u1", "a", "2025-03-01T12:00:00Z"), chat("u1", "b", "2025-04-01T12:00:00Z")]
    labels = [label("u1", "2025-04-02T12:00:00Z", 18, (2,) * 9), label("u1", "2025-03-02T12:00:00Z")]
    corpus = open_log(tmp_path, rows, labels)
    assert corpus.interview_ids() == ["u1", "u1@2025-04-02"]
    first, second = (interview(corpus.read(id_)) for id_ in corpus.interview_ids())
    assert first.person == second.person == "conv:u1"
    assert [one.label.total for one in (first, second) if one.label] == [9, 18]
    assert second.administered_at == "2025-04-02T12:00:00+00:00"


def test_two_questionnaires_on_a_day_and_a_user_called_like_an_interview_keep_apart(tmp_path: Path) -> None:
    rows = [chat("u1", "a"), chat("u1@2025-03-02", "b")]
    days = ("2025-03-02T10:00:00Z", "2025-03-02T11:00:00Z", "2025-03-02T12:00:00Z")
    corpus = open_log(tmp_path, rows, [label("u1", at) for at in days])
    assert set(corpus.interview_ids()) == {"u1", "u1@2025-03-02", "u1@2025-03-02.2", "u1@2025-03-02.3"}
    assert interview(corpus.read("u1@2025-03-02")).person == "conv:u1@2025-03-02"
    assert interview(corpus.read("u1@2025-03-02.3")).person == "conv:u1"


def test_a_defect_in_two_windows_is_noted_once_and_repaired_in_both(tmp_path: Path) -> None:
    rows = [chat("u1", "a", messages=(*TOLD, {"role": "user", "content": " "}))]
    corpus = open_log(tmp_path, rows, [label("u1", "2025-03-02T12:00:00Z"), label("u1", "2025-03-03T12:00:00Z")])
    readings = [corpus.read(interview_id) for interview_id in corpus.interview_ids()]
    assert [len(interview(reading).turns) for reading in readings] == [2, 2]
    assert [list(defects(reading)) for reading in readings] == [["empty_message"], []]


def test_a_user_without_a_questionnaire_is_an_unlabelled_interview_of_everything(tmp_path: Path) -> None:
    rows = [chat("u1", "a", "2020-01-01T00:00:00Z"), chat("u1", "b"), chat("u2", "c")]
    corpus = open_log(tmp_path, rows, [label("u2")])
    reading = corpus.read("u1")
    assert (interview(reading).label, len(interview(reading).turns)) == (None, 4)
    assert list(defects(reading)) == ["no_label"]
    assert any("1 of 2 users have no questionnaire" in sentence for sentence in corpus.approximations())


def test_thousands_without_a_questionnaire_are_one_line_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moodscale.corpora.conversations.MAX_LISTED", 2)
    corpus = open_log(tmp_path, [chat(f"u{number}", "a") for number in range(5)], [label("u0")])
    assert all(corpus.read(f"u{number}").repairs == () for number in range(1, 5))
    assert [(line.defect, line.before) for line in corpus.absent()] == [("no_label", "4 users without a questionnaire")]


def test_lines_that_hold_no_conversation_are_noted_by_number_and_file(tmp_path: Path) -> None:
    broken = [
        b'{"user_id": "u1", "conversation_id": "x", "mess', b"\xff\xfe\x00", b"[1, 2]", b"[" * 100_000, b"\0" * 50,
        chat(None, "a"), chat("", "a"), chat("u" * 129, "a"), chat(["u"], "a"), chat("u1", {"a": 1}), chat(True, "a"),
        chat("a\nb", "a"), b'{"user_id": ' + b"9" * 5000 + b"}", '"text"', chat("\ud800", "a"),
    ]  # fmt: skip
    corpus = open_log(
        tmp_path, [b"\xef\xbb\xbf" + b'{"user_id": 5, "conversation_id": 1}', b"", *broken, chat("u1", "a")]
    )
    lines = [line for line in corpus.absent() if line.defect == "invalid_line"]
    assert [line.where for line in lines] == [f"conversations.jsonl: line {n}" for n in range(3, 3 + len(broken))]
    assert lines[0].interview_id == "line 3"
    assert corpus.interview_ids() == ["5", "u1"]
    assert len(interview(corpus.read("u1")).turns) == 2


def test_a_line_beyond_the_bound_is_passed_over_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moodscale.corpora.conversation_files.MAX_LINE_BYTES", 1000)
    for form in ("jsonl", "jsonl.gz"):
        corpus = open_log(tmp_path / form, [chat("u1", "a"), b"x" * 12_345, chat("u1", "b")], form=form)
        (line,) = [line for line in corpus.absent() if line.defect == "invalid_line"]
        assert (line.where, line.before) == (f"conversations.{form}: line 2", "longer than 1,000 bytes")
        assert len(interview(corpus.read("u1")).turns) == 4


@pytest.mark.parametrize(("row", "field"), [
    (chat("u1", "b", "2025-13-41T25:61:00+00:00"), "started_at"), (chat("u1", "b", 17), "started_at"),
    (chat("u1", "b", None), "started_at"), (chat("u1", "b", messages="hello"), "messages"),
    (chat("u1", "b", messages=None), "messages"), (chat("u1", "b", messages={"role": "user"}), "messages"),
])  # fmt: skip
def test_a_conversation_that_cannot_be_used_is_quarantined_by_line_and_field(
    tmp_path: Path, row: Any, field: str
) -> None:
    reading = open_log(tmp_path, [chat("u1", "a"), row], [label("u1")]).read("u1")
    assert len(interview(reading).turns) == 2
    (line,) = reading.quarantined
    assert (line.interview_id, line.where.startswith("conversations.jsonl: line 2")) == ("u1", True)
    assert field in line.reason


@pytest.mark.parametrize(("message", "defect", "num_turns"), [
    ({"role": "user", "content": " \n"}, "empty_message", 2),
    ({"role": "user", "content": "\0"}, "empty_message", 2),
    ({"role": "moderator", "content": "hush"}, "unknown_role", 3),
    ({"role": ["user"], "content": "hush"}, "unknown_role", 3),
    ({"content": "hush"}, "unknown_role", 3),
    ({"role": "user", "content": 5}, "invalid_message", 2),
    ({"role": "user", "content": None}, "invalid_message", 2),
    ("hello", "invalid_message", 2),
    (None, "invalid_message", 2),
    ({"role": "user", "content": "x", "at": "soon"}, "bad_message_time", 3),
    ({"role": "user", "content": "x", "at": {"$date": 5}}, "bad_message_time", 3),
    ({"role": "user", "content": "x", "at": "2025-03-01T12:00:00"}, "naive_time", 3),
    ({"role": "user", "content": "x", "at": "2025-02-28T12:00:00Z"}, "out_of_order_messages", 3),
])  # fmt: skip
def test_a_message_with_a_defect_is_repaired_and_counted(
    tmp_path: Path, message: Any, defect: str, num_turns: int
) -> None:
    reading = open_log(tmp_path, [chat("u1", "a", messages=(*TOLD, message))], [label("u1")]).read("u1")
    found = interview(reading)
    assert list(defects(reading)) == [defect]
    assert len(found.turns) == num_turns
    starts = [turn.start_s for turn in found.turns]
    assert starts == sorted(starts)
    assert starts[0] == 0.0
    if defect == "unknown_role":
        assert found.turns[-1].speaker is Speaker.UNKNOWN


def test_a_surrogate_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    rows = [chat("u1", "a", messages=({"role": "user", "content": "a\ud800b"},))]
    assert interview(open_log(tmp_path, rows).read("u1")).turns[0].text == "a?b"


@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_that_is_there_twice_is_taken_once_and_one_that_differs_is_quarantined(
    tmp_path: Path, form: str
) -> None:
    other = chat("u1", "a", messages=TOLD[:1])
    rows = [chat("u1", "a"), chat("u2", "a"), chat("u1", "a"), other]
    reading = open_log(tmp_path, rows, [label("u1"), label("u2")], form).read("u1")
    assert len(interview(reading).turns) == 2
    assert list(defects(reading)) == ["duplicate_conversation"]
    (line,) = reading.quarantined
    assert "another conversation of the same id differs" in line.reason


def test_a_label_outside_its_range_quarantines_that_questionnaire_and_not_the_users_other(tmp_path: Path) -> None:
    rows = [chat("u1", "a", "2025-03-01T12:00:00Z"), chat("u1", "b", "2025-04-01T12:00:00Z")]
    labels = [label("u1", "2025-03-02T12:00:00Z", 28), label("u1", "2025-04-02T12:00:00Z")]
    corpus = open_log(tmp_path, rows, labels)
    bad, good = (corpus.read(interview_id) for interview_id in corpus.interview_ids())
    assert bad.interview is None
    assert "labels.csv: row 2: total=28 is not a whole number of 0-27" in bad.quarantined[0].reason
    assert interview(good).label is not None


def test_rows_of_labels_that_cannot_be_used_are_noted_and_left_out(tmp_path: Path) -> None:
    labels = [
        label("u1"), label("u1"), label("u1", which="PHQ-8"), label("u1", which="GAD-7"), label("u1", at="soon"),
        label(""), label("u9"), label("u2", which="phq9"), label("u2", "2025-06-01T00:00:00Z"),
    ]  # fmt: skip
    corpus = open_log(tmp_path, [chat("u1", "a"), chat("u2", "b")], labels)
    assert [(line.interview_id, line.defect) for line in corpus.absent()] == [
        ("u1", "duplicate_label"), ("u1", "other_instrument"), ("u1", "other_instrument"), ("u1", "invalid_label_row"),
        ("", "invalid_label_row"), ("u9", "absent_session"), ("u2", "no_conversations"),
    ]  # fmt: skip
    assert corpus.interview_ids() == ["u1", "u2"]


def test_two_rows_of_one_time_that_disagree_quarantine_it(tmp_path: Path) -> None:
    reading = open_log(tmp_path, [chat("u1", "a")], [label("u1"), label("u1", total=10)]).read("u1")
    assert reading.interview is None
    assert "labels.csv: row 3: administered_at" in reading.quarantined[0].reason


def test_items_that_do_not_add_up_are_named_and_a_blank_one_is_found(tmp_path: Path) -> None:
    rows = [chat("u1", "a"), chat("u2", "b")]
    corpus = open_log(tmp_path, rows, [label("u1", total=12), label("u2", items=("", *(1,) * 8))])
    assert list(defects(corpus.read("u1"))) == ["items_do_not_add_up"]
    found = interview(corpus.read("u2"))
    assert found.label is not None
    assert found.label.items[0] == 1


def test_a_naive_questionnaire_is_utc_and_noted(tmp_path: Path) -> None:
    reading = open_log(tmp_path, [chat("u1", "a", "2025-03-05T20:00:00Z")], [label("u1", "2025-03-05")]).read("u1")
    assert list(defects(reading)) == ["naive_time"]
    assert len(interview(reading).turns) == 2


def test_a_log_without_labels_is_read_when_it_is_said_so(tmp_path: Path) -> None:
    write_log(tmp_path, [chat("u1", "a")], None)
    corpus = ConversationsConfig(path=str(tmp_path), labels=None).open()
    assert interview(corpus.read("u1")).label is None
    with pytest.raises(CorpusError, match=r"corpus\.labels names the table, null is for none"):
        ConversationsConfig(path=str(tmp_path)).open()


def test_a_folder_of_files_is_one_log(tmp_path: Path) -> None:
    write_log(tmp_path / "parts", [chat("u1", "a"), b"no json"], None)
    write_log(tmp_path / "more", [chat("u2", "b"), chat("u1", "c")], None, "jsonl.gz")
    (tmp_path / "conversations").mkdir()
    (tmp_path / "parts/conversations.jsonl").rename(tmp_path / "conversations/1.jsonl")
    (tmp_path / "more/conversations.jsonl.gz").rename(tmp_path / "conversations/2.jsonl.gz")
    corpus = ConversationsConfig(path=str(tmp_path), labels=None).open()
    assert len(interview(corpus.read("u1")).turns) == 4
    assert [line.where for line in corpus.absent()] == ["conversations/1.jsonl: line 2"]
    assert [file.name for file in corpus.inputs()] == ["conversations/1.jsonl", "conversations/2.jsonl.gz"]


def test_files_that_leave_it_open_which_is_meant_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path, [chat("u1", "a")])
    write_log(tmp_path, [chat("u1", "a")], form="jsonl.gz")
    with pytest.raises(CorpusError, match=r"conversations.jsonl and conversations.jsonl.gz are both there"):
        ConversationsConfig(path=str(tmp_path)).open()


@pytest.mark.parametrize(("settings", "part"), [
    ({"look_back_days": 0}, "look_back_days"), ({"conversations": "../secret"}, "conversations"),
    ({"labels": "a/b"}, "labels"), ({"person_prefix": "a:b"}, "person_prefix"), ({"instrument": "GAD-7"}, "instrument"),
])  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        validate(ConversationsConfig, {"path": "somewhere", **settings})


def test_a_log_with_nobody_in_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no user with a conversation"):
        open_log(tmp_path, [b"no json"])


def test_the_index_holds_numbers_and_no_text(tmp_path: Path) -> None:
    import pickle

    corpus = open_log(tmp_path, [chat("u1", f"c{number}") for number in range(50)])
    assert b"something told" not in pickle.dumps(corpus._index)
    assert "something" not in repr(corpus.read("u1"))


def test_an_index_of_several_batches_finds_everyone_in_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_index, "_BATCH", 7)
    rows = [chat(f"u{number % 3}", f"c{number}", f"2025-03-{30 - number:02d}T00:00:00Z") for number in range(29)]
    index = open_log(tmp_path, rows)._index
    for user in ("u0", "u1", "u2"):
        times = index.times_us(user)
        assert times == sorted(times)
        assert [entry.started_us for entry in index.entries(user)] == times
    assert sum(len(index.entries(user)) for user in index.users) == 29


def test_the_kind_is_found_by_its_name() -> None:
    from moodscale.config.lookup import find_component

    assert find_component("moodscale.corpora", CorpusConfig, "conversations") is ConversationsConfig
