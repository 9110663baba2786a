"""The journal's copy, against a tracker written by hand whose failures can be placed anywhere."""

import threading
import time
from collections import Counter

import pytest

from moodscale.tracking import JournalSync, JournalWriter, TrackerError, truncate
from tiny_experiment import wait_for


class FakeTracker:
    """Holds values like MLflow does: everything sent is kept, twice if sent twice."""

    place = "fake://tracker"

    def __init__(self):
        self.values = []
        self.calls = 0
        self.away = False
        self.lose_reply_on_call = None
        self.hold = threading.Event()
        self.hold.set()

    def logged_steps(self, keys):
        self._reach("reading")
        return {key: {step for held, step, _ in self.values if held == key} for key in keys}

    def log_points(self, points):
        self._reach("logging")
        self.calls += 1
        self.values += [(key, point.step, value) for point in points for key, value in point.metrics.items()]
        if self.calls == self.lose_reply_on_call:
            raise TrackerError("logging metrics", self.place, "timeout", transient=True)

    def steps(self, key="train/loss"):
        return [step for held, step, _ in self.values if held == key]

    def _reach(self, operation):
        self.hold.wait()
        if self.away:
            raise TrackerError(operation, self.place, "unreachable", transient=True)


def write(path, steps):
    with JournalWriter(path) as journal:
        for step in steps:
            journal.append(step, {"train/loss": 1.0 / (step + 1), "train/lr": 0.1})
            if step % 5 == 0:
                journal.append(step, {"val/auc": 0.5 + step / 1000})


def assert_each_once(tracker, last):
    assert max(Counter((key, step) for key, step, _ in tracker.values).values()) == 1
    assert tracker.steps() == list(range(1, last + 1))
    assert tracker.steps("val/auc") == list(range(5, last + 1, 5))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def tracker():
    return FakeTracker()


def test_only_committed_steps_are_sent_in_order_and_once(path, tracker):
    write(path, range(1, 21))
    sync = JournalSync(tracker, path, batch_points=4)
    assert sync.sync_now() == 0
    sync.commit(10)
    assert sync.sync_now() == 22
    assert sync.sync_now() == 0
    assert tracker.steps() == list(range(1, 11))
    sync.commit(20)
    sync.sync_now()
    assert_each_once(tracker, 20)
    assert sync.progress.complete


def test_points_are_batched(path, tracker):
    write(path, range(1, 101))
    JournalSync(tracker, path, committed_step=100, batch_points=40).sync_now()
    assert tracker.calls == 3
    assert_each_once(tracker, 100)


def test_a_new_process_sends_only_what_the_tracker_lacks(path, tracker):
    write(path, range(1, 11))
    JournalSync(tracker, path, committed_step=7).sync_now()
    again = JournalSync(tracker, path, committed_step=10)
    again.sync_now()
    assert_each_once(tracker, 10)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_request_carried_out_whose_reply_is_lost_is_not_repeated(path, tracker, call):
    write(path, range(1, 31))
    sync = JournalSync(tracker, path, committed_step=30, batch_points=12)
    tracker.lose_reply_on_call = call
    with pytest.raises(TrackerError):
        sync.sync_now()
    sync.sync_now()
    assert_each_once(tracker, 30)


@pytest.mark.parametrize("committed", [0, 5, 8])
def test_a_resume_that_truncates_and_does_steps_again_duplicates_nothing(path, tracker, committed):
    write(path, range(1, 13))
    sync = JournalSync(tracker, path, committed_step=8, batch_points=3)
    sync.sync_now()
    # The worker group fails; the newest checkpoint turns out damaged for committed < 8.
    truncate(path, after_step=committed)
    write(path, range(committed + 1, 21))
    sync.commit(20)
    sync.sync_now()
    assert_each_once(tracker, 20)


def test_the_same_point_twice_in_the_journal_is_sent_once(path, tracker):
    write(path, range(1, 6))
    write(path, range(1, 6))
    JournalSync(tracker, path, committed_step=5, batch_points=2).sync_now()
    assert_each_once(tracker, 5)


def test_an_unreachable_tracker_only_delays(path, tracker):
    tracker.away = True
    sync = JournalSync(tracker, path, interval_s=0.02).start()
    with JournalWriter(path) as journal:
        for step in range(1, 31):
            journal.append(step, {"train/loss": 1.0, **({"val/auc": 0.5} if step % 5 == 0 else {})})
            sync.commit(step)
    wait_for(lambda: "unreachable" in (sync.progress.last_error or ""), 60)
    assert tracker.values == []
    assert not sync.progress.complete
    tracker.away = False
    assert sync.stop(timeout_s=10)
    assert_each_once(tracker, 30)


def test_a_tracker_that_hangs_blocks_neither_the_commit_nor_the_stop(path, tracker):
    tracker.hold.clear()
    write(path, range(1, 6))
    sync = JournalSync(tracker, path, interval_s=0.02).start()
    for step in range(1, 6):
        sync.commit(step)
    assert sync.stop(timeout_s=0.3) is False
    assert tracker.calls == 0, "both came back while it hung"
    tracker.hold.set()


def test_what_could_not_be_sent_is_said_and_sent_by_the_next_attempt(path, tracker, caplog):
    write(path, range(1, 11))
    tracker.away = True
    assert JournalSync(tracker, path, committed_step=10, interval_s=0.02).start().stop(timeout_s=0.3) is False
    assert "next attempt" in caplog.text
    tracker.away = False
    assert JournalSync(tracker, path, committed_step=10, interval_s=0.02).start().stop(timeout_s=10)
    assert_each_once(tracker, 10)


def test_an_outage_is_logged_once_not_at_every_try(path, tracker, caplog):
    write(path, range(1, 3))
    tracker.away = True
    sync = JournalSync(tracker, path, committed_step=2)
    for _ in range(5):
        sync.drain(timeout_s=0)
    assert caplog.text.count("metrics wait in the journal") == 1


def test_a_foreign_exception_ends_nothing_and_its_text_is_not_repeated(path, tracker, caplog):
    write(path, range(1, 6))
    real = tracker.log_points
    tracker.log_points = lambda points: (_ for _ in ()).throw(ValueError("he said: I feel hopeless"))
    sync = JournalSync(tracker, path, committed_step=5, interval_s=0.02).start()
    wait_for(lambda: "ValueError" in caplog.text, 60)
    tracker.log_points = real
    assert sync.stop(timeout_s=10)
    assert_each_once(tracker, 5)
    assert "ValueError" in caplog.text
    assert "hopeless" not in caplog.text


def test_a_journal_that_appears_later_is_found(path, tracker):
    sync = JournalSync(tracker, path, committed_step=5, interval_s=0.02).start()
    time.sleep(0.05)
    write(path, range(1, 6))
    assert sync.stop(timeout_s=10)
    assert_each_once(tracker, 5)


def test_a_reader_beside_a_writer_sees_every_point_once(path, tracker):
    sync = JournalSync(tracker, path, interval_s=0.001, batch_points=7).start()
    with JournalWriter(path) as journal:
        for step in range(1, 501):
            journal.append(step, {"train/loss": 1.0})
            sync.commit(step)
    assert sync.stop(timeout_s=10)
    assert tracker.steps() == list(range(1, 501))
