import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from upath import UPath

from moodscale.tracking.journal import (
    JournalView,
    JournalWriter,
    Position,
    open_journal,
    read_from,
    read_journal,
    truncate,
)


def _write(path: Path, steps: range) -> None:
    with JournalWriter(path) as journal:
        for step in steps:
            journal.append(step, {"train/loss": step / 10}, time_ms=1000 + step)


def test_points_come_back_as_written_including_values_json_has_no_word_for(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with JournalWriter(path) as journal:
        journal.append(1, {"train/loss": math.nan, "train/lr": 1e-5}, time_ms=5)
        journal.append(2, {"train/loss": -math.inf}, time_ms=6)
        journal.commit()
    first, second = read_journal(path)
    assert math.isnan(first.metrics["train/loss"])
    assert first.metrics["train/lr"] == 1e-5
    assert (second.step, second.time_ms, second.metrics) == (2, 6, {"train/loss": -math.inf})
    assert all(json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines())


def test_no_journal_yet_reads_as_empty(tmp_path):
    assert read_journal(tmp_path / "absent.jsonl") == []
    assert truncate(tmp_path / "absent.jsonl", after_step=3) == 0


def test_reopening_appends(tmp_path):
    path = tmp_path / "m.jsonl"
    _write(path, range(1, 4))
    _write(path, range(4, 6))
    assert [point.step for point in read_journal(path)] == [1, 2, 3, 4, 5]


def test_truncating_drops_only_what_is_later_than_the_committed_step(tmp_path):
    path = tmp_path / "m.jsonl"
    _write(path, range(1, 11))
    assert truncate(path, after_step=6) == 4
    assert [point.step for point in read_journal(path)] == [1, 2, 3, 4, 5, 6]
    assert truncate(path, after_step=-1) == 6
    assert read_journal(path) == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("num_bytes", [1, 9, 30])
def test_a_torn_last_line_is_not_read_and_is_gone_after_reopening(tmp_path, num_bytes):
    path = tmp_path / "m.jsonl"
    _write(path, range(1, 4))
    data = path.read_bytes()
    path.write_bytes(data[:-num_bytes])
    assert [point.step for point in read_journal(path)] == [1, 2]
    _write(path, range(3, 5))
    assert [point.step for point in read_journal(path)] == [1, 2, 3, 4]


def test_a_damaged_line_in_the_middle_costs_that_line_only_and_is_not_quoted(tmp_path, caplog):
    path = tmp_path / "m.jsonl"
    _write(path, range(1, 4))
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = "I have not slept for weeks\n"
    path.write_text("".join(lines))
    assert [point.step for point in read_journal(path)] == [1, 3]
    assert "not a metric point" in caplog.text
    assert "slept" not in caplog.text


def test_a_reader_goes_on_from_its_position_and_starts_over_after_a_truncation(tmp_path):
    path = tmp_path / "m.jsonl"
    _write(path, range(1, 6))
    entries = list(read_from(path, Position()))
    assert [entry.point.step for entry in read_from(path, entries[2].end)] == [4, 5]
    truncate(path, after_step=2)
    _write(path, range(3, 20))  # longer than before: the offset alone would not show the truncation
    assert [entry.point.step for entry in read_from(path, entries[4].end)] == list(range(1, 20))


def test_a_writer_left_over_from_before_a_truncation_cannot_add_to_the_new_journal(tmp_path):
    path = tmp_path / "m.jsonl"
    zombie = JournalWriter(path)
    zombie.append(1, {"loss": 1.0})
    truncate(path, after_step=1)
    zombie.append(2, {"loss": 99.0})
    zombie.close()
    assert [point.step for point in read_journal(path)] == [1]


def test_a_killed_writer_loses_no_complete_line(tmp_path):
    path = tmp_path / "m.jsonl"
    code = (
        "import sys, os, signal\n"
        "from moodscale.tracking.journal import JournalWriter\n"
        "journal = JournalWriter(sys.argv[1])\n"
        "for step in range(1, 51): journal.append(step, {'loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [point.step for point in read_journal(path)] == list(range(1, 51))


def test_a_full_disk_names_the_path_and_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "m.jsonl"
    journal = JournalWriter(path)
    journal.append(1, {"loss": 1.0})
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real_write(file, data[:7]))
    with pytest.raises(OSError, match=r"m\.jsonl") as caught:
        journal.append(2, {"loss": 1.0})
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    journal.append(3, {"loss": 1.0})
    assert [point.step for point in read_journal(path)] == [1, 3]


@pytest.mark.parametrize("key", ["", "a//b", "/a", "a/", "../a", "loss!", "x" * 251, "a\nb"])
def test_metric_names_a_tracker_would_refuse_are_refused_at_once(tmp_path, key):
    with JournalWriter(tmp_path / "m.jsonl") as journal, pytest.raises(ValueError, match="metric name"):
        journal.append(1, {key: 1.0})
    assert read_journal(tmp_path / "m.jsonl") == []


def test_a_negative_step_is_refused(tmp_path):
    with JournalWriter(tmp_path / "m.jsonl") as journal, pytest.raises(ValueError, match="step=-1"):
        journal.append(-1, {"loss": 1.0})


def test_an_object_store_path_and_a_foreign_file_are_refused_with_the_fix(tmp_path):
    with pytest.raises(ValueError, match="object store"):
        JournalWriter("s3://bucket/run/metrics.jsonl")
    foreign = tmp_path / "notes.txt"
    foreign.write_text('{"hello": 1}\n')
    with pytest.raises(ValueError, match="not a metric journal"):
        JournalWriter(foreign)
    assert foreign.read_text() == '{"hello": 1}\n'


def test_a_journal_on_object_storage_appears_whole_with_each_commit(bucket: UPath) -> None:
    path = bucket / "run" / "journal.jsonl"
    journal = open_journal(path, after_step=-1)
    journal.append(1, {"loss": 0.5})
    assert read_journal(path) == []
    journal.commit()
    journal.append(2, {"loss": float("nan")})
    assert [point.step for point in read_journal(path)] == [1]
    journal.commit()
    assert [point.step for point in read_journal(str(path))] == [1, 2]


def test_a_resumed_journal_on_object_storage_drops_the_steps_that_are_done_again(bucket: UPath) -> None:
    path = bucket / "run" / "journal.jsonl"
    first = open_journal(path, after_step=-1)
    for step in range(1, 7):
        first.append(step, {"loss": float(step)})
    first.commit()
    resumed = open_journal(path, after_step=3)
    resumed.append(4, {"loss": 40.0})
    resumed.commit()
    assert [(point.step, point.metrics["loss"]) for point in read_journal(path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_a_view_follows_a_journal_on_object_storage_by_a_copy(bucket: UPath) -> None:
    path = bucket / "run" / "journal.jsonl"
    view = JournalView(path)
    view.refresh()
    assert read_journal(view.path) == []
    journal = open_journal(path, after_step=-1)
    journal.append(1, {"loss": 0.5})
    journal.commit()
    assert read_journal(view.path) == []
    view.refresh()
    (entry,) = read_from(view.path, Position())
    journal.append(2, {"loss": 0.4})
    journal.commit()
    view.refresh()
    assert [later.point.step for later in read_from(view.path, entry.end)] == [2]


def test_a_local_journal_is_its_own_view_and_is_opened_truncated(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as journal:
        for step in (1, 2, 3):
            journal.append(step, {"loss": 0.0})
    assert JournalView(path).path == path
    with open_journal(path, after_step=2) as journal:
        assert journal.path == path
    assert [point.step for point in read_journal(path)] == [1, 2]
