"""Checkpoints that are whole or absent.

A checkpoint is written to a hidden directory, its manifest with every file's hash last, and then renamed: a directory
named ``step-…`` is complete by construction, and one whose hashes no longer hold is passed over for the one before.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
_PREFIX = "step-"


@dataclass(frozen=True)
class Position:
    """Where a run stands: everything needed to continue in the middle of an epoch's plan."""

    step: int
    """Optimizer steps done over all phases."""
    phase: int
    epoch: int
    """Epoch within the phase."""
    step_in_epoch: int
    plan_seed: int
    world_size: int
    skipped_steps: int = 0


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    position: Position
    metrics: dict[str, float]


class CheckpointStore:
    """The checkpoints of one run in one directory (shared storage where there are several nodes)."""

    def __init__(self, directory: Path, keep: int, metric: str) -> None:
        self.directory = directory
        self.keep = keep
        self.metric = metric

    def staging(self, step: int) -> Path:
        """The hidden directory that all ranks write into before :meth:`commit`."""
        return self.directory / f".{_PREFIX}{step:08d}.partial"

    def prepare(self, step: int) -> Path:
        """An empty staging directory (rank 0; a left-over of a crash is cleared)."""
        path = self.staging(step)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def commit(self, position: Position, metrics: dict[str, float]) -> Path:
        """Hash, write the manifest, rename (rank 0, after every rank has written)."""
        staging = self.staging(position.step)
        files = {
            str(path.relative_to(staging)): {"sha256": _sha256(path), "bytes": path.stat().st_size}
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        }
        content = {"position": asdict(position), "metrics": metrics, "files": files}
        with (staging / MANIFEST).open("w") as stream:
            json.dump(content, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        final = self.directory / f"{_PREFIX}{position.step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        staging.rename(final)
        self._retain()
        return final

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose every hash holds; broken ones are named and passed over."""
        for path in reversed(self._paths()):
            try:
                return self.verify(path)
            except ValueError as error:
                logger.warning("checkpoint passed over: %s", error)
        return None

    def best(self) -> Checkpoint | None:
        """The best by the validation metric; of equals the one with the lower validation loss, then the earlier."""
        path = self._best_path()
        return self.verify(path) if path else None

    def verify(self, path: Path) -> Checkpoint:
        """Read a checkpoint's manifest and check every file against it.

        Raises:
            ValueError: naming the file that is missing, changed or not listed.
        """
        checkpoint, files = _read(path)
        present = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} - {MANIFEST}
        for name in sorted(present ^ files.keys()):
            raise ValueError(f"{path / name}: {'missing' if name in files else 'not listed in ' + MANIFEST}")
        for name, facts in files.items():
            if _sha256(path / name) != facts["sha256"]:
                raise ValueError(f"{path / name}: hash mismatch, the file changed after it was written")
        return checkpoint

    def _readable(self, metric: str) -> list[Checkpoint]:
        found = []
        for path in self._paths():
            try:
                checkpoint, _ = _read(path)
            except ValueError:
                continue
            if math.isfinite(checkpoint.metrics.get(metric, math.nan)):
                found.append(checkpoint)
        return found

    def _best_path(self) -> Path | None:
        def rank(checkpoint: Checkpoint) -> tuple[float, float]:
            loss = checkpoint.metrics.get("loss", 0.0)
            return (loss if self.metric == "loss" else -checkpoint.metrics[self.metric], loss)

        scored = self._readable(self.metric)
        return min(scored, key=rank).path if scored else None

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.directory.glob(f"{_PREFIX}*") if path.is_dir())

    def _retain(self) -> None:
        """Delete all but the newest ``keep`` and the best."""
        best = self._best_path()
        for path in self._paths()[: -self.keep]:
            if path != best:
                shutil.rmtree(path)


def explain_write_error(error: OSError, path: Path) -> OSError:
    """A full disk, with the path and the space that is left."""
    if error.errno != errno.ENOSPC:
        return error
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    return OSError(errno.ENOSPC, f"no space left for a checkpoint under {path} ({free / 1e9:.2f} GB free)")


def _read(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    try:
        content = json.loads((path / MANIFEST).read_text())
        position = Position(**content["position"])
        return Checkpoint(path, position, content["metrics"]), content["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / MANIFEST}: not a readable checkpoint manifest ({type(error).__name__})") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
