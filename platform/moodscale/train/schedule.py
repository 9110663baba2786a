"""Learning rates as a function of the step alone: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from moodscale.train.config import OptimConfig, PhaseConfig


def learning_rate(phase: PhaseConfig, optim: OptimConfig, step: int, total_steps: int) -> float:
    """Rate of the phase's optimizer step ``step`` (0 to ``total_steps`` - 1): warm-up, then the phase's decay to 0."""
    peak = phase.lr if phase.lr is not None else optim.lr
    warmup = round(phase.warmup_fraction * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if phase.schedule == "linear":
        return peak * (1 - progress)
    if phase.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * progress))
    return peak
