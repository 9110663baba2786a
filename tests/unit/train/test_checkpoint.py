"""Checkpoints are whole or absent: crashes, full disks, flipped bits, retention, hostile files."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from moodscale.train.checkpoint import MANIFEST, CheckpointStore, Position, explain_write_error

WEIGHTS = "adapter.safetensors"


def store(directory: Path, keep: int = 2, metric: str = "participant_auc") -> CheckpointStore:
    return CheckpointStore(directory, keep, metric)


def position(step: int) -> Position:
    return Position(step=step, phase=0, epoch=0, step_in_epoch=step, plan_seed=3, world_size=1)


def write(saved: CheckpointStore, step: int, num_bytes: int = 100, **metrics: float) -> Path:
    """As the loop does: stage, write, commit."""
    staging = saved.prepare(step)
    (staging / WEIGHTS).write_bytes(bytes([step % 256]) * num_bytes)
    (staging / "engine").mkdir()
    (staging / "engine" / "rank_0.pt").write_bytes(b"state" * 20)
    return saved.commit(position(step), metrics)


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    saved = store(tmp_path)
    path = write(saved, 7, loss=0.5)
    newest = store(tmp_path).latest()
    assert newest is not None
    assert (newest.path, newest.position, newest.metrics) == (path, position(7), {"loss": 0.5})
    listed = json.loads((path / MANIFEST).read_text())["files"]
    assert listed.keys() == {WEIGHTS, "engine/rank_0.pt"}
    assert names(tmp_path) == ["step-00000007"], "no staging directory is left"


def test_an_empty_or_absent_directory_has_no_checkpoint(tmp_path: Path) -> None:
    assert store(tmp_path).latest() is None
    assert store(tmp_path / "absent").latest() is None
    assert store(tmp_path / "absent").best() is None


@pytest.mark.parametrize("reached", ["nothing", "files", "manifest"])
def test_a_directory_that_a_crash_left_half_written_is_never_chosen(tmp_path: Path, reached: str) -> None:
    saved = store(tmp_path)
    before = write(saved, 5, participant_auc=0.5)
    staging = saved.prepare(10)
    if reached != "nothing":
        (staging / WEIGHTS).write_bytes(b"half")
    if reached == "manifest":  # all is written, and the process dies before the rename
        (staging / MANIFEST).write_bytes((before / MANIFEST).read_bytes())
    again = store(tmp_path)
    newest, best = again.latest(), again.best()
    assert newest is not None
    assert best is not None
    assert newest.path == best.path == before


def test_a_left_over_of_a_crash_is_cleared_before_the_step_is_written_again(tmp_path: Path) -> None:
    saved = store(tmp_path)
    (saved.prepare(10) / "from_another_world_size.pt").write_bytes(b"old")
    path = write(saved, 10)
    assert not (path / "from_another_world_size.pt").exists()
    assert saved.verify(path).position.step == 10


@pytest.mark.parametrize("file", [WEIGHTS, "engine/rank_0.pt"])
def test_a_flipped_bit_is_named_and_the_checkpoint_before_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    saved = store(tmp_path)
    before, broken = write(saved, 5), write(saved, 10)
    flip_bit(broken / file)
    with caplog.at_level(logging.WARNING, logger="moodscale"):
        newest = saved.latest()
    assert newest is not None
    assert newest.path == before
    assert f"{broken / file}: hash mismatch" in caplog.text
    with pytest.raises(ValueError, match="hash mismatch"):
        saved.verify(broken)


def test_with_every_checkpoint_broken_there_is_none(tmp_path: Path) -> None:
    saved = store(tmp_path)
    for step in (5, 10):
        flip_bit(write(saved, step) / WEIGHTS)
    assert saved.latest() is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"position": {}, "metrics": {}, "files": {}}', '{"metrics": {}}']
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    saved = store(tmp_path)
    before, broken = write(saved, 5), write(saved, 10)
    (broken / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match="not a readable checkpoint manifest") as caught:
        saved.verify(broken)
    assert str(broken / MANIFEST) in str(caught.value)
    newest = saved.latest()
    assert newest is not None
    assert newest.path == before


def test_a_file_that_no_manifest_lists_is_refused(tmp_path: Path) -> None:
    saved = store(tmp_path)
    path = write(saved, 5)
    (path / "engine" / "added.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"added\.pt: not listed in checkpoint\.json"):
        saved.verify(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    saved = store(tmp_path)
    path = write(saved, 5)
    (path / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"adapter\.safetensors: missing"):
        saved.verify(path)


def test_the_newest_are_kept_and_the_best_beside_them(tmp_path: Path) -> None:
    saved = store(tmp_path, keep=2)
    for step, auc in ((1, 0.6), (2, 0.9), (3, 0.7), (4, 0.8), (5, 0.8)):
        write(saved, step, participant_auc=auc)
    assert names(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]
    best = saved.best()
    assert best is not None
    assert best.position.step == 2


def test_checkpoints_between_validations_are_no_candidates_for_the_best(tmp_path: Path) -> None:
    saved = store(tmp_path, keep=1)
    write(saved, 1, participant_auc=0.6)
    for step in (2, 3):
        write(saved, step)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


def test_of_equals_the_lower_loss_is_the_best_then_the_earlier(tmp_path: Path) -> None:
    saved = store(tmp_path, keep=9)
    for step, loss in ((1, 0.5), (2, 0.4), (3, 0.4), (4, 0.6)):
        write(saved, step, participant_auc=0.8, loss=loss)
    best = saved.best()
    assert best is not None
    assert best.position.step == 2


def test_a_loss_is_the_better_the_lower(tmp_path: Path) -> None:
    saved = store(tmp_path, keep=9, metric="loss")
    for step, loss in ((1, 0.5), (2, 0.2), (3, 0.4)):
        write(saved, step, loss=loss)
    best = saved.best()
    assert best is not None
    assert best.position.step == 2


def test_a_metric_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    saved = store(tmp_path, keep=9)
    write(saved, 1, participant_auc=float("nan"))
    write(saved, 2, participant_auc=0.6)
    write(saved, 3, participant_auc=float("nan"))
    best = saved.best()
    assert best is not None
    assert best.position.step == 2


def test_the_same_step_written_again_replaces_the_first(tmp_path: Path) -> None:
    saved = store(tmp_path)
    write(saved, 5, loss=0.5)
    write(saved, 5, num_bytes=7, loss=0.4)
    newest = saved.latest()
    assert newest is not None
    assert newest.metrics == {"loss": 0.4}
    assert (newest.path / WEIGHTS).stat().st_size == 7


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB where this process may mount one, else a limit on any file's size."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        try:
            yield directory
        finally:
            subprocess.run(["umount", str(directory)], check=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        _limit_space(patch, directory, 1_000_000)
        yield directory


def _limit_space(patch: pytest.MonkeyPatch, directory: Path, num_bytes: int) -> None:
    """Writing through pathlib fails as on a full disk once ``directory`` would hold more than ``num_bytes``."""
    plain = Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        used = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        if directory in path.parents and used + len(data) > num_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return plain(path, data)

    patch.setattr(Path, "write_bytes", write_bytes)


def test_a_full_disk_leaves_the_checkpoint_before_intact_and_says_where_and_how_much(small_disk: Path) -> None:
    directory = small_disk / "checkpoints"
    saved = store(directory)
    before = write(saved, 5, num_bytes=400_000)
    with pytest.raises(OSError, match="No space left") as caught:
        write(saved, 10, num_bytes=900_000)
    explained = explain_write_error(caught.value, directory)
    assert explained.errno == errno.ENOSPC
    assert str(directory) in str(explained)
    assert "GB free" in str(explained)
    newest = store(directory).latest()
    assert newest is not None
    assert newest.path == before
    # What the failed attempt left does not stand in the way once there is room.
    path = write(saved, 10, num_bytes=100_000)
    newest = saved.latest()
    assert newest is not None
    assert newest.path == path


def test_another_error_while_writing_is_passed_on_as_it_is(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    assert explain_write_error(error, tmp_path) is error


class Payload:
    """Unpickled, it would make a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["torch", "legacy torch", "pickle"])
