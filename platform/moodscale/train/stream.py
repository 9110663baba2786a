"""Rows → features, off the training step: decoding, log-mel and tokenising run ahead of the loop, in its plan's order.

``LocalStream`` does it in threads of a plain process; ``RayStream`` hands it to Ray Data, whose tasks run on any node
with a free CPU. Both read windows of files: no row ever carries a waveform.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import pyarrow as pa

from moodscale.ray_runtime import keep_quiet
from moodscale.recipes.base import Array, Loader, Row


class Stream(Protocol):
    """Yields one feature array a row, in the rows' order."""

    def features(self, rows: pa.Table) -> Iterator[Array]: ...


class LocalStream:
    """Threads in this process: decoding and FFT release the interpreter's lock."""

    def __init__(self, loader: Loader, prefetch: int = 8, num_threads: int = 2) -> None:
        self.loader = loader
        self.prefetch = prefetch
        self.num_threads = num_threads

    def features(self, rows: pa.Table) -> Iterator[Array]:
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="features") as pool:
            pending: deque[Future[Array]] = deque()
            for row in iterate_rows(rows):
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

    def __init__(self, loader: Loader, cpus: float, rows_per_task: int = 32, prefetch_batches: int = 4) -> None:
        self.loader = loader
        self.cpus = cpus
        self.rows_per_task = rows_per_task
        self.prefetch_batches = prefetch_batches

    def features(self, rows: pa.Table) -> Iterator[Array]:
        import ray.data

        if len(rows) == 0:
            return
        numbered = rows.append_column("position", pa.array(range(len(rows)), pa.int64()))
        blocks = [numbered.slice(i, self.rows_per_task) for i in range(0, len(rows), self.rows_per_task)]
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
            for position, array in zip(block["position"].to_pylist(), unpack_block(block), strict=True):
                if position != expected:
                    raise RuntimeError(f"row {position} arrived where {expected} was due: order was lost")
                expected += 1
                yield array
        if expected != len(rows):
            raise RuntimeError(f"the data stage gave {expected} of {len(rows)} rows")


def decode_block(block: pa.Table, loader: Loader) -> pa.Table:
    """A block of numbered rows → their positions, and their features as type, shape and bytes."""
    import torch

    torch.set_num_threads(1)  # one task, one CPU; also keeps the FFT's bits independent of the machine's load
    arrays = [np.ascontiguousarray(loader(row)) for row in iterate_rows(block)]
    return pa.table(
        {
            "position": block["position"],
            "dtype": pa.array([array.dtype.str for array in arrays], pa.string()),
            "shape": pa.array([list(array.shape) for array in arrays], pa.list_(pa.int32())),
            "features": pa.array([array.tobytes() for array in arrays], pa.large_binary()),
        }
    )


def unpack_block(block: pa.Table) -> list[Array]:
    """The arrays of :func:`decode_block`, without a copy."""
    return [
        np.frombuffer(data.as_buffer(), dtype=np.dtype(dtype)).reshape(shape)
        for dtype, shape, data in zip(
            block["dtype"].to_pylist(), block["shape"].to_pylist(), block["features"], strict=True
        )
    ]


def iterate_rows(table: pa.Table) -> Iterator[Row]:
    """A table's rows as plain Python values, a few at a time."""
    for batch in table.to_batches(max_chunksize=64):
        yield from batch.to_pylist()
