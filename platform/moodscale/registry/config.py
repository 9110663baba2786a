"""Settings of registration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moodscale.config import Config

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"


class ToleranceConfig(Config):
    """How far a reloaded model's scores may lie from the evaluated ones, by the precision it runs in: of probabilities
    as they are, of totals as a share of the questionnaire's range.

    Not zero, because a unit's last bits depend on which others share its batch.
    """

    fp32: float = Field(1e-4, gt=0, lt=1)
    bf16: float = Field(2e-2, gt=0, lt=1)
    fp16: float = Field(5e-3, gt=0, lt=1)

    def of(self, precision: str) -> float:
        return float(getattr(self, precision))


class RegistryConfig(Config):
    """Where a trained model goes, and how closely it is checked before."""

    name: str = Field("moodscale", pattern=NAME_PATTERN)
    """The registered model that gets the new version."""
    alias: str = Field("candidate", pattern=ALIAS_PATTERN)
    """Set on the new version. Promotion to other aliases is another step, with its own gates."""
    compare_clips: int = Field(16, ge=1)
    """Validation units (clips, interviews) that the reloaded model scores again; evenly spaced over the order of their
    scores."""
    calibration: Literal["none", "linear", "isotonic"] = "linear"
    """Of totals: fitted on validation, and left out, with a note, where people are too few for it."""
    interval_level: float = Field(0.9, ge=0.5, lt=1)
    """Of totals: the share of people whose own total the interval ``low`` to ``high`` should hold."""
    tolerance: ToleranceConfig = ToleranceConfig()
    reload_timeout_s: float = Field(1800.0, gt=0)
    """How long the fresh process may take to load the model and score those units."""
