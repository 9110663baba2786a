"""Settings of registration."""

from __future__ import annotations

from pydantic import Field

from moodscale.config import Config

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"


class ToleranceConfig(Config):
    """How far a reloaded model's probabilities may lie from the evaluated ones, by the precision it runs in.

    Not zero, because a clip's last bits depend on which other clips share its batch.
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
    """Validation clips that the reloaded model scores again; evenly spaced over the order of their scores."""
    tolerance: ToleranceConfig = ToleranceConfig()
    reload_timeout_s: float = Field(1800.0, gt=0)
    """How long the fresh process may take to load the model and score those clips."""
