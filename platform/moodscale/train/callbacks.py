"""What the Ray Train controller says of its workers."""

from __future__ import annotations

import logging
from typing import Any

from ray.train import UserCallback

from moodscale.train.failures import describe

logger = logging.getLogger(__name__)


class SayWhy(UserCallback):  # type: ignore[misc]
    """One line for each failure of the worker group. Ray's own is a traceback a rank, and only in its files here."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        logger.warning("the worker group failed: %s", describe(worker_exceptions))
