from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from moodscale.corpora.conversations import ConversationsConfig
from moodscale.schema import CorpusError
from tiny_chats import chat, label, write_log


def refusal(root: Path, **settings: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        ConversationsConfig(path=str(root), labels=None, **settings).open()
    return str(caught.value)


def test_a_gzip_that_breaks_off_is_refused_by_name(tmp_path: Path) -> None:
    whole = gzip.compress(os.urandom(300_000).hex().encode() + b"\n")
    (tmp_path / "conversations.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    assert refusal(tmp_path).startswith("conversations.jsonl.gz: is cut off")


def test_a_gzip_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "conversations.jsonl.gz").write_bytes(b'{"user_id": "u1"}\n' * 100)
    assert refusal(tmp_path).startswith("conversations.jsonl.gz: its gzip stream is damaged")


@pytest.mark.parametrize(("line", "part"), [
    (b"\0", "unpacks to more than 200 times its size"), (b"\n", "1,000,000 empty lines"),
    (b"x\n", "100,000 lines are no conversation, the first is line 1 (not JSON)"),
], ids=["one endless line", "endless lines", "endless nonsense"])  # fmt: skip
def test_a_gzip_bomb_is_refused_long_before_its_end(tmp_path: Path, line: bytes, part: str) -> None:
    (tmp_path / "conversations.jsonl.gz").write_bytes(gzip.compress(line * (100 * 2**20 // len(line)), 6))
    assert part in refusal(tmp_path)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 1000 + b"PAR1", b"\xff" * 5000])
def test_a_parquet_that_is_none_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "conversations.parquet").write_bytes(data)
    assert refusal(tmp_path).startswith("conversations.parquet: cannot be read")


def test_a_parquet_with_damaged_pages_ends_in_a_refusal_or_a_quarantine(tmp_path: Path) -> None:
    write_log(tmp_path, [chat(f"u{number}", "a") for number in range(20)], None, "parquet")
    path = tmp_path / "conversations.parquet"
    whole = path.read_bytes()
    for at in range(4, len(whole) // 2, 97):
        path.write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8 :])
        try:
            corpus = ConversationsConfig(path=str(tmp_path), labels=None).open()
        except CorpusError as error:
            assert str(error).startswith(("conversations.parquet: ", "corpus.path="))  # noqa: PT017
            continue
        for interview_id in corpus.interview_ids():
            reading = corpus.read(interview_id)
            assert reading.interview is not None or reading.quarantined


@pytest.mark.parametrize(("changes", "part"), [
    ({"user_id": None}, "column user_id is missing"),
    ({"user_id": pa.array([1.5])}, "column user_id has another type than text"),
    ({"started_at": pa.array([17])}, "column started_at has another type"),
    ({"messages": pa.array(["[]"])}, "column messages has another type than a list"),
    ({"messages": pa.array([[{"role": "user", "content": 5}]])}, "column messages has another type"),
])  # fmt: skip
def test_a_parquet_column_of_another_type_is_refused_by_its_name(
    tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    columns = {
        "user_id": pa.array(["u1"]),
        "conversation_id": pa.array(["a"]),
        "started_at": pa.array(["2025-03-01T12:00:00Z"]),
        "messages": pa.array([[{"role": "user", "content": "x"}]]),
        **changes,
    }
    table = pa.table({name: column for name, column in columns.items() if column is not None})
    pq.write_table(table, tmp_path / "conversations.parquet")
    assert part in refusal(tmp_path)


def test_a_row_group_too_large_to_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moodscale.corpora.conversation_files.MAX_ROW_GROUP_BYTES", 100)
    write_log(tmp_path, [chat("u1", "a")], None, "parquet")
    assert "write it with smaller row groups" in refusal(tmp_path)


def test_a_column_of_timestamps_is_as_good_as_text(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    write_log(tmp_path, [chat("u1", "a", datetime(2025, 3, 1, tzinfo=UTC))], None, "parquet")
    reading = ConversationsConfig(path=str(tmp_path), labels=None).open().read("u1")
    assert reading.interview is not None
    assert reading.repairs[0].defect == "no_label"


def test_a_file_that_changed_since_it_was_indexed_is_quarantined_and_no_crash(tmp_path: Path) -> None:
    write_log(tmp_path, [chat("u1", "a"), chat("u2", "b")], None)
    corpus = ConversationsConfig(path=str(tmp_path), labels=None).open()
    (tmp_path / "conversations.jsonl").write_bytes(b"{}\n")
    for user in ("u1", "u2"):
        reading = corpus.read(user)
        assert reading.interview is None
        assert reading.quarantined


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_a_log_on_object_storage_reads_as_on_local_disk(tmp_path: Path, bucket: UPath, form: str) -> None:
    rows = [chat(f"u{number % 3}", f"c{number}", f"2025-03-{number + 1:02d}T12:00:00Z") for number in range(9)]
    labels = [label("u1", "2025-03-08T00:00:00Z"), label("u2", "2025-03-20T00:00:00Z")]
    write_log(tmp_path, rows, labels, form)
    for file in tmp_path.iterdir():
        (bucket / "log" / file.name).write_bytes(file.read_bytes())
    here = ConversationsConfig(path=str(tmp_path)).open()
    there = ConversationsConfig(path=str(bucket / "log")).open()
    assert there.interview_ids() == here.interview_ids()
    assert [there.read(id_) for id_ in there.interview_ids()] == [here.read(id_) for id_ in here.interview_ids()]
    assert list(there.absent()) == list(here.absent())
