"""How much of an interview a model reads: settings, and what follows from them by arithmetic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from moodscale.config import Config

Speech = Literal["participant", "interviewer", "everything"]


class ContextSettings(Config):
    """Either one window of ``budget_tokens``, or up to ``max_windows`` of ``window_tokens`` each.

    Long-context models read one window. Models with few positions (MiniLM: 512) read several, each for itself, whose
    vectors are pooled by learned attention.
    """

    budget_tokens: int | None = Field(None, ge=8)
    window_tokens: int | None = Field(None, ge=8)
    max_windows: int | None = Field(None, ge=1)
    choice: Literal["newest_first", "uniform"] = "newest_first"
    """Which turns, where not all fit: the newest without a gap, or turns spread evenly over the interview. Always
    whole turns in the order of time; a single turn that is longer than everything is cut."""

    @model_validator(mode="after")
    def _one_way(self) -> ContextSettings:
        if (self.window_tokens is None) != (self.max_windows is None):
            raise ValueError("window_tokens and max_windows go together: set both, or budget_tokens instead")
        if (self.budget_tokens is None) == (self.window_tokens is None):
            raise ValueError("set either budget_tokens, or window_tokens and max_windows")
        return self

    @property
    def has_windows(self) -> bool:
        """Whether an interview may have several windows."""
        return (self.max_windows or 1) > 1

    @property
    def per_window(self) -> int:
        """Positions of one window, special tokens and all."""
        return self.window_tokens or self.budget_tokens or 0

    @property
    def max_tokens(self) -> int:
        """Positions of all windows, special tokens and all."""
        return self.per_window * (self.max_windows or 1)
