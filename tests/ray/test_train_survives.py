"""Whoever is killed: training ends as if nothing had happened, in one tracked run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from plugins.faulty_recipe import happened
from synthesised import NewRunner, Whole
from tiny_experiment import EVERY_STEPS, Runner, last_step, losses, tracked, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def faulty(
    new_runner: NewRunner, whole: Whole, name: str, accidents_dir: Path, accidents: list[dict[str, Any]], **changes: Any
) -> Runner:
    """A runner on the whole run's manifest whose training meets accidents."""
    return new_runner(
        name,
        manifest=str(whole.manifest),
        recipe__kind="plugins.faulty_recipe",
        recipe__accidents=accidents,
        recipe__accidents_dir=str(accidents_dir),
        **changes,
    )


def resumed_after(text: str) -> list[int]:
    return [int(step) for step in re.findall(r"resuming after step (\d+) of", text)]


def assert_as_whole(storage: Path, whole: Whole) -> None:
    expected = losses(whole.run_dir)
    assert losses(storage / "tiny") == expected, "CPU fp32 losses must be bit-equal to the uninterrupted run's"
    run, reference = tracked(storage), tracked(whole.storage)
    assert run.status == "FINISHED"
    # The whole run may have been evaluated meanwhile, by a test that ran before this one.
    assert run.history == {name: steps for name, steps in reference.history.items() if not name.startswith("test/")}
    assert run.history["train/loss"] == expected
    adapter = Path("tiny", "checkpoints", "step-00000016", "adapter.safetensors")
    assert (storage / adapter).read_bytes() == (whole.storage / adapter).read_bytes()


def test_a_rank_that_raises_and_a_worker_that_is_killed_cost_at_most_the_checkpoint_interval(
    new_runner: NewRunner, whole_run: Whole, tmp_path: Path
) -> None:
    accidents = [
        {"rank": 1, "call": 5, "what": "raise"},  # in step 5, before anything was reported to Ray Train
        {"rank": 0, "call": 8, "what": "hold"},  # in step 11 of 16
    ]
    runner = faulty(new_runner, whole_run, "workers", tmp_path, accidents, train__max_failures=2)
    started = runner.start("train")
    run_dir = runner.directory / "runs" / "tiny"
    held = wait_for(lambda: happened(tmp_path, 1))
    done_before = last_step(run_dir)
    workers = started.train_workers()
    assert len(workers) == 2
    next(one for one in workers if one.pid == held).kill()
    done = started.wait()
    assert done.code == 0, done.text
    assert done_before == 10
    first, second = resumed_after(done.text)
    assert 4 - first <= EVERY_STEPS, "rank 1 raised after four steps"
    assert 0 <= done_before - second <= EVERY_STEPS
    assert "rank 1: ArithmeticError: accident 0 on rank 1" in done.err
    assert done.result["steps"] == 16
    assert_as_whole(runner.directory / "runs", whole_run)
    assert tracked(runner.directory / "runs").tags["moodscale.attempt"] == "1", "the job itself never ended"
    assert started.gone() == []


def test_a_killed_driver_leaves_no_process_and_the_job_submitted_again_continues_the_same_run(
    new_runner: NewRunner, whole_run: Whole, tmp_path: Path
) -> None:
    runner = faulty(new_runner, whole_run, "driver", tmp_path, [{"rank": 1, "call": 11, "what": "hold"}])
    storage = runner.directory / "runs"
    first = runner.start("train")
    wait_for(lambda: happened(tmp_path, 0))
    assert last_step(storage / "tiny") == 10
    before = wait_for(lambda: found if (found := tracked(storage)).history.get("train/loss") else None)
    first.kill_driver()
    assert first.gone() == []
    assert before.status == "RUNNING"

    second = runner.run("train")
    assert second.code == 0, second.text
    (resumed,) = resumed_after(second.text)
    assert 0 <= 10 - resumed <= EVERY_STEPS
    assert second.result["run_id"] == before.run_id
    assert_as_whole(storage, whole_run)
    assert tracked(storage).tags["moodscale.attempt"] == "2"
