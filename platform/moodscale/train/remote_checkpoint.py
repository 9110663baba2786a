"""Checkpoints on object storage, which knows neither rename nor append.

Every rank writes to a disk of its own and uploads what it wrote; rank 0 then uploads ``checkpoint.json`` with every
file's hash, last: a prefix without it is no checkpoint. Removing goes the other way round. Hashes are taken before the
upload and checked after the download, so they also cover the way there and back.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from moodscale.storage import Place, display, download, scratch_directory, upload, write_bytes
from moodscale.train.checkpoint import (
    MANIFEST,
    PREFIX,
    Checkpoint,
    CheckpointStore,
    FileFacts,
    Position,
    check_hash,
    check_names,
    facts_of,
    manifest_text,
    read_manifest,
)


class RemoteCheckpointStore(CheckpointStore):
    """The checkpoints of one run under one prefix.

    The local disk (``TMPDIR``) holds one checkpoint while it is written or loaded. An answer that does not come is
    never taken for a checkpoint that is not there: it ends the call with storage's own error.
    """

    def __init__(self, directory: Place, keep: int, metric: str) -> None:
        assert isinstance(directory, UPath)
        super().__init__(directory, keep, metric)
        self._prefix: UPath = directory
        self._local: Path | None = None
        self._fetched: tuple[Checkpoint, Path] | None = None

    @property
    def written_to(self) -> Path:
        if self._local is None:
            self._local = Path(tempfile.mkdtemp(prefix="checkpoints-", dir=scratch_directory()))
        return self._local

    def staging(self, step: int) -> Path:
        """A directory of this rank's own."""
        path = self.written_to / f"{PREFIX}{step:08d}"
        path.mkdir(exist_ok=True)
        return path

    def prepare(self, step: int) -> Path:
        """Clear what a crash has left of this step, here and there (rank 0, before any rank publishes)."""
        self._remove(self._path_of(step))
        path = self.staging(step)
        shutil.rmtree(path)
        return self.staging(step)

    def publish(self, step: int) -> FileFacts:
        """Upload what this rank has written; what is local is gone afterwards."""
        staging, target = self.staging(step), self._path_of(step)
        files = facts_of(staging)
        upload({staging / name: target / name for name in files})
        shutil.rmtree(staging)
        return files

    def commit(self, position: Position, metrics: dict[str, float], published: FileFacts | None = None) -> Place:
        """Upload the manifest (rank 0, after every rank has published)."""
        assert published is not None, "what was uploaded has to be listed"
        path = self._path_of(position.step)
        write_bytes(path / MANIFEST, manifest_text(position, metrics, published).encode())
        self._forget()
        self._retain()
        return path

    def best(self) -> Checkpoint | None:
        """As on local disk, but hashes are checked when :meth:`file` or :meth:`fetch` have the bytes here."""
        path = self._best_path()
        if path is None:
            return None
        checkpoint, files = read_manifest(path)
        check_names(path, self._present(path), files)
        return checkpoint

    def verify(self, path: Place) -> Checkpoint:
        """Download a checkpoint and check it; the verified copy stays until another one is asked for."""
        checkpoint, files = read_manifest(path)
        if self._fetched is not None and self._fetched[0] == checkpoint:
            return checkpoint
        check_names(path, self._present(path), files)
        self._forget()
        local = Path(tempfile.mkdtemp(prefix="fetched-", dir=self.written_to))
        try:
            download({path / name: local / name for name in files})
            for name, facts in files.items():
                check_hash(local / name, facts, shown=path / name)
        except BaseException:
            shutil.rmtree(local, ignore_errors=True)
            raise
        self._fetched = checkpoint, local
        return checkpoint

    def fetch(self, checkpoint: Checkpoint) -> Path:
        self.verify(checkpoint.path)
        assert self._fetched is not None
        return self._fetched[1]

    @contextmanager
    def file(self, path: Place, name: str) -> Iterator[Path]:
        _, files = read_manifest(path)
        check_names(path, self._present(path), files)
        with tempfile.TemporaryDirectory(dir=self.written_to) as folder:
            local = Path(folder) / Path(name).name
            download({path / name: local})
            check_hash(local, files[name], shown=path / name)
            yield local

    def _path_of(self, step: int) -> UPath:
        return self._prefix / f"{PREFIX}{step:08d}"

    def _forget(self) -> None:
        if self._fetched is not None:
            shutil.rmtree(self._fetched[1], ignore_errors=True)
            self._fetched = None

    def _listing(self, path: UPath) -> list[tuple[str, ...]]:
        """Objects below, as the parts of their relative names."""
        root = path.path.rstrip("/") + "/"
        return [tuple(key.removeprefix(root).split("/")) for key in path.fs.find(path.path)]

    def _present(self, path: Place) -> set[str]:
        assert isinstance(path, UPath)
        return {"/".join(parts) for parts in self._listing(path)} - {MANIFEST}

    def _paths(self) -> list[Place]:
        return [self._prefix / name for name in self._names(committed=True)]

    def _names(self, committed: bool) -> list[str]:
        found: dict[str, bool] = {}
        for parts in self._listing(self._prefix):
            if len(parts) > 1 and parts[0].startswith(PREFIX):
                found[parts[0]] = found.get(parts[0], False) or parts[1:] == (MANIFEST,)
        return sorted(name for name, has_manifest in found.items() if has_manifest is committed)

    def _retain(self) -> None:
        super()._retain()
        newest = self.newest_step()
        for name in self._names(committed=False):
            # A crash's left-over. A later step's may be in the making by whoever has taken this run over.
            if name < f"{PREFIX}{newest:08d}":
                self._remove(self._prefix / name)

    def _remove(self, path: Place) -> None:
        """The manifest goes first: half removed is no checkpoint any more."""
        assert isinstance(path, UPath)
        keys = path.fs.find(path.path)
        manifest = (path / MANIFEST).path
        for some in ([key for key in keys if key == manifest], [key for key in keys if key != manifest]):
            if some:
                path.fs.rm(some)

    def __repr__(self) -> str:
        return f"RemoteCheckpointStore({display(self._prefix)})"
