"""The real main, verb after verb, on synthesised speech: what each leaves, says, and does when submitted again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from moodscale.prepare.manifest import Manifest
from synthesised import NewRunner, Whole
from tiny_experiment import Done, contents, losses, tracked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def finished(whole_run: Whole) -> Mapping[str, Done]:
    """Every verb done once, in order."""
    done = {"prepare": whole_run.prepared, "train": whole_run.trained}
    for verb in ("evaluate", "register"):
        done[verb] = whole_run.runner.run(verb)
        assert done[verb].code == 0, done[verb].text
    return done


def test_the_last_line_of_each_verb_is_its_result_and_nothing_else_is_on_stdout(finished: Mapping[str, Done]) -> None:
    results = {verb: done.result for verb, done in finished.items()}
    assert all(len(done.out.splitlines()) == 1 for done in finished.values())
    assert results["prepare"]["hash"]
    assert results["train"]["steps"] == 16
    assert not results["train"]["already_finished"]
    assert results["evaluate"]["guard"]["verdict"] in ("pass", "warn", "fail")
    assert results["register"]["num_compared"] > 0
    assert results["register"]["version"] == "1"


def test_progress_is_followable_and_not_drowned(finished: Mapping[str, Done]) -> None:
    lines = finished["train"].err.splitlines()
    assert any("step 16/16" in line and "train/loss" in line for line in lines)
    assert any("validation: " in line for line in lines)
    noise = ("Starting execution of Dataset", "Reporting training result", "not writable", "FutureWarning")
    assert [line for line in lines if any(word in line for word in noise)] == []
    assert len(lines) < 40


def test_training_learns_and_the_tracker_holds_what_the_journal_holds(
    finished: Mapping[str, Done], whole_run: Whole
) -> None:
    found = losses(whole_run.run_dir)
    assert list(found) == list(range(1, 17))
    assert found[16] < 0.7 * found[1]
    run = tracked(whole_run.storage)
    assert run.status == "FINISHED"
    assert run.run_id == finished["train"].result["run_id"]
    assert run.history["train/loss"] == found
    assert run.tags["moodscale.manifest"] == finished["prepare"].result["hash"]


def test_predictions_are_every_held_out_clip_once_and_the_report_is_one_offline_file(
    finished: Mapping[str, Done], whole_run: Whole
) -> None:
    result = finished["evaluate"].result
    manifest = Manifest.open(whole_run.manifest)
    expected = {clip for split in ("validation", "test") for clip in manifest.clips(split)["clip_id"].to_pylist()}
    ids = pq.read_table(result["predictions"])["unit_id"].to_pylist()
    assert len(ids) == len(expected)
    assert set(ids) == expected
    report = Path(result["report"]).read_text()
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert "https://" not in report
    assert result["guard"]["verdict"] in report.lower()


def test_a_verb_submitted_again_says_it_is_finished_and_changes_nothing(
    finished: Mapping[str, Done], whole_run: Whole
) -> None:
    # Left out: MLflow's own database, and the count of reads of the test split, which is there to grow.
    ignored = ("mlflow.db", "test_reads.jsonl", ".lock")
    before, run_before = contents(whole_run.storage, ignore=ignored), tracked(whole_run.storage)
    again = {verb: whole_run.runner.run(verb) for verb in finished}
    assert {verb: done.code for verb, done in again.items()} == dict.fromkeys(finished, 0)
    assert again["prepare"].result["reused"]
    assert again["train"].result["already_finished"]
    assert again["register"].result["already_registered"]
    for verb in ("train", "evaluate", "register"):
        new, old = again[verb].result, finished[verb].result
        same = new.keys() - {"already_finished", "already_registered", "num_test_reads"}
        assert {key: new[key] for key in same} == {key: old[key] for key in same}, verb
    after, run_after = contents(whole_run.storage, ignore=ignored), tracked(whole_run.storage)
    assert sorted(before.items() ^ after.items()) == []
    assert (run_after.run_id, run_after.status) == (run_before.run_id, "FINISHED")
    assert run_after.history == run_before.history


def test_the_interviewer_only_control_is_one_config_line(new_runner: NewRunner, whole_run: Whole) -> None:
    control = new_runner("control")
    done = control.run("prepare", "prepare.speech=interviewer")
    assert done.code == 0, done.text
    assert done.result["hash"] != whole_run.prepared.result["hash"]
    participant = Manifest.open(whole_run.manifest)
    interviewer = Manifest.open(control.directory / "runs" / "tiny" / "manifest")
    assert all(interviewer.people(split) == participant.people(split) for split in ("train", "validation", "test"))


def test_what_a_user_gets_wrong_is_one_message_and_exit_code_2(new_runner: NewRunner) -> None:
    runner = new_runner("wrong")
    for verb, override, named in (
        ("train", "train.micro_batches=2", "micro_batches"),
        ("train", "name=none", "moodscale prepare"),
        ("evaluate", "name=none", "prepare"),
    ):
        done = runner.run(verb, override)
        assert done.code == 2, done.text
        assert "Traceback" not in done.err
        assert named in done.err
        assert done.out == ""


def test_a_run_directory_is_not_continued_with_other_settings(finished: Mapping[str, Done], whole_run: Whole) -> None:
    done = whole_run.runner.run("train", "optim.lr=0.001")
    assert done.code == 2
    assert "optim.lr" in done.err
    assert json.loads((whole_run.run_dir / "train.json").read_text())["job"]["optim"]["lr"] == 5e-3
