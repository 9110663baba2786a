import json
from collections import Counter

import pytest

from moodscale.config import ConfigError
from moodscale.config.lookup import find_component
from moodscale.tracking import (
    JournalSync,
    JournalWriter,
    MetricPoint,
    RunSpec,
    RunStatus,
    TrackerConfig,
    TrackerError,
    read_journal,
)
from moodscale.tracking.jsonl import JsonlConfig

SPEC = RunSpec("demo:1", "the demo", {"optim": {"lr": 1e-4}, "seed": 0}, {"manifest": "abc"})


@pytest.fixture
def tracker(tmp_path):
    return JsonlConfig().open(str(tmp_path))


def test_a_run_is_readable_files(tmp_path, tracker):
    state = tracker.start_or_resume(SPEC)
    tracker.log_points([MetricPoint(1, 10, {"train/loss": 0.7})])
    tracker.log_dict({"auc": 0.8}, "evaluate/summary.json")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("hello")
    tracker.log_artifact(tmp_path / "report", "report")
    tracker.set_tags({"verdict": "pass"})
    tracker.finish(RunStatus.FINISHED)

    folder = tmp_path / "tracking" / "demo_1"
    run = json.loads((folder / "run.json").read_text())
    assert run["run_id"] == state.run_id
    assert run["status"] == "FINISHED"
    assert run["params"] == {"optim.lr": "0.0001", "seed": "0"}
    assert run["tags"]["verdict"] == "pass"
    assert run["tags"]["moodscale.attempt"] == "1"
    assert read_journal(folder / "metrics.jsonl") == [MetricPoint(1, 10, {"train/loss": 0.7})]
    assert (folder / "artifacts" / "report" / "index.html").read_text() == "hello"
    assert json.loads((folder / "artifacts" / "evaluate" / "summary.json").read_text()) == {"auc": 0.8}
    assert json.loads((folder / "artifacts" / "config.json").read_text()) == SPEC.config


def test_the_same_key_reopens_the_same_run_and_the_first_params_stand(tmp_path, tracker):
    first = tracker.start_or_resume(SPEC)
    tracker.finish(RunStatus.KILLED)
    other = JsonlConfig().open(str(tmp_path))
    assert other.find("demo:1").status is RunStatus.KILLED
    second = other.start_or_resume(RunSpec("demo:1", "the demo", {**SPEC.config, "seed": 5}))
    assert (second.run_id, second.attempt, second.status) == (first.run_id, 2, RunStatus.RUNNING)
    run = json.loads((tmp_path / "tracking" / "demo_1" / "run.json").read_text())
    assert run["params"]["seed"] == "0"
    assert run["tags"]["moodscale.params_changed"] == "seed"
    assert run["tags"]["manifest"] == "abc"
    artifacts = tmp_path / "tracking" / "demo_1" / "artifacts"
    assert json.loads((artifacts / "config.json").read_text())["seed"] == 0
    assert json.loads((artifacts / "config_attempt_2.json").read_text())["seed"] == 5


def test_a_journal_is_copied_once_over_two_attempts(tmp_path, tracker):
    journal_path = tmp_path / "journal.jsonl"
    with JournalWriter(journal_path) as journal:
        for step in range(1, 11):
            journal.append(step, {"train/loss": 1.0})
    tracker.start_or_resume(SPEC)
    JournalSync(tracker, journal_path, committed_step=6).sync_now()
    again = JsonlConfig().open(str(tmp_path))
    again.start_or_resume(SPEC)
    JournalSync(again, journal_path, committed_step=10, batch_points=3).sync_now()
    copied = read_journal(tmp_path / "tracking" / "demo_1" / "metrics.jsonl")
    assert Counter(point.step for point in copied) == Counter(range(1, 11))


def test_attaching_finds_the_run_by_its_id_or_says_there_is_none(tmp_path, tracker):
    state = tracker.start_or_resume(SPEC)
    other = JsonlConfig().open(str(tmp_path))
    assert other.attach(state.run_id).run_id == state.run_id
    with pytest.raises(TrackerError, match="no run of that id"):
        other.attach("0" * 32)


@pytest.mark.parametrize("name", ["../escape.json", "/etc/escape.json", "a/../../escape.json"])
def test_artifacts_stay_inside_the_run(tracker, name):
    tracker.start_or_resume(SPEC)
    with pytest.raises(ValueError, match="relative path"):
        tracker.log_dict({}, name)


@pytest.mark.parametrize("key", ["", "../x", "a/b", "a'b", "x" * 201, "a\0b"])
def test_run_keys_that_could_leave_the_directory_or_a_query_are_refused(key):
    with pytest.raises(ValueError, match="run_key"):
        RunSpec(key, "name")


def test_the_kind_finds_the_class_and_an_object_store_is_refused():
    assert find_component("moodscale.tracking", TrackerConfig, "jsonl") is JsonlConfig
    with pytest.raises(ConfigError, match=r"tracking\.directory"):
        JsonlConfig().open("s3://bucket/runs")


def test_probing_names_the_directory_without_making_it_and_refuses_a_file_in_its_place(tmp_path):
    assert JsonlConfig().probe(str(tmp_path / "runs")) == str(tmp_path / "runs" / "tracking")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(TrackerError, match="not writable"):
        JsonlConfig().probe(str(tmp_path / "runs"))
