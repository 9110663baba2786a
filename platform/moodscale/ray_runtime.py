"""Ray as every stage uses it: the cluster that is there or a local one, and Ray Data without its chatter."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ray_running(num_cpus: int | None = None) -> Iterator[None]:
    """Join the cluster of ``RAY_ADDRESS``, or start a local one; what was started or joined here is left at the end.

    Args:
        num_cpus: of a local cluster; ``None`` for as many as the machine has.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    join_or_start(num_cpus, log_to_driver=False, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def join_or_start(num_cpus: int | None, *, log_to_driver: bool, **local: Any) -> None:
    """Join the cluster of ``RAY_ADDRESS`` (a submitted job has it), or start a local one with the options ``local``."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=log_to_driver)
    else:
        ray.init(address="local", num_cpus=num_cpus, log_to_driver=log_to_driver, **local)


def keep_quiet(context: Any) -> None:
    """No lines for every start and end of a data stage: an epoch has several of them, and progress has its own line.

    Ray Data's own file in the session directory goes on holding everything, and so does a handler of anybody else's.
    """
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
            handler.setLevel(logging.WARNING)
            handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Progress bars disabled")  # we have just done that
