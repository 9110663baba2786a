"""Progress a person can follow: one line every few seconds, through logging."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

_logger = logging.getLogger(__name__)

RATE_WINDOW_S = 60.0


class Progress:
    """A callback ``(step, total_steps, metrics)``: steps, rate, time left, loss, validation metrics.

    The rate counts only what this process did, over about the last minute, so a resumed run does not look fast.
    Validation metrics stay on the line until newer ones come.

    Args:
        every_s: at least this long between lines; the first step, the last, and new validation metrics always show.
        every_steps: also write a line each so many steps.
        shown: names to show; by default those that end in ``loss`` and those that begin with ``val``.
    """

    def __init__(
        self,
        every_s: float = 5.0,
        every_steps: int | None = None,
        shown: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s = every_s
        self._every_steps = every_steps
        self._shown = shown
        self._clock = clock
        self._latest: dict[str, float] = {}
        self._past: deque[tuple[float, int]] = deque()
        self._last_line: tuple[float, int] | None = None

    def __call__(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        now = self._clock()
        fresh = {key: float(value) for key, value in metrics.items() if self._is_shown(key)}
        self._latest |= fresh
        self._past.append((now, step))
        while len(self._past) > 2 and self._past[1][0] < now - RATE_WINDOW_S:
            self._past.popleft()
        if self._is_due(now, step, total_steps, any(key.startswith("val") for key in fresh)):
            self._last_line = (now, step)
            _logger.info("%s", self._line(step, total_steps))

    def _is_shown(self, key: str) -> bool:
        if self._shown is not None:
            return key in self._shown
        return key.endswith("loss") or key.startswith("val")

    def _is_due(self, now: float, step: int, total_steps: int, validated: bool) -> bool:
        if self._last_line is None or step >= total_steps or validated:
            return True
        if self._every_steps is not None and step - self._last_line[1] >= self._every_steps:
            return True
        return now - self._last_line[0] >= self._every_s

    def _line(self, step: int, total_steps: int) -> str:
        parts = [f"step {step}/{total_steps} ({step / max(total_steps, 1):.0%})"]
        (then, first), (now, last) = self._past[0], self._past[-1]
        if now > then and last > first:
            rate = (last - first) / (now - then)
            parts.append(f"{rate:.2f} steps/s" if rate >= 0.1 else f"{1 / rate:.1f} s/step")
            if step < total_steps:
                parts.append(f"{format_duration((total_steps - step) / rate)} left")
        parts += [f"{key} {value:.4g}" for key, value in sorted(self._latest.items())]
        return " · ".join(parts)


def format_duration(seconds: float) -> str:
    """``9 s``, ``4 min 05 s``, ``2 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
