"""Clips → features, off the training step: decoding and log-mel run ahead of the loop, in the order of its plan.

``LocalStream`` does it in threads of a plain process; ``RayStream`` hands it to Ray Data, whose tasks run on any node
with a free CPU. Both read windows of files: no row ever carries a waveform.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from upath import UPath

from moodscale.prepare.audio import read_clip
from moodscale.ray_runtime import keep_quiet
from moodscale.recipes.base import Features, Row
from moodscale.schema import CorpusError
from moodscale.storage import Place, is_local, local_path, location, writing

Array = np.ndarray[Any, Any]


class Stream(Protocol):
    """Yields one feature array a row, in the rows' order."""

    def features(self, rows: pa.Table) -> Iterator[Array]: ...


@dataclass(frozen=True)
class ClipLoader:
    """One clip's features: decoded, transformed, and kept on disk where a cache is named. Picklable."""

    roots: Mapping[str, Place]
    transform: Features
    cache: str | None = None
    """Directory or URI of cached features; fp16, so the first epoch rounds as the later ones do."""

    def __call__(self, row: Row) -> Array:
        if self.cache is None:
            return self._computed(row)
        path = self._cached_path(row)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
            cached: Array = np.load(io.BytesIO(stream.read()), allow_pickle=False)
            return cached.astype(np.float32)
        features = self._computed(row).astype(np.float16)
        _keep(path, features)
        return features.astype(np.float32)

    def _computed(self, row: Row) -> Array:
        waveform = read_clip(self.roots, row)
        try:
            return self.transform(waveform)
        except CorpusError as error:
            raise CorpusError(f"clip {row['clip_id']}: {error}") from None

    def _cached_path(self, row: Row) -> UPath:
        assert self.cache is not None
        digest = hashlib.sha256(str(row["clip_id"]).encode()).hexdigest()
        return location(self.cache) / digest[:2] / f"{digest}.npy"


def _keep(path: UPath, features: Array) -> None:
    if not is_local(path):
        with writing(path) as stream:
            np.save(stream, features, allow_pickle=False)
        return
    # Not through writing(): waiting for the disk with every clip costs more than a lost one, which is made again.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = local_path(path).with_suffix(f".{os.getpid()}.partial.npy")
    np.save(partial, features, allow_pickle=False)
    partial.replace(local_path(path))


class LocalStream:
    """Threads in this process: decoding and FFT release the interpreter's lock."""

    def __init__(self, loader: ClipLoader, prefetch: int = 8, num_threads: int = 2) -> None:
        self.loader = loader
        self.prefetch = prefetch
        self.num_threads = num_threads

    def features(self, rows: pa.Table) -> Iterator[Array]:
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="clips") as pool:
            pending: deque[Future[Array]] = deque()
            for row in _rows(rows):
                pending.append(pool.submit(self.loader, row))
                if len(pending) >= self.prefetch:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


class RayStream:
    """Ray Data tasks of some clips each, a bounded number ahead of the loop, order preserved.

    A clip takes some 5 ms to decode and transform, a task several times that to schedule: 32 clips a task (16 MB of
    log-mel) give about twice the throughput of eight.
    """

    def __init__(self, loader: ClipLoader, cpus: float, clips_per_task: int = 32, prefetch_batches: int = 4) -> None:
        self.loader = loader
        self.cpus = cpus
        self.clips_per_task = clips_per_task
        self.prefetch_batches = prefetch_batches

    def features(self, rows: pa.Table) -> Iterator[Array]:
        import ray.data

        if len(rows) == 0:
            return
        numbered = rows.append_column("position", pa.array(range(len(rows)), pa.int64()))
        blocks = [numbered.slice(i, self.clips_per_task) for i in range(0, len(rows), self.clips_per_task)]
        dataset = ray.data.from_arrow(blocks)
        options = dataset.context.execution_options
        options.preserve_order = True
        # This rank's share of the CPUs kept for data: without a limit every rank would claim all of them.
        options.resource_limits = options.resource_limits.copy(cpu=max(1.0, self.cpus))
        keep_quiet(dataset.context)
        decoded = dataset.map_batches(
            decode_block,
            fn_kwargs={"loader": self.loader},
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=1,
            memory=512 * 1024**2,
        )
        expected = 0
        for block in decoded.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=self.prefetch_batches
        ):
            for position, rank, data in zip(
                block["position"].to_pylist(), block["shape"].to_pylist(), block["features"], strict=True
            ):
                if position != expected:
                    raise RuntimeError(f"clip {position} arrived where {expected} was due: order was lost")
                expected += 1
                yield np.frombuffer(data.as_buffer(), dtype=np.float32).reshape(rank)
        if expected != len(rows):
            raise RuntimeError(f"the data stage gave {expected} of {len(rows)} clips")


def decode_block(block: pa.Table, loader: ClipLoader) -> pa.Table:
    """A block of numbered clip rows → their positions, feature shapes and features (fp32 bytes)."""
    import torch

    torch.set_num_threads(1)  # one task, one CPU; also keeps the FFT's bits independent of the machine's load
    arrays = [np.ascontiguousarray(loader(row), dtype=np.float32) for row in _rows(block)]
    return pa.table(
        {
            "position": block["position"],
            "shape": pa.array([list(array.shape) for array in arrays], pa.list_(pa.int32())),
            "features": pa.array([array.tobytes() for array in arrays], pa.large_binary()),
        }
    )


def _rows(table: pa.Table) -> Iterator[Row]:
    for batch in table.to_batches(max_chunksize=64):
        yield from batch.to_pylist()
