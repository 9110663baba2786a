"""Checkpoints that are whole or absent.

A checkpoint is written to a hidden directory, its manifest with every file's hash last, and then renamed: a directory
named ``step-…`` is complete by construction, and one whose hashes no longer hold is passed over for the one before.
Object storage has no rename: there the manifest is what makes a checkpoint (``train/remote_checkpoint.py``).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moodscale.storage import Place, is_local, local_path

logger = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
PREFIX = "step-"

LOWER_IS_BETTER = frozenset({"loss", "mae", "rmse"})
"""Validation metrics of which the least is the best; of all others the greatest is."""

FileFacts = Mapping[str, Mapping[str, Any]]
"""Hash and length of each file of a checkpoint, by its relative path."""


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
    path: Place
    position: Position
    metrics: dict[str, float]


def checkpoint_store(directory: Place, keep: int, metric: str) -> CheckpointStore:
    """The store for where ``directory`` lies."""
    from moodscale.train.remote_checkpoint import RemoteCheckpointStore

    return (CheckpointStore if is_local(directory) else RemoteCheckpointStore)(directory, keep, metric)


class CheckpointStore:
    """The checkpoints of one run in one directory (shared storage where there are several nodes).

    All ranks write into :meth:`staging` and :meth:`publish`; rank 0 prepares before and commits after them.
    """

    def __init__(self, directory: Place, keep: int, metric: str) -> None:
        self.directory = directory
        self.keep = keep
        self.metric = metric

    @property
    def written_to(self) -> Path:
        """Whose disk fills up while a checkpoint is written."""
        return local_path(self.directory)

    def staging(self, step: int) -> Path:
        """The hidden directory that all ranks write into before :meth:`commit`."""
        return local_path(self.directory) / f".{PREFIX}{step:08d}.partial"

    def prepare(self, step: int) -> Path:
        """An empty staging directory (rank 0; a left-over of a crash is cleared)."""
        path = self.staging(step)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def publish(self, step: int) -> FileFacts:
        """Hand over what this rank has written, before :meth:`commit`: nothing to do on a shared file system.

        Returns:
            what rank 0 has to know of it to commit.
        """
        del step
        return {}

    def commit(self, position: Position, metrics: dict[str, float], published: FileFacts | None = None) -> Place:
        """Hash, write the manifest, rename (rank 0, after every rank has written).

        Args:
            published: of all ranks together.
        """
        del published
        staging = self.staging(position.step)
        text = manifest_text(position, metrics, facts_of(staging))
        with (staging / MANIFEST).open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        final = local_path(self.directory) / f"{PREFIX}{position.step:08d}"
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

    def newest_step(self) -> int:
        """Step of the newest checkpoint, by its name alone: no hash is checked. -1 where there is none."""
        paths = self._paths()
        return int(paths[-1].name.removeprefix(PREFIX)) if paths else -1

    def verify(self, path: Place) -> Checkpoint:
        """Read a checkpoint's manifest and check every file against it.

        Raises:
            ValueError: naming the file that is missing, changed or not listed.
        """
        checkpoint, files = read_manifest(path)
        present = {str(p.relative_to(local_path(path))) for p in local_path(path).rglob("*") if p.is_file()} - {
            MANIFEST
        }
        check_names(path, present, files)
        for name, facts in files.items():
            check_hash(local_path(path) / name, facts, shown=path / name)
        return checkpoint

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """A directory on this machine with the verified files of a checkpoint, to load from at once."""
        return local_path(checkpoint.path)

    @contextmanager
    def file(self, path: Place, name: str) -> Iterator[Path]:
        """One file of the checkpoint at ``path`` as a file on this machine, while the block lasts.

        Raises:
            ValueError: it is missing, or changed after it was written.
        """
        yield local_path(path) / name

    def _readable(self, metric: str) -> list[Checkpoint]:
        found = []
        for path in self._paths():
            try:
                checkpoint, _ = read_manifest(path)
            except ValueError:
                continue
            if math.isfinite(checkpoint.metrics.get(metric, math.nan)):
                found.append(checkpoint)
        return found

    def _best_path(self) -> Place | None:
        def rank(checkpoint: Checkpoint) -> tuple[float, float]:
            loss = checkpoint.metrics.get("loss", 0.0)
            value = checkpoint.metrics[self.metric]
            return (value if self.metric in LOWER_IS_BETTER else -value, loss)

        scored = self._readable(self.metric)
        return min(scored, key=rank).path if scored else None

    def _paths(self) -> list[Place]:
        """Committed checkpoints, oldest first."""
        return sorted(path for path in local_path(self.directory).glob(f"{PREFIX}*") if path.is_dir())

    def _remove(self, path: Place) -> None:
        shutil.rmtree(local_path(path))

    def _retain(self) -> None:
        """Delete all but the newest ``keep`` and the best."""
        best = self._best_path()
        for path in self._paths()[: -self.keep]:
            if path != best:
                self._remove(path)


def explain_write_error(error: OSError, path: Path) -> OSError:
    """A full disk, with the path and the space that is left."""
    if error.errno != errno.ENOSPC:
        return error
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    return OSError(errno.ENOSPC, f"no space left for a checkpoint under {path} ({free / 1e9:.2f} GB free)")


def read_manifest(path: Place) -> tuple[Checkpoint, FileFacts]:
    """``checkpoint.json`` alone.

    Raises:
        ValueError: it is missing or cannot be read.
        Exception: object storage did not answer, which says nothing about the checkpoint.
    """
    try:
        text = (path / MANIFEST).read_text()
    except OSError as error:
        if not (is_local(path) or isinstance(error, FileNotFoundError)):
            raise
        raise _unreadable(path, error) from None
    try:
        content = json.loads(text)
        position = Position(**content["position"])
        return Checkpoint(path, position, content["metrics"]), content["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Place, error: Exception) -> ValueError:
    return ValueError(f"{path / MANIFEST}: not a readable checkpoint manifest ({type(error).__name__})")


def manifest_text(position: Position, metrics: Mapping[str, float], files: FileFacts) -> str:
    return json.dumps({"position": asdict(position), "metrics": metrics, "files": files}, indent=1)


def check_names(path: Place, present: set[str], files: FileFacts) -> None:
    """Refuse files that the manifest does not list, and the lack of one that it does."""
    for name in sorted(present ^ files.keys()):
        raise ValueError(f"{path / name}: {'missing' if name in files else 'not listed in ' + MANIFEST}")


def check_hash(file: Path, facts: Mapping[str, Any], shown: Place) -> None:
    if _sha256(file) != facts["sha256"]:
        raise ValueError(f"{shown}: hash mismatch, the file changed after it was written")


def facts_of(directory: Path) -> FileFacts:
    """Hash and length of every file below."""
    return {
        path.relative_to(directory).as_posix(): {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