def test_a_pickle_as_engine_state_is_refused_and_its_payload_does_not_run(tmp_path: Path, writer: str) -> None:
    from moodscale.train.safe_checkpoint import WeightsOnlyCheckpointEngine

    ran, path = tmp_path / "ran", tmp_path / "engine_states.pt"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Payload(ran)))
        pickle.loads(path.read_bytes())  # noqa: S301  the payload is live: unpickling does run it
    else:
        torch.save(
            {"module": {"w": torch.zeros(2)}, "extra": Payload(ran)},
            path,
            _use_new_zipfile_serialization=writer == "torch",
        )
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert ran.is_dir()
    ran.rmdir()
    with pytest.raises(ValueError, match="refused as a checkpoint") as caught:
        WeightsOnlyCheckpointEngine().load(str(path))
    assert str(path) in str(caught.value)
    assert not ran.exists()


def test_tensors_and_the_engines_own_classes_are_loaded(tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

    from moodscale.train.safe_checkpoint import WeightsOnlyCheckpointEngine

    scaler = DynamicLossScaler(
        init_scale=2.0**16, scale_window=500, min_scale=1, delayed_shift=2, consecutive_hysteresis=False,
        raise_error_at_min_scale=True, dtype=torch.float16,
    )  # fmt: skip
    path = tmp_path / "engine_states.pt"
    torch.save({"module": {"w": torch.arange(3.0)}, "loss_scaler": scaler, "step": 7}, path)
    loaded = WeightsOnlyCheckpointEngine().load(str(path), map_location="cpu")
    assert torch.equal(loaded["module"]["w"], torch.arange(3.0))
    assert loaded["step"] == 7
    assert loaded["loss_scaler"].cur_scale == 2.0**16
