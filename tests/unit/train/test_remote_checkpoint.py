"""Checkpoints on a real S3 endpoint: whole or absent, without a rename."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from upath import UPath

from moodscale.storage import location, scratch_directory
from moodscale.train.checkpoint import MANIFEST, CheckpointStore, Position, checkpoint_store
from moodscale.train.remote_checkpoint import RemoteCheckpointStore

WEIGHTS = "adapter.safetensors"
ENGINE = "engine/rank_0.pt"


def store(directory: UPath, keep: int = 2, metric: str = "participant_auc") -> RemoteCheckpointStore:
    made = checkpoint_store(directory, keep, metric)
    assert isinstance(made, RemoteCheckpointStore)
    return made


def position(step: int) -> Position:
    return Position(step=step, phase=0, epoch=0, step_in_epoch=step, plan_seed=3, world_size=2)


def fill(staging: Path, step: int, rank: int) -> None:
    (staging / "engine").mkdir()
    (staging / "engine" / f"rank_{rank}.pt").write_bytes(bytes([rank]) * 50)
    if rank == 0:
        (staging / WEIGHTS).write_bytes(bytes([step % 256]) * 100)


def write(saved: RemoteCheckpointStore, step: int, **metrics: float) -> UPath:
    """As the loop does on two ranks, each with a store and a disk of its own."""
    other = store(saved._prefix)
    fill(saved.prepare(step), step, rank=0)
    fill(other.staging(step), step, rank=1)
    path = saved.commit(position(step), metrics, {**saved.publish(step), **other.publish(step)})
    assert isinstance(path, UPath)
    return path


def flip_bit(path: UPath) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def names(directory: UPath) -> list[str]:
    """Steps of which anything at all is there."""
    return sorted({key.removeprefix(directory.path + "/").split("/")[0] for key in directory.fs.find(directory.path)})


def test_what_two_ranks_uploaded_is_found_again_and_fetched_whole(bucket: UPath) -> None:
    path = write(store(bucket / "run"), 7, loss=0.5)
    assert str(path) == f"s3://{bucket.path.rstrip('/')}/run/step-00000007"
    reader = store(bucket / "run")
    newest = reader.latest()
    assert newest is not None
    assert (newest.path, newest.position, newest.metrics) == (path, position(7), {"loss": 0.5})
    assert json.loads((path / MANIFEST).read_text())["files"].keys() == {WEIGHTS, ENGINE, "engine/rank_1.pt"}
    local = reader.fetch(newest)
    assert (local / WEIGHTS).read_bytes() == bytes([7]) * 100
    assert (local / "engine" / "rank_1.pt").read_bytes() == bytes([1]) * 50
    assert reader.newest_step() == 7


def test_an_empty_prefix_has_no_checkpoint(bucket: UPath) -> None:
    assert store(bucket / "run").latest() is None
    assert store(bucket / "run").best() is None
    assert store(bucket / "run").newest_step() == -1


@pytest.mark.parametrize("reached", ["nothing", "one rank's files", "all files"])
def test_a_prefix_that_a_crash_left_without_its_manifest_is_never_chosen(
    bucket: UPath,
    reached: str,
) -> None:
    saved = store(bucket / "run")
    before = write(saved, 5, participant_auc=0.5)
    fill(saved.prepare(10), 10, rank=0)
    if reached != "nothing":
        saved.publish(10)
    if reached == "all files":
        other = store(bucket / "run")
        fill(other.staging(10), 10, rank=1)
        other.publish(10)
    again = store(bucket / "run")
    newest, best = again.latest(), again.best()
    assert newest is not None
    assert best is not None
    assert newest.path == best.path == before
    assert again.newest_step() == 5


def test_a_left_over_of_a_crash_is_cleared_before_the_step_is_written_again(bucket: UPath) -> None:
    crashed = store(bucket / "run")
    (crashed.prepare(10) / "from_another_world_size.pt").write_bytes(b"old")
    crashed.publish(10)
    saved = store(bucket / "run")
    path = write(saved, 10)
    assert not (path / "from_another_world_size.pt").exists()
    assert saved.verify(path).position.step == 10


def test_left_overs_of_steps_that_are_never_written_again_go_with_the_next_commit(bucket: UPath) -> None:
    crashed = store(bucket / "run")
    fill(crashed.prepare(9), 9, rank=0)
    crashed.publish(9)
    write(store(bucket / "run"), 12)
    assert names(bucket / "run") == ["step-00000012"]


@pytest.mark.parametrize("file", [WEIGHTS, ENGINE])
def test_a_flipped_bit_is_named_and_the_checkpoint_before_is_taken(
    bucket: UPath,
    caplog: pytest.LogCaptureFixture,
    file: str,
) -> None:
    saved = store(bucket / "run")
    before, broken = write(saved, 5), write(saved, 10)
    flip_bit(broken / file)
    with caplog.at_level(logging.WARNING, logger="moodscale"):
        newest = saved.latest()
    assert newest is not None
    assert newest.path == before
    assert f"{broken / file}: hash mismatch" in caplog.text
    with pytest.raises(ValueError, match="hash mismatch"), saved.file(broken, file):
        pass


def test_the_best_is_checked_when_its_bytes_are_read(bucket: UPath) -> None:
    saved = store(bucket / "run")
    best = write(saved, 5, participant_auc=0.9)
    write(saved, 10, participant_auc=0.5)
    flip_bit(best / WEIGHTS)
    chosen = saved.best()
    assert chosen is not None
    with pytest.raises(ValueError, match=r"step-00000005/adapter\.safetensors: hash mismatch"):
        saved.fetch(chosen)


def test_a_missing_file_an_added_one_and_a_torn_manifest_are_named(bucket: UPath) -> None:
    saved = store(bucket / "run", keep=9)
    missing, added, torn = write(saved, 5), write(saved, 10), write(saved, 15)
    (missing / WEIGHTS).unlink()
    (added / "engine" / "added.pt").write_bytes(b"x")
    (torn / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match=r"adapter\.safetensors: missing"):
        saved.verify(missing)
    with pytest.raises(ValueError, match=r"added\.pt: not listed in checkpoint\.json"):
        saved.verify(added)
    with pytest.raises(ValueError, match="not a readable checkpoint manifest"):
        saved.verify(torn)
    assert saved.latest() is None


def test_the_newest_are_kept_and_the_best_beside_them(bucket: UPath) -> None:
    saved = store(bucket / "run", keep=2)
    for step, auc in ((1, 0.6), (2, 0.9), (3, 0.7), (4, 0.8), (5, 0.8)):
        write(saved, step, participant_auc=auc)
    assert names(bucket / "run") == ["step-00000002", "step-00000004", "step-00000005"]
    best = saved.best()
    assert best is not None
    assert best.position.step == 2


def test_a_removal_that_is_cut_short_leaves_no_checkpoint(
    bucket: UPath,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = store(bucket / "run", keep=1)
    first = write(saved, 5)
    plain = bucket.fs.rm
    calls: list[list[str]] = []

    def rm(path: list[str], **options: object) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise ConnectionError("cut short")
        plain(path, **options)

    monkeypatch.setattr(bucket.fs, "rm", rm)
    with pytest.raises(ConnectionError):
        saved._remove(first)
    assert calls[0] == [(first / MANIFEST).path]
    assert names(bucket / "run") == ["step-00000005"], "its other files are still there"
    assert store(bucket / "run").latest() is None


def test_storage_that_does_not_answer_is_no_empty_run(
    bucket: UPath,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a network that is away for a minute would begin a run of days from its first step."""
    write(store(bucket / "run"), 5)
    for call in ("find", "open"):  # the listing answers, and then reading the manifest does not
        with monkeypatch.context() as patch:
            patch.setattr(bucket.fs, call, _unreachable)
            with pytest.raises(ConnectionError):
                store(bucket / "run").latest()


def _unreachable(*_: object, **__: object) -> None:
    raise ConnectionError("no route")


def test_the_same_step_written_again_replaces_the_first(bucket: UPath) -> None:
    saved = store(bucket / "run")
    write(saved, 5, loss=0.5)
    assert saved.latest() is not None
    write(saved, 5, loss=0.4)
    newest = saved.latest()
    assert newest is not None
    assert newest.metrics == {"loss": 0.4}


def test_local_copies_are_gone_once_they_are_not_needed(bucket: UPath) -> None:
    saved = store(bucket / "run")
    for step in (5, 10):
        write(saved, step)
    newest = saved.latest()
    assert newest is not None
    assert saved.fetch(newest).is_relative_to(scratch_directory())
    write(saved, 15)
    assert list(saved.written_to.iterdir()) == []
    with saved.file(saved._path_of(15), WEIGHTS) as local:
        assert local.read_bytes() == bytes([15]) * 100
    assert not local.exists()


def test_a_local_directory_keeps_the_store_that_renames(tmp_path: Path) -> None:
    assert type(checkpoint_store(location(tmp_path), 2, "loss")) is CheckpointStore
