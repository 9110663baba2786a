"""The same function over many tasks, in as many processes as pay off."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def choose_num_workers(asked: int, total_s: float) -> int:
    """Processes to use: what was asked for, else one a core as long as each has enough to do.

    Args:
        asked: 0 leaves it to us.
        total_s: audio to make. A process takes about as long to start as ten minutes of audio take to make.
    """
    if asked:
        return asked
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells which cores are ours
        cores = os.cpu_count() or 1
    return max(1, min(cores, round(total_s / 600)))


def run_all(function: Callable[[T], R], tasks: Sequence[T], num_workers: int) -> Iterator[R]:
    """Results in the tasks' order. Without a second worker everything happens in this process.

    Args:
        function: defined at a module's top level.
    Raises:
        RuntimeError: a worker process died.
    """
    if num_workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    # spawn: a forked copy of a process with threads (Ray's, torch's) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_workers, len(tasks)), mp_context=context) as executor:
        try:
            yield from executor.map(function, tasks)
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker process of the speech synthesis died (out of memory, or killed); run again with fewer workers"
            ) from None
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
